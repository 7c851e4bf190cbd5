"""One batch: claim whole names, ask what still needs them, delete the rest, settle. One short transaction.

The order of the statements is the protocol of docs/design.md; each has a counterexample that shows what
goes wrong without it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from django.db import connections

from pgcleanup import references
from pgcleanup.drain import absence, decide
from pgcleanup.drain.agreement import refusal
from pgcleanup.drain.context import Context
from pgcleanup.drain.decide import Settled, from_elsewhere_first
from pgcleanup.drain.disposal import Disposal
from pgcleanup.drain.dispose import Disposer
from pgcleanup.drain.guard import ConnectionGuard
from pgcleanup.drain.meanwhile import Meanwhile
from pgcleanup.drain.poison import write
from pgcleanup.drain.second_look import to_be_checked_again
from pgcleanup.drain.store import MORE_TO_BE_SURE
from pgcleanup.drain.way import Way
from pgcleanup.ledger import fence
from pgcleanup.ledger.claims import Claim
from pgcleanup.ledger.fence import drain_transaction
from pgcleanup.models import Outcome
from pgcleanup.references import Answer

# A batch holds its claims for about so long, at most SLOWEST: what it has not got to by then is claimed
# anew. Time for the files is at least ten times that of the check, or scans of large tables would add up.
BATCH_SECONDS = 2.0
SLOWEST = 30.0
CHECK_SHARE = 10


class Batch:
    """One batch of names of one storage. `steps` does the work; `unfinished` is what it did not get to."""

    def __init__(self, context: Context, storage_key: str, names: Sequence[str]) -> None:
        self.context = context
        self.storage_key = storage_key
        self.names = names
        self.unfinished: list[str] = []
        self._out = Disposal()
        self._started = time.monotonic()
        self._budget = BATCH_SECONDS
        self._meanwhile = Meanwhile(
            context.using,
            context.columns,
            storage_key,
            large=context.large.get(storage_key, ()),
            elsewhere=context.elsewhere,
            grace=context.grace,
        )

    def steps(self) -> Iterator[str]:
        """Work the batch off. Yields the name of each step after it is done; dropping the generator rolls back."""
        context = self.context
        with drain_transaction(context.using):
            found = context.claim(self.storage_key, self.names)
            # A claim that takes longer than a batch may would leave no time for the files.
            self._started = time.monotonic()
            yield "claimed"
            # After the fence was found clear, before the check: a transaction that was in the fence may
            # have ended by PREPARE, and its writes are still to come.
            context.prepared = fence.prepared_names(context.using)
            if context.prepared:
                return
            yield "found nothing prepared"
            guard = ConnectionGuard(context.using)
            if found:
                yield from self._work_on(found, guard)
            write(context.using, self._out, context.drained_by, guard)
            yield "settled"
            _make_hooks_robust(context.using)
        for result in self._out.results():
            context.tally.add(result)
        yield "committed"

    def _work_on(self, found: list[Claim], guard: ConnectionGuard) -> Iterator[str]:
        context, key = self.context, self.storage_key
        answer = yield from self._check(key, found)
        if key in context.unrecorded and not self._disagrees(answer):
            answer = yield from self._check_again(found, answer)
        if context.prepared or self._disagrees(answer):
            return
        store = context.stores[key]
        store.calls.batch = found
        store.calls.alive, store.calls.enough = guard.check, context.is_stopping
        disposer = Disposer(context.using, context.columns, store, guard, self._out, self._meanwhile)
        todo = deque(found)
        while todo:
            if store.down is not None:
                # Out of the way of names that were not tried yet, for the next drain.
                for rest in todo:
                    self._out.put_off(rest, store.down)
                break
            if self._is_over():
                self.unfinished += [rest.name for rest in todo]
                break
            most = len(todo)
            if disposer.asking.suspects:
                disposer.asking.suspects = False
                todo = deque(from_elsewhere_first(todo))
                most = MORE_TO_BE_SURE
            if together := self._next(todo, answer, disposer, most):
                began = time.monotonic()
                yield from disposer.dispose(together)
                store.adapt(together[0][1].adapter, len(together), time.monotonic() - began, told=together[0][1].told)
        for claim in disposer.asking.untried:
            if store.down is not None:
                self._out.put_off(claim, store.down)
            else:
                self.unfinished.append(claim.name)
        disposer.asking.finish(self._out)
        self._absent(key, disposer)
        if store.down is not None:
            context.tally.problem(store.down)

    def _disagrees(self, answer: Answer) -> bool:
        """Whether this process and the databases do not see the same columns. Then nothing is deleted."""
        context, key = self.context, self.storage_key
        store = context.stores[key]
        why = refusal(context.columns, answer, key, store.adapter.storage)
        if not context.compare_columns or why is None:
            return False
        context.tally.refused[key] = f"{store.label}: {why}"
        return True

    def _check_again(self, found: list[Claim], answer: Answer) -> Generator[str, None, Answer]:
        """Let names wait that a transaction may have read in a row that no trigger records. See `second_look`.

        Where none is open, whoever has read one has ended, and what it wrote is seen by a second check.
        """
        using = self.context.using
        again = to_be_checked_again(self.context, found, answer)
        if not again:
            return answer
        if fence.is_any_transaction_open(using):
            fence.stamp_anew(using, [id_ for claim in again for id_ in claim.ids])
            self._out.held += again
            held = {claim.ids for claim in again}
            found[:] = [claim for claim in found if claim.ids not in held]
            yield "stamped anew"
            return answer
        self.context.prepared = fence.prepared_names(using)
        return answer if self.context.prepared else (yield from self._check(self.storage_key, found))

    def _next(self, todo: deque[Claim], answer: Answer, disposer: Disposer, most: int) -> list[tuple[Claim, Way]]:
        """Take the next claims that are to be looked at together, and deal with those that need no look."""
        together: list[tuple[Claim, Way]] = []
        while todo and len(together) < most:
            claim = todo[0]
            reason = self.context.kept_at_once(claim)
            decision = Settled(Outcome.KEPT, reason) if reason else decide.before_looking(claim, answer)
            if decision is not None:
                self._out.decide(claim, decision)
            else:
                way = disposer.way_of(claim)
                if together and way is not together[0][1] and not way.goes_with(together[0][1]):
                    break
                if not together:
                    size = disposer.store.size(way.adapter, told=way.told)
                    most = 1 if way.one_by_one else min(most, size)
                together.append((claim, way))
            todo.popleft()
        return together

    def _check(self, key: str, found: list[Claim]) -> Generator[str, None, Answer]:
        context = self.context
        began = time.monotonic()
        names = [claim.name for claim in found]
        if context.is_heard(key):
            self._meanwhile.begin()
        answer_elsewhere = context.elsewhere.check(key, names, context.grace)
        yield "checked elsewhere"
        claimed = [id_ for claim in found for id_ in claim.ids]
        answer = references.check(context.using, context.columns, key, names, claimed, context.grace)
        answer.add(answer_elsewhere)
        yield "checked"
        took = time.monotonic() - began
        # Not counted as time for the files: a check that takes longer than a batch may would leave none.
        self._started += took
        self._budget = min(SLOWEST, max(self._budget, CHECK_SHARE * took))
        return answer

    def _absent(self, key: str, disposer: Disposer) -> None:
        context = self.context
        if not disposer.absent:
            return
        store = context.stores[key]
        if store.down is not None and not context.accept_absent:
            # What it says of the others is no better than what it did not say of some.
            for claim in disposer.absent:
                self._out.put_off(claim, store.down)
            return
        folders: dict[str, str] = {}
        if not context.accept_absent:
            lately = absence.settled_lately(context.using, context.sources_of(key))
            witnesses = context.witnesses(key)
            reason = absence.distrust(store.adapter, disposer.looked, lately, witnesses)
            if reason is not None:
                store.down = absence.cannot_be_trusted(store.label, reason)
                for claim in disposer.absent:
                    self._out.put_off(claim, reason)
                return
            names = [claim.name for claim in disposer.absent]
            folders = absence.distrusted_folders(store.adapter, names, disposer.filled, witnesses)
            for folder, why in folders.items():
                context.tally.problem(absence.cannot_be_trusted(f"{store.label}, folder {folder}", why))
        for claim in disposer.absent:
            if (not_believed := folders.get(absence.folder_of(claim.name))) is not None:
                self._out.put_off(claim, not_believed)
            else:
                disposer.settle_absent(claim)

    def _is_over(self) -> bool:
        if self.context.is_stopping():
            return True
        # One whose calls run into their timeouts fails a few times in each batch, which would look like a few names.
        return time.monotonic() - self._started > self._budget and not self.context.stores[self.storage_key].is_suspect


def _make_hooks_robust(using: str) -> None:
    """Let no `on_commit` hook of a receiver raise into the drain: the batch is committed by then."""
    connection: Any = connections[using]
    connection.run_on_commit = [(sids, hook, True) for sids, hook, _ in connection.run_on_commit]
