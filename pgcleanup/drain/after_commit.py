"""The drain that a process runs right after a commit of its own: the same protocol, and bounds on the work.

Somebody waits for it, a request mostly. What it does not get to, the next drain does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from pgcleanup.drain import breaker
from pgcleanup.drain.agreement import ADVICE
from pgcleanup.drain.at_once import find_defaults
from pgcleanup.drain.batch import Batch
from pgcleanup.drain.run import Run
from pgcleanup.drain.surroundings import Surroundings
from pgcleanup.ledger import claims, fence
from pgcleanup.ledger.claims import Cursor

OWN_FILES = 50
# Besides, as many that earlier commits left because of an open transaction: with that many for each commit they are
# soon done, and no request works off a backlog.
OTHER_FILES = 10
SECONDS = 1.0
# A table that is locked or slow, at the moment, is not for a request to wait for.
TIMEOUTS = {"statement_timeout": "1s", "lock_timeout": "200ms"}


class AfterCommit(Run):
    """A run for the names that one transaction let go, and a few that are due."""

    def __init__(self, using: str, transaction_id: int, surroundings: Surroundings) -> None:
        end = time.monotonic() + SECONDS
        super().__init__(using, surroundings=surroundings, stop=lambda: time.monotonic() >= end)
        self.transaction_id = transaction_id

    def finish(self) -> None:
        """Do the work. An error of the database ends it: to find out whose fault it is, is for the next drain."""
        with fence.timeouts(**TIMEOUTS):
            for _ in self.steps():
                pass

    def _steps(self) -> Iterator[str]:
        context = self.context
        own = fence.stamp_transaction(context.using, self.transaction_id, OWN_FILES)
        if not own:
            return
        yield "stamped"
        find_defaults(context)
        self._leave_disagreements()
        self._hold_back_scans()
        breaker.rest(context)
        for key, names in self._by_storage(own).items():
            yield from Batch(context, key, names).steps()
            if context.prepared:
                return
        fence.drop_stamp(context.using, own[0][2])
        yield "dropped unused stamps"

    def _by_storage(self, own: list[tuple[str, str, int]]) -> dict[str, list[str]]:
        """Return the names of each storage, this transaction's first."""
        context = self.context
        sources = {
            source: key
            for source, key in context.open_sources.items()
            if not context.columns.by_source[source].excluded
        }
        # Those that wait for a retry are left out: a storage that fails is not for a request to ask again.
        due, _ = claims.pick(context.using, Cursor(), context.grace, list(sources), OWN_FILES + OTHER_FILES)
        mine = dict.fromkeys((sources[source], name) for source, name, _ in own if source in sources)
        others = dict.fromkeys((sources[source], name) for source, names in due.items() for name in names)
        by_storage: dict[str, list[str]] = {}
        for key, name in [*mine, *[name for name in others if name not in mine][:OTHER_FILES]]:
            by_storage.setdefault(key, []).append(name)
        return by_storage

    def _leave_disagreements(self) -> None:
        """Leave the storages alone of which a column is excluded here and recorded by the database."""
        context = self.context
        for column in context.columns.stored:
            if column.excluded and column.storage_key in context.stores and self.inspection.still_records(column):
                context.tally.refused[column.storage_key] = f"{column.source} is excluded here only. {ADVICE}"
