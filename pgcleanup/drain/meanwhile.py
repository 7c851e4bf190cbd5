"""Was anything written since the reference check, and does it name what is about to go?

A receiver may name the very file in a row: by the ORM, in SQL, by a function, a trigger or COPY, by another connection
or in another thread. The text of its statements does not tell. The server does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import connections

from pgcleanup import references, sql
from pgcleanup.columns import FileColumn, FileColumns
from pgcleanup.drain.elsewhere import Elsewhere
from pgcleanup.ledger import fence
from pgcleanup.ledger.claims import Claim
from pgcleanup.references import Answer

# What others commit changes the snapshot, and nothing else does. What this transaction writes does not, but is counted,
# also what a savepoint has undone; in foreign tables it is not, and with track_counts off it is nowhere.
_MARK = """
SELECT pg_catalog.pg_current_snapshot()::text,
       (SELECT CASE WHEN pg_catalog.bool_and(c.relkind = 'r') AND current_setting('track_counts')::bool
                    THEN pg_catalog.sum(pg_stat_get_xact_tuples_inserted(c.oid)
                                        + pg_stat_get_xact_tuples_updated(c.oid)) END
          FROM pg_catalog.pg_class c
         WHERE c.relkind IN ('r', 'f'))
"""
# Rows are counted where they lie: in a partition, or in a table that inherits.
_WRITTEN_IN = """
SELECT CASE WHEN current_setting('track_counts')::bool THEN (
         WITH RECURSIVE tree(oid) AS (
             SELECT to_regclass(w.quoted)::oid
              UNION ALL
             SELECT i.inhrelid FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid)
         SELECT pg_catalog.sum(pg_stat_get_xact_tuples_inserted(oid) + pg_stat_get_xact_tuples_updated(oid))
           FROM tree) END
  FROM unnest(%s::text[]) WITH ORDINALITY AS w(quoted, i)
 ORDER BY w.i
"""


@dataclass(frozen=True, slots=True)
class Mark:
    """How things stand. Where the count is None, nobody can tell what this transaction has written."""

    snapshot: str
    written: int | None


class Receivers:
    """Notes whether receivers have been at work, and whether they have used another connection."""

    def __init__(self, using: str) -> None:
        self.using = using
        self.ran = False
        self.used_another = False

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Look on within the block, at Django's connections of this thread."""
        self.ran = True
        with ExitStack() as stack:
            for alias in connections:
                if alias != self.using and connections[alias].vendor == "postgresql":
                    stack.enter_context(connections[alias].execute_wrapper(self._note))
            yield

    def _note(self, execute: Any, statement: Any, parameters: Any, many: bool, context: Any) -> Any:
        # Whatever it says, it may write; but for a standby, where nothing can.
        if context["connection"].connection.info.parameter_status("in_hot_standby") != "on":
            self.used_another = True
        return execute(statement, parameters, many, context)


class Meanwhile:
    """Asks once more what needs a name, after its receivers were at work, if anything was written since the check.

    Not in a large table without an index, which is read from end to end for each few files: that is asked if this
    transaction, or another connection of this thread, has written. The promise has no other hole than a receiver that
    names the file in such a table from another thread or process.
    """

    def __init__(
        self,
        using: str,
        columns: FileColumns,
        key: str,
        *,
        large: Sequence[FileColumn],
        elsewhere: Elsewhere,
        grace: timedelta,
    ) -> None:
        self.receivers = Receivers(using)
        self.using = using
        self.columns = columns
        self.key = key
        self.large = large
        self.elsewhere = elsewhere
        self.grace = grace
        self._at_the_check: Mark | None = None
        self._written_in: list[int | None] = [None] * len(large)

    def begin(self) -> None:
        """Note how things stand before the check. What is committed between the two is asked about in vain."""
        self._at_the_check = self._mark()
        self._written_in = self._count_large()

    def ask(self, claims: Sequence[Claim]) -> Answer:
        """Return what needs the names by now, as far as anything was written; an empty answer where nothing was.

        Raises:
            DatabaseError: a table cannot be read at the moment. It is not waited for as long as by a check.
            OtherDatabaseFailed: another database did not answer.
        """
        before, now = self._at_the_check, self._mark()
        another = self.receivers.used_another
        if now == before and now.written is not None and not another:
            return Answer()
        # What was not known before, or cannot be known, is taken for written.
        counts = zip(self.large, self._written_in, self._count_large(), strict=True)
        without = {
            column.source
            for column, earlier, later in counts
            if earlier is not None and earlier == later and not another
        }
        names, claimed = [claim.name for claim in claims], [id_ for claim in claims for id_ in claim.ids]
        with fence.impatient():
            answer_elsewhere = self.elsewhere.check(self.key, names, self.grace) if another else Answer()
            answer = references.check(
                self.using, self.columns, self.key, names, claimed, self.grace, without=without, again=True
            )
        answer.add(answer_elsewhere)
        return answer

    def _mark(self) -> Mark:
        return Mark(*sql.fetch(self.using, _MARK)[0])

    def _count_large(self) -> list[int | None]:
        """Return what this transaction has written to each large table."""
        if not self.large:
            return []
        return [row[0] for row in sql.fetch(self.using, _WRITTEN_IN, [[column.table for column in self.large]])]
