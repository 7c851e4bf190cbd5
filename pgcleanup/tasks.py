"""A drain as a task, for the queue that a project has already.

`drain_deletions` is a task of Django's own framework: `django.tasks` from Django 6.0 on, else its backport
django-tasks (extra `tasks`). `drain_files` is the plain function behind it, for Celery and any other queue;
it needs none of the two.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any

from django.db import DEFAULT_DB_ALIAS

from pgcleanup.drain import drain

# Imported by name: which of them is there depends on the Django version.
_FRAMEWORKS = ("django.tasks", "django_tasks")

if TYPE_CHECKING:
    drain_deletions: Any


def drain_files(
    using: str = DEFAULT_DB_ALIAS, limit: int | None = None, seconds: float | None = None, wait: float = 0
) -> dict[str, Any]:
    """Drain once. Any number of these may run at once: each takes names that no other has.

    Args:
        using: the database alias.
        limit: deal with at most so many names.
        seconds: end after about so long, between two files; what is left is for the next one.
        wait: seconds to wait for open transactions that hold names back.

    Returns:
        What a queue can store as JSON: `counts` by outcome, `waiting` by reason, `bytes_deleted`, `seconds`,
        `stopped` (by `seconds`), `problems`, and the `exit_code` that the command would have ended with.

    Raises:
        DrainRefused: it did not start, and says why and what to do; inside a transaction, for example.
        ConnectionLost: the database went away.
    """
    end = None if seconds is None else time.monotonic() + seconds
    report = drain(
        using=using,
        limit=limit,
        wait=timedelta(seconds=wait),
        stop=None if end is None else lambda: time.monotonic() >= end,
    )
    return {
        "counts": {outcome.value: count for outcome, count in report.counts.items()},
        "waiting": dict(report.waiting),
        "bytes_deleted": report.bytes_deleted,
        "seconds": round(report.seconds, 3),
        "stopped": report.stopped,
        "problems": [*report.refused, *report.problems, *report.uncovered],
        "exit_code": report.exit_code,
    }


def _find_framework() -> Callable[..., Any] | None:
    for name in _FRAMEWORKS:
        try:
            return import_module(name).task  # type: ignore[no-any-return]
        except ModuleNotFoundError as error:
            # What is missing inside of it is an error of the installation, to be seen.
            if error.name != name:
                raise
    return None


if (_task := _find_framework()) is not None:
    # Of this name: a worker looks the task up by the module and the name of its function.
    @_task
    def drain_deletions(
        using: str = DEFAULT_DB_ALIAS, limit: int | None = None, seconds: float | None = None, wait: float = 0
    ) -> dict[str, Any]:
        """Drain once, as `drain_files` does."""
        return drain_files(using, limit, seconds, wait)

else:

    def __getattr__(name: str) -> Any:
        if name == "drain_deletions":
            raise ImportError(
                "pgcleanup.tasks.drain_deletions needs Django 6.0, or its backport: "
                'pip install "django-pgcleanup[tasks]". For Celery and other queues: pgcleanup.tasks.drain_files'
            )
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
