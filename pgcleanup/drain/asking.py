"""Asking one storage within one batch, and what its failures mean: the names, their folder, or all of it?"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from pgcleanup.columns import FileColumns
from pgcleanup.drain import absence
from pgcleanup.drain.disposal import Disposal
from pgcleanup.drain.store import (
    MORE_TO_BE_SURE,
    SUSPICIOUS_FAILURES,
    Store,
    error_text,
    is_of_the_whole_disk,
)
from pgcleanup.exceptions import ConnectionLost
from pgcleanup.ledger.claims import Claim
from pgcleanup.storage_keys import describe
from pgcleanup.storages import Changed
from pgcleanup.storages.errors import is_forbidden, is_throttled

logger = logging.getLogger("pgcleanup.drain")
T = TypeVar("T")

UNTRIED = object()
"""Stands for the answer about a name that the storage was not asked about."""

# A right that is missing is not granted from one minute to the next.
_FORBIDDEN_WAIT = timedelta(minutes=5)


class Asking:
    """Asks one storage, name by name in what it answers, and keeps account of what failed."""

    def __init__(self, using: str, columns: FileColumns, store: Store) -> None:
        self.using = using
        self.columns = columns
        self.store = store
        self.failed: list[tuple[str, Claim, Exception]] = []
        self.untried: list[Claim] = []
        self.suspects = False
        """Whether the next deletions should be in other folders, to tell theirs from the storage's."""
        self._successes = dict(store.successes)

    def __call__(self, call: str, ask: Callable[[], Mapping[str, T | Exception]], claims: Sequence[Claim]) -> list[Any]:
        """Return the answer about each name, an exception where the storage failed, or `UNTRIED`."""
        names = [claim.name for claim in claims]
        try:
            answers = ask()
        except ConnectionLost:
            raise
        except Exception as error:  # whatever a storage raises
            answers = dict.fromkeys(names, error)
        if not answers and not self.store.calls.enough():
            silent = f"{describe(self.store.adapter.storage)} said nothing about any of {len(names)} names"
            answers = dict.fromkeys(names, RuntimeError(silent))
        before = self.store.in_a_row[call]
        found = [answers.get(name, UNTRIED) for name in names]
        for claim, answer in zip(claims, found, strict=True):
            if answer is UNTRIED:
                self.untried.append(claim)
            elif isinstance(answer, Exception) and not isinstance(answer, Changed):
                self._note_failure(call, claim, answer)
            else:
                self.store.answered(call)
        if self.failed and self.store.in_a_row[call]:
            self._judge(call, before, self.failed[-1][2])
        return found

    def finish(self, out: Disposal) -> None:
        """Postpone what failed; without counting an attempt where the storage as a whole does not answer."""
        for call, _, error in self.failed[-1:]:
            if self.store.down is None and self._failed_throughout(call) and self._is_down(call):
                self.store.leave_alone(call, error)
        for _, claim, error in self.failed:
            if self.store.down is not None:
                out.put_off(claim, self.store.down)
            elif is_forbidden(error):
                out.put_off(claim, error_text(error), _FORBIDDEN_WAIT)
            elif is_throttled(error):
                out.put_off(claim, error_text(error))
            else:
                out.postpone(claim, error)

    def _note_failure(self, call: str, claim: Claim, error: Exception) -> None:
        self.store.failed(call)
        # Of an outage a few lines tell as much as a thousand.
        if self.store.in_a_row[call] <= SUSPICIOUS_FAILURES + MORE_TO_BE_SURE:
            logger.warning("Could not delete %s (%s): %s", claim.name, claim.source, error_text(error))
        self.failed.append((call, claim, error))
        if call == "delete" and is_of_the_whole_disk(error):
            self.store.leave_alone(call, error)

    def _judge(self, call: str, before: int, error: Exception) -> None:
        """After failures with no success since: is it the names, their folder, or the storage?"""
        store, now = self.store, self.store.in_a_row[call]
        if call == "delete":
            if store.lets_nothing_be_deleted:
                store.leave_alone(call, error)
            elif now >= SUSPICIOUS_FAILURES and not store.suspect_at:
                store.suspect_at = now
                self.suspects = True
        else:
            asked = before // SUSPICIOUS_FAILURES if now > before else 0
            if now // SUSPICIOUS_FAILURES > asked and self._is_down(call):
                store.leave_alone(call, error)

    def _failed_throughout(self, call: str) -> bool:
        return self.store.successes[call] == self._successes.get(call, 0)

    def _is_down(self, call: str) -> bool:
        """Ask about another few files, after a failure: those that rows name are looked at."""
        if call == "delete" and self.store.in_a_row[call] >= SUSPICIOUS_FAILURES:
            return True
        seen = absence.call_witnesses(self.using, self.columns, self.store)
        if seen.asked == seen.raised:
            # Nobody could tell: some failures may be the names' own, many are not.
            return bool(seen.asked) or self.store.in_a_row[call] >= SUSPICIOUS_FAILURES
        return False
