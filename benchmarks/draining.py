"""A drain of many small files, in memory, beside a bare os.remove loop over them; two drains; and what they take."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from statistics import median

from benchmarks.figures import Figure, Size, ratio
from benchmarks.files import empty_ledger, make_files, record, remove_files, vacuum
from benchmarks.workers import workers

# Fewer are a few batches, which two drains cannot share evenly.
FILES = 60_000
# Of a drain's work, by the steps that it consists of.
PARTS = {
    "stamp": ["stamped"],
    "claim": ["claimed", "found nothing prepared"],
    "check": ["checked elsewhere", "checked"],
    "look": ["looked"],
    "delete": ["deleted"],
    "settle": ["settled", "committed"],
}


def measure(size: Size) -> Iterator[Figure]:
    """Compare."""
    files = max(size.rows, FILES)
    loops, ones, twos = [], [], []
    for _ in range(size.repeats):
        loops.append(remove_files(make_files("small", files)))
        ones.append(_drained(files, drains=1))
        twos.append(_drained(files, drains=2))
    yield Figure(f"drain of {files:,} small files in memory / a bare os.remove loop", ratio(ones, loops), at_most=3)
    yield Figure("  files a second", files / median(ones), "{:,.0f}")
    yield Figure("  os.remove loop, files a second", files / median(loops), "{:,.0f}")
    by_step = _by_step(files)
    shares = ", ".join(f"{seconds / files * 1e6:.0f} {part}" for part, seconds in by_step.items())
    yield Figure("  of which, in µs a file", sum(by_step.values()) / files * 1e6, "{:.0f}: " + shares)
    cores = os.cpu_count()
    yield Figure(f"two drains / one drain, files a second, {cores} cores", ratio(ones, twos), at_least=1.6)
    # What could be gained by working on one batch while another one is claimed, without a second process.
    in_threads = median(ones) / _drained_in_threads(files)
    yield Figure("  two drains in two threads of a process / one drain, files a second", in_threads)
    few, many = 10_000, 10 * size.rows
    memory = _peak(many) - _peak(few)
    yield Figure(f"peak memory of a drain of {many:,} above one of {few:,}", memory, "{:,.1f} MB", at_most=20)


def _drained(files: int, *, drains: int) -> float:
    """Return how long so many drains take together."""
    _ready(files)
    with workers(drains) as made:
        # A process that has drained once is what a service is; and what it imports is not of the drain.
        for worker in made:
            worker.do("drain", 1)
        began = time.perf_counter()
        for worker in made:
            worker.start("drain")
        results = [worker.result() for worker in made]
        seconds = time.perf_counter() - began
    _expect(files - drains, [counts for _, _, counts in results])
    return seconds


def _drained_in_threads(files: int) -> float:
    """Return how long two drains take that share a process."""
    _ready(files)
    with workers() as (worker,):
        worker.do("drain", 1)
        seconds, counts = worker.do("drain_in_threads", 2)
    _expect(files - 1, [counts])
    return float(seconds)


def _by_step(files: int) -> dict[str, float]:
    """Return how long one drain is at each part of its work."""
    _ready(1)
    with workers() as (worker,):
        worker.do("drain")
        _ready(files)
        by_step = worker.do("drain_by_step")
    return {part: sum(by_step.pop(step, 0) for step in steps) for part, steps in PARTS.items()} | {
        "other": sum(by_step.values())
    }


def _peak(files: int) -> float:
    """Return the peak of the memory that a process takes which drains so many files, in MB."""
    _ready(files)
    with workers() as (worker,):
        _, peak, counts = worker.do("drain")
    _expect(files, [counts])
    return float(peak)


def _ready(files: int) -> None:
    make_files("small", files)
    empty_ledger()
    record("small", files)
    vacuum()


def _expect(files: int, counts: list[dict[str, int]]) -> None:
    if {name for count in counts for name in count} != {"deleted"} or sum(c["deleted"] for c in counts) != files:
        raise SystemExit(f"{files:,} files were to be deleted, and this is what became of them: {counts}")
