"""Beside nothing at all and beside django-cleanup: loading, saving and deleting 100,000 rows, files included."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median

from benchmarks.figures import Figure, Size, ratio
from benchmarks.settings import APPS
from benchmarks.workers import Worker, worker_with

# One process loads rows faster than its twin by some hundredths, for as long as both live: it depends on where their
# memory lies. Differences as small as these take several processes, and the fastest of many short turns of each.
LOADS, TURNS, SAVES = 7, 40, 50


def measure(size: Size) -> Iterator[Figure]:
    """Compare."""
    yield from _without_a_change(size)
    with ExitStack() as stack:
        workers = {apps: stack.enter_context(worker_with(apps)) for apps in APPS}
        yield from _deleting(workers, size)
        ours = workers["pgcleanup"]
        yield Figure("signals of a user's model that pgcleanup listens to", ours.do("receivers"), "{:.0f}", at_most=0)
        # A fast delete of the children stays one. Whoever listens to signals makes Django load them.
        more = ours.do("delete_statements") - workers["nothing"].do("delete_statements")
        yield Figure(
            "statements of a cascade over 100 rows, more than with nothing installed", more, "{:.0f}", at_most=0
        )


def _without_a_change(size: Size) -> Iterator[Figure]:
    rows = min(size.rows, 20_000)
    loads, saves = [], []
    for _ in range(size.processes):
        with ExitStack() as stack:
            workers = {apps: stack.enter_context(worker_with(apps)) for apps in APPS}
            for worker in workers.values():
                worker.do("fill", rows, False)
            loads.append(_fastest(workers, LOADS, "load"))
            saves.append(_fastest(workers, TURNS, "save", SAVES))
    for what, times in ((f"loading {rows:,} rows", loads), ("saving without a change of the file", saves)):
        nothing, theirs, ours = (median(found[apps] for found in times) for apps in APPS)
        yield Figure(f"{what}: pgcleanup / nothing installed", ours / nothing, at_most=1.03)
        yield Figure("  django-cleanup / nothing installed", theirs / nothing)


def _fastest(workers: dict[str, Worker], turns: int, task: str, *arguments: int) -> dict[str, float]:
    times: dict[str, list[float]] = defaultdict(list)
    order = list(workers)
    for _ in range(turns):
        order.append(order.pop(0))  # who comes first has the memory's caches for itself
        for apps in order:
            times[apps].append(workers[apps].do(task, *arguments))
    return {apps: min(seconds) for apps, seconds in times.items()}


def _deleting(workers: dict[str, Worker], size: Size) -> Iterator[Figure]:
    theirs, ours, gone = [], [], []
    for _ in range(size.repeats):
        theirs.append(delete(workers["django-cleanup"], size.rows))
        ours.append(delete(workers["pgcleanup"], size.rows))
        gone.append(ours[-1] + drain(workers["pgcleanup"], size.rows))
    what = f"QuerySet.delete() of {size.rows:,} rows with files in memory"
    yield Figure(f"{what}, until it returns: django-cleanup / pgcleanup", ratio(theirs, ours), at_least=15)
    yield Figure("  until the last file is gone: django-cleanup / pgcleanup", ratio(theirs, gone), at_least=3)


def delete(worker: Worker, rows: int) -> float:
    """Return how long it takes to delete rows, with their files under django-cleanup."""
    worker.do("fill", rows, True)
    return float(worker.do("delete"))


def drain(worker: Worker, rows: int) -> float:
    """Return how long it takes to delete the files."""
    seconds, _, counts = worker.do("drain")
    if counts != {"deleted": rows}:
        raise SystemExit(f"the drain did something else: {counts}")
    return float(seconds)
