"""Beside nothing at all and beside django-cleanup: loading, saving and deleting 100,000 rows, files included."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.figures import Figure, Size, ratio
from benchmarks.settings import APPS
from benchmarks.workers import Worker, worker_with

# Times that are to differ by three in a hundred at most need more of them than others.
TURNS = 5


def measure(size: Size) -> Iterator[Figure]:
    """Compare."""
    with ExitStack() as stack:
        workers = {apps: stack.enter_context(worker_with(apps)) for apps in APPS}
        yield from _loading(workers, size)
        yield from _saving(workers, size)
        yield from _deleting(workers, size)
        ours = workers["pgcleanup"]
        yield Figure("signals of a user's model that pgcleanup listens to", ours.do("receivers"), "{:.0f}", at_most=0)
        yield Figure("statements of a cascade over 100 rows", ours.do("delete_statements"), "{:.0f}", at_most=2)


def _loading(workers: dict[str, Worker], size: Size) -> Iterator[Figure]:
    for worker in workers.values():
        worker.do("fill", size.rows, False)
        worker.do("load")
    yield from _compared(f"loading {size.rows:,} rows", workers, size, "load")


def _saving(workers: dict[str, Worker], size: Size) -> Iterator[Figure]:
    yield from _compared("saving without a change of the file", workers, size, "save", 1_000)


def _compared(what: str, workers: dict[str, Worker], size: Size, task: str, *arguments: int) -> Iterator[Figure]:
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(size.repeats * TURNS):
        for apps, worker in workers.items():
            times[apps].append(worker.do(task, *arguments))
    yield Figure(f"{what}: pgcleanup / nothing installed", ratio(times["pgcleanup"], times["nothing"]), at_most=1.03)
    yield Figure("  django-cleanup / nothing installed", ratio(times["django-cleanup"], times["nothing"]))


def _deleting(workers: dict[str, Worker], size: Size) -> Iterator[Figure]:
    theirs, ours, drains = [], [], []
    for _ in range(size.repeats):
        workers["django-cleanup"].do("fill", size.rows, True)
        theirs.append(workers["django-cleanup"].do("delete"))
        workers["pgcleanup"].do("fill", size.rows, True)
        ours.append(workers["pgcleanup"].do("delete"))
        seconds, _, counts = workers["pgcleanup"].do("drain")
        if counts != {"deleted": size.rows}:
            raise SystemExit(f"the drain did something else: {counts}")
        drains.append(ours[-1] + seconds)
    what = f"QuerySet.delete() of {size.rows:,} rows"
    yield Figure(f"{what}, until it returns: django-cleanup / pgcleanup", ratio(theirs, ours), at_least=15)
    yield Figure("  until the last file is gone: django-cleanup / pgcleanup", ratio(theirs, drains), at_least=3)
