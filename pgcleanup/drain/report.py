"""What a drain did and what is left: the numbers, and the words behind them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from pgcleanup.models import Outcome


class FileResult(NamedTuple):
    """What became of one name, as told to `progress` while a drain runs.

    Exactly one of `outcome` and `waiting` is set. In a dry run it is what would become of it.
    """

    source: str
    name: str
    outcome: Outcome | None = None
    waiting: str | None = None
    detail: str = ""
    bytes: int = 0
    due_at: datetime | None = None
    pending_seconds: float | None = None
    """How long it was pending, of a name that a drain settled."""


Progress = Callable[[FileResult], None]


@dataclass(frozen=True, slots=True)
class Holder:
    """A transaction that holds names back beyond their grace period."""

    pid: int | None
    user: str | None
    application: str | None
    at_least: timedelta
    """It has been open for at least so long, as far as this role can tell; 0 where it cannot."""


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Names that failed with one error."""

    error: str
    names: int
    example: str
    retry_at: datetime | None
    failed: bool
    """No attempt is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainReport:
    """What a drain did. Counts are of names, not of entries."""

    counts: dict[Outcome, int]
    """Names by outcome; an outcome that did not occur is missing."""
    waiting: dict[str, int]
    """Names still in the ledger by the reason they wait for: grace_period, transaction, retrying, failed,
    upload_window, other_entry, scan; `due` where a limit or an error ended the run before them, and
    `unresolved` where no installed model has their source any more."""
    bytes_deleted: int
    seconds: float
    waiting_complete: bool = True
    """False where the ledger was too large to count all that waits: then each number is one of entries, and too low."""
    grace_period: timedelta = timedelta(0)
    """The one that this run went by."""
    dry_run: bool = False
    deletes: bool = True
    """False where `counts` and `bytes_deleted` are what would be: a dry run, or PGCLEANUP_DELETE_FILES is False."""
    stopped: bool = False
    """It was told to stop before its end, and did. Nothing is lost: the next drain goes on."""
    oldest_pending: timedelta | None = None
    """The one number: how long the oldest name is past its grace period. None where nothing is pending."""
    next_due: datetime | None = None
    first_names: tuple[tuple[str, datetime], ...] = ()
    """Some of the names in their grace period, with the time they are due at the earliest."""
    holders: tuple[Holder, ...] = ()
    prepared: tuple[str, ...] = ()
    """Prepared transactions that hold everything back."""
    errors: tuple[ErrorGroup, ...] = ()
    problems: tuple[str, ...] = ()
    """What went wrong besides single files, a sentence each."""
    refused: tuple[str, ...] = ()
    """Storages whose files were left alone because this process and the database disagree."""
    uncovered: tuple[str, ...] = ()
    """Tables whose names are not recorded as they should be."""
    unresolved: tuple[str, ...] = ()
    """Sources in the ledger that no installed model has any more."""
    scans: tuple[str, ...] = ()
    """Columns without an index that names wait for company for."""
    columns: int = 0
    tables: int = 0
    first_drain: bool = False
    """No drain has run on this database before."""

    @property
    def failed(self) -> bool:
        """Whether anything needs a look: exit code 1."""
        failures = self.counts.get(Outcome.POSTPONED, 0) + self.counts.get(Outcome.EXHAUSTED, 0)
        return bool(failures or self.problems or self.uncovered or self.waiting.get("failed"))

    @property
    def exit_code(self) -> int:
        """Return what the command ends with: 3 refused, 1 failed, else 0."""
        return 3 if self.refused else 1 if self.failed else 0


@dataclass(slots=True)
class Tally:
    """The numbers while a drain runs."""

    progress: Progress | None = None
    counts: Counter[Outcome] = field(default_factory=Counter)
    waiting: Counter[str] = field(default_factory=Counter)
    young: int = 0
    """Names that are due, but whose files are within PGCLEANUP_UPLOAD_WINDOW."""
    bytes_deleted: int = 0
    problems: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    scans: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    @property
    def names(self) -> int:
        """How many names this run has dealt with."""
        return self.counts.total() + self.waiting.total()

    @property
    def settled(self) -> int:
        """How many of them are out of the ledger: a name that is to be tried again stays there."""
        return self.counts.total() - self.counts[Outcome.POSTPONED] - self.counts[Outcome.EXHAUSTED]

    def add(self, result: FileResult) -> None:
        """Count one name and tell whoever listens."""
        if result.outcome is not None:
            self.counts[result.outcome] += 1
            self.bytes_deleted += result.bytes if result.outcome is Outcome.DELETED else 0
        elif result.waiting is not None:
            self.waiting[result.waiting] += 1
            self.young += result.waiting == "upload_window" and result.due_at is None
        if self.progress is not None:
            self.progress(result)

    def problem(self, sentence: str) -> None:
        """Note something that went wrong, once."""
        if sentence not in self.problems:
            self.problems.append(sentence)

    @property
    def seconds(self) -> float:
        """How long the run has taken."""
        return time.monotonic() - self.started
