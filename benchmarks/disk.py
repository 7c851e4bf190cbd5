"""Files on this machine's disk, where one costs what it costs. All other parts have theirs in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median

from benchmarks.comparing import delete, drain
from benchmarks.figures import Figure, Size, ratio
from benchmarks.workers import worker_with


def measure(size: Size) -> Iterator[Figure]:
    """Compare."""
    rows = size.on_disk
    theirs, deleted, gone, drains, loops = [], [], [], [], []
    with ExitStack() as stack:
        media = stack.enter_context(tempfile.TemporaryDirectory(prefix="pgcleanup-bench-"))
        django_cleanup, ours = (
            stack.enter_context(worker_with(apps, media)) for apps in ("django-cleanup", "pgcleanup")
        )
        for _ in range(size.repeats):
            loops.append(ours.do("remove", rows))
            theirs.append(delete(django_cleanup, rows))
            deleted.append(delete(ours, rows))
            drains.append(drain(ours, rows))
            gone.append(deleted[-1] + drains[-1])
    yield Figure(f"drain of {rows:,} small files on disk / a bare os.remove loop", ratio(drains, loops), at_most=3)
    yield Figure("  files a second", rows / median(drains), "{:,.0f}")
    yield Figure("  os.remove loop, files a second", rows / median(loops), "{:,.0f}")
    what = f"QuerySet.delete() of {rows:,} rows with files on disk, until it returns"
    yield Figure(f"{what}: django-cleanup / pgcleanup", ratio(theirs, deleted), at_least=15)
    yield Figure("  until the last file is gone: django-cleanup / pgcleanup", ratio(theirs, gone), at_least=3)
