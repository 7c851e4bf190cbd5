"""What the batches of one run share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from pgcleanup.columns import FileColumn, FileColumns
from pgcleanup.drain.absence import Witnesses, call_witnesses
from pgcleanup.drain.deliver import deletes_by_itself, has_receivers
from pgcleanup.drain.elsewhere import Elsewhere
from pgcleanup.drain.permission import PauseWatch
from pgcleanup.drain.report import Tally
from pgcleanup.drain.store import Store
from pgcleanup.ledger import claims
from pgcleanup.ledger.claims import Claim

Name = tuple[str, str]  # storage key, name


@dataclass(slots=True)
class Context:
    """What the batches of one run share."""

    using: str
    columns: FileColumns
    stores: dict[str, Store]
    elsewhere: Elsewhere
    grace: timedelta
    accept_absent: bool
    compare_columns: bool
    drained_by: str
    tally: Tally
    session: object
    """The connection that the run began with; with another one its locks would be gone."""
    is_first: bool = False
    """Whether no drain has run on this database before."""
    prepared: list[str] = field(default_factory=list)
    """Prepared transactions that were found: nothing is deleted while there is one."""
    excluded: dict[tuple[str, ...], bool] = field(default_factory=dict)
    """By the sources that let a name go: whether all of them are excluded."""
    unrecorded: frozenset[str] = frozenset()
    """Storages whose names are checked twice: see `second_look`."""
    defaults: dict[str, set[str]] = field(default_factory=dict)
    """By storage: names that are a field's default."""
    waiting_for_scan: dict[str, int] = field(default_factory=dict)
    """Storages left alone until a scan of a large table is worth it, with the names that wait for it."""
    large: dict[str, tuple[FileColumn, ...]] = field(default_factory=dict)
    """By storage: columns for which each check reads a large table from end to end."""
    put_last: set[str] = field(default_factory=set)
    """Storages whose turn comes when all others are done."""
    stop: Callable[[], bool] | None = None
    """Asked between two files and between two batches whether to end the run."""
    stopped: bool = False
    pause: PauseWatch | None = None
    """Asked with it: somebody may have paused the drains meanwhile."""

    @property
    def open_sources(self) -> dict[str, str]:
        """The sources that may be worked on, each with its storage key."""
        return {
            column.source: column.storage_key
            for column in self.columns.stored
            if column.storage_key in self.stores and not self.is_closed(column.storage_key)
        }

    def claim(self, key: str, names: Sequence[str]) -> list[Claim]:
        """Lock what may be taken of these names in a storage."""
        sources = [source for source, place in self.open_sources.items() if place == key]
        return claims.claim(self.using, key, names, sources, self.grace, newest=self.tells_of(key))

    def tells_of(self, key: str) -> bool:
        """Whether anybody sees a file of this storage before it goes."""
        mine = (column for column in self.columns.stored if column.storage_key == key)
        return any(has_receivers(column) or deletes_by_itself(column) for column in mine)

    def is_heard(self, key: str) -> bool:
        """Whether anybody listens to the signals of a model with files in this storage."""
        return any(has_receivers(column) for column in self.columns.stored if column.storage_key == key)

    def witnesses(self, key: str) -> Callable[..., Witnesses]:
        """Return what looks for a few files of a storage that rows name; of one folder, if it is called with one."""
        defaults = self.defaults.get(key, ())
        return partial(call_witnesses, self.using, self.columns, self.stores[key], defaults)

    def sources_of(self, key: str) -> list[str]:
        """Return the sources whose files are in a storage."""
        return [column.source for column in self.columns.stored if column.storage_key == key]

    def kept_at_once(self, claim: Claim) -> str | None:
        """Say why a name is kept without a look, if it is.

        Asked again for each claim: a name that another drain stamped may be due only now.
        """
        if (excluded := self.excluded.get(claim.sources)) is None:
            excluded = all(self.columns.by_source[source].excluded for source in claim.sources)
            self.excluded[claim.sources] = excluded
        if excluded:
            return "excluded"
        return "default" if claim.name in self.defaults.get(claim.storage_key, ()) else None

    def is_stopping(self) -> bool:
        """Whether the run is to end. Once it is, it stays so."""
        self.stopped = self.stopped or (self.stop is not None and self.stop())
        if self.pause is not None and (withheld := self.pause()) is not None:
            self.tally.refused["paused"] = str(withheld)
            return True
        return self.stopped

    def is_closed(self, key: str) -> bool:
        """Whether a storage is left alone for the rest of the run."""
        left_alone = key in self.tally.refused or key in self.waiting_for_scan or key in self.put_last
        return left_alone or self.stores[key].down is not None
