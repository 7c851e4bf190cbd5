"""Drain the ledger: delete the files whose names nothing refers to any more.

`run` is one drain from end to end, `batch` the transaction at its heart, `decide` its decisions, `dispose`
what happens to a file, `deliver` its signals, `forecast` the dry run, `closing` what is left afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from django.db import DEFAULT_DB_ALIAS

from pgcleanup.conf import LONGEST
from pgcleanup.drain.report import DrainReport, FileResult, Progress
from pgcleanup.drain.run import Run

__all__ = ["DrainReport", "FileResult", "Progress", "Run", "drain"]


def drain(
    *,
    using: str = DEFAULT_DB_ALIAS,
    limit: int | None = None,
    grace_period: timedelta | None = None,
    wait: timedelta = timedelta(0),
    dry_run: bool = False,
    accept_absent: bool = False,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> DrainReport:
    """Delete every file that is due, and report what was done and what is left.

    Any number of drains may run at once. Each batch is committed by itself: what a crash undoes is the
    bookkeeping of one batch, which the next drain makes good.

    Args:
        using: the database whose ledger to drain.
        limit: deal with at most so many names.
        grace_period: instead of PGCLEANUP_GRACE_PERIOD.
        wait: how long to wait for open transactions that hold names back.
        dry_run: change nothing; `progress` hears what would become of each name, due or not.
        accept_absent: believe a storage that suddenly has none of its files.
        progress: called with each `FileResult` once its batch is committed.
        stop: asked between two files; once it returns True, what was done is settled, and the drain ends early.

    Raises:
        DrainRefused: it did not start, and says why and what to do.
        ConnectionLost: the database went away in mid-drain.
        TypeError: a duration is no timedelta.
        ValueError: a duration is negative or longer than 100 years, or the limit is below 1.
    """
    for name, value in (("grace_period", grace_period), ("wait", wait)):
        if not isinstance(value, timedelta | None):
            raise TypeError(f"{name} is a datetime.timedelta, for example timedelta(minutes=10), not {value!r}")
        if value is not None and not timedelta(0) <= value <= LONGEST:
            raise ValueError(f"{name} is a duration from 0 to 100 years, not {value!r}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    run = Run(
        using,
        limit=limit,
        grace=grace_period,
        wait=wait,
        dry_run=dry_run,
        accept_absent=accept_absent,
        progress=progress,
        stop=stop,
    )
    for _ in run.steps():
        pass
    return run.report()
