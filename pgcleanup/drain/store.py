"""The storages of one run: how to work on each, and whether it works."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from pgcleanup.columns import FileColumns
from pgcleanup.drain.deliver import ReceiverError
from pgcleanup.ledger.claims import Claim
from pgcleanup.storage_keys import UNUSABLE, describe
from pgcleanup.storages import Adapter, Calls, LocalAdapter, adapter_for
from pgcleanup.storages.errors import is_forbidden

# So many failures in a row make a storage suspect; so many more deletions, in other folders, make sure.
SUSPICIOUS_FAILURES = 5
MORE_TO_BE_SURE = 3

# Looking at names and deleting their files takes about so long before it is asked whether the batch is over.
SECONDS_TOGETHER = 0.5

# Of a disk that can be written to nowhere.
_OF_THE_WHOLE_DISK = {errno.EROFS}


@dataclass(slots=True)
class Store:
    """One storage during a run."""

    key: str
    adapter: Adapter
    adapters: dict[str, Adapter] = field(default_factory=dict)
    """By source: classes of somebody's own may share a folder with Django's, and delete in their own way."""
    chosen: dict[tuple[str, tuple[str, ...]], Adapter] = field(default_factory=dict)
    """By the newest source and all that let a name go: found once for many names."""
    calls: Calls = field(default_factory=Calls)
    """Of all storages of the run."""
    in_a_row: Counter[str] = field(default_factory=Counter)
    """Failures since the last success of the same kind: what is read-only can be looked at, and not deleted from."""
    successes: Counter[str] = field(default_factory=Counter)
    """By what was asked of it."""
    suspect_at: int = 0
    """How many deletions had failed in a row when names from other folders were to come next."""
    sizes: dict[tuple[type[Adapter], bool], int] = field(default_factory=dict)
    """How many names its next look is about, by how long the last ones took; and whether receivers were told."""
    telling: str | None = None
    """The name whose receivers, or whose field's class, are at work at the moment."""
    down: str | None = None
    """Why it is left alone for the rest of the run."""

    @property
    def label(self) -> str:
        """Name the storage for people."""
        return describe(self.adapter.storage)

    def adapter_of(self, claim: Claim) -> Adapter:
        """Return the way to work on a name: where several columns let it go, one that does more comes first."""
        sources = claim.source, claim.sources
        if (chosen := self.chosen.get(sources)) is None:
            mine = [self.adapters.get(source, self.adapter) for source in (claim.source, *claim.sources)]
            chosen = next((adapter for adapter in mine if not isinstance(adapter, LocalAdapter)), mine[0])
            self.chosen[sources] = chosen
        return chosen

    def size(self, adapter: Adapter, *, told: bool) -> int:
        """Return how many names to look at, and then to delete, together."""
        return self.sizes.get((type(adapter), told), 1 if told else adapter.at_first)

    def adapt(self, adapter: Adapter, names: int, seconds: float, *, told: bool) -> None:
        """Let the next ones take about SECONDS_TOGETHER: a drain that is told to stop must not wait for long."""
        size = self.size(adapter, told=told)
        if names < size and seconds <= SECONDS_TOGETHER:
            return  # fewer than were allowed, and soon done: that tells nothing of more
        fitting = int(names * SECONDS_TOGETHER / max(seconds, 0.001))
        # Many calls at a time take no longer than a few.
        least = 1 if told else adapter.at_first
        self.sizes[type(adapter), told] = min(max(fitting, least), 4 * size, adapter.at_once)

    def delete(self, delete: Callable[[], None], name: str) -> None:
        """Call what deletes one file, under the eyes of the deadline."""
        self.calls.current = "delete", self.adapter.storage, name
        try:
            delete()
        finally:
            self.calls.current = None

    def answered(self, call: str) -> None:
        """Note that it works."""
        self.successes[call] += 1
        self.in_a_row[call] = 0
        self.suspect_at = 0 if call == "delete" else self.suspect_at

    def failed(self, call: str) -> None:
        """Note an error."""
        self.in_a_row[call] += 1
        self.calls.failed(call)

    @property
    def lets_nothing_be_deleted(self) -> bool:
        """Whether so many deletions failed in a row that it cannot be the fault of some names or one folder."""
        return bool(self.suspect_at) and self.in_a_row["delete"] >= self.suspect_at + MORE_TO_BE_SURE

    @property
    def is_suspect(self) -> bool:
        """Whether it fails at the moment, and a few more calls will tell if it is down."""
        undecided = max(self.suspect_at, SUSPICIOUS_FAILURES) + MORE_TO_BE_SURE
        return 0 < self.in_a_row["look"] < SUSPICIOUS_FAILURES + MORE_TO_BE_SURE or (
            0 < self.in_a_row["delete"] < undecided
        )

    def leave_alone(self, call: str, error: Exception) -> None:
        """It is down: call it no more in this run."""
        what = "lets no file be deleted" if call == "delete" else "does not answer"
        self.down = f"storage {self.label} {what}, and is left alone for now: {error_text(error)}"


def find_stores(columns: FileColumns, calls: Calls | None = None, *, threads: bool = True) -> dict[str, Store]:
    """Return the storages of the columns by their key. One that cannot be set up is left out; a check names it.

    Without `threads` each is used in this thread alone, as in the transaction of a test.
    """
    stores: dict[str, Store] = {}
    calls = calls or Calls()
    for column in columns.stored:
        key = column.storage_key
        if key is not None and not key.startswith(UNUSABLE):
            adapter = adapter_for(column.storage, calls, threads=threads)
            stores.setdefault(key, Store(key, adapter, calls=calls)).adapters[column.source] = adapter
    return stores


def is_of_the_whole_disk(error: Exception) -> bool:
    """Whether an error says by itself that no file of the storage can be deleted."""
    return isinstance(error, OSError) and error.errno in _OF_THE_WHOLE_DISK


def error_text(error: Exception) -> str:
    """Return an error as people read it, with a hint where we have one."""
    text = str(error) if isinstance(error, ReceiverError) else f"{type(error).__name__}: {error}"
    hint = " (is s3:ListBucket granted? Without it a missing key looks forbidden)" if is_forbidden(error) else ""
    return text + hint
