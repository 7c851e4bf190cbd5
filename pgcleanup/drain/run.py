"""One run of the drain: stamp what is new, then sweep what is due, batch by batch."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import partial
from itertools import islice

from django.db import DatabaseError, connections

from pgcleanup.conf import settings
from pgcleanup.drain import breaker, closing
from pgcleanup.drain.at_once import find_defaults, settle_at_once
from pgcleanup.drain.batch import Batch
from pgcleanup.drain.context import Context
from pgcleanup.drain.deadline import Deadline
from pgcleanup.drain.forecast import forecast
from pgcleanup.drain.guard import is_lost
from pgcleanup.drain.permission import PauseWatch, is_first_drain, note_drain, withheld
from pgcleanup.drain.poison import is_about_the_check, postpone_alone, postpone_what_was_told
from pgcleanup.drain.report import DrainReport, Progress, Tally
from pgcleanup.drain.scans import WORTH_A_SCAN, find_scans
from pgcleanup.drain.store import find_stores
from pgcleanup.drain.surroundings import Surroundings, look_around
from pgcleanup.exceptions import ConnectionLost, OtherDatabaseFailed
from pgcleanup.ledger import claims, fence, outages, state
from pgcleanup.ledger.claims import Cursor
from pgcleanup.storage_keys import UNUSABLE
from pgcleanup.storages import Calls

# The largest batch. A storage that does not get through one in its time gets smaller ones.
BATCH_SIZE = 4_000
FORECAST_LIMIT = 10_000
# After these nothing is under way: no transaction, no claim.
_BETWEEN_BATCHES = {"stamped", "settled at once", "committed", "waited"}
_FIRST_RETRY = datetime(2000, 1, 1, tzinfo=timezone.utc)


class Run:
    """A drain that is under way. `steps()` does the work and can be advanced one step at a time."""

    def __init__(
        self,
        using: str,
        *,
        limit: int | None = None,
        grace: timedelta | None = None,
        wait: timedelta = timedelta(0),
        dry_run: bool = False,
        accept_absent: bool = False,
        progress: Progress | None = None,
        compare_columns: bool = True,
        inside_transaction: bool = False,
        stop: Callable[[], bool] | None = None,
        surroundings: Surroundings | None = None,
        calls: Calls | None = None,
    ) -> None:
        calls = Calls() if calls is None else calls
        found = surroundings or look_around(using, inside_transaction=inside_transaction, dry_run=dry_run)
        self.inspection, columns, elsewhere = found.inspection, found.columns, found.elsewhere
        self.limit = limit
        self._sizes: dict[str, int] = {}
        """By storage: how many names its next batch has at most."""
        self.wait = wait
        self.dry_run = dry_run
        grace = settings.grace_period if grace is None else grace
        self.context = Context(
            using=using,
            columns=columns,
            # The transaction of a test case is its thread's.
            stores=find_stores(columns, calls, threads=not inside_transaction),
            elsewhere=elsewhere,
            unrecorded=found.unrecorded,
            # No fence reaches across databases: there only the grace period protects.
            grace=max(grace, settings.grace_period) if elsewhere else grace,
            accept_absent=accept_absent,
            compare_columns=compare_columns,
            drained_by=f"{socket.gethostname()}:{os.getpid()}",
            tally=Tally(progress),
            session=connections[using].connection,
            stop=stop,
            pause=PauseWatch(using),
        )
        self.deadline = Deadline(using, calls)
        if surroundings is None:
            self._ask_permission(inside_transaction)
        for column in columns.stored:
            if column.storage_key is not None and column.storage_key.startswith(UNUSABLE):
                self.context.tally.problem(f"the storage of {column.source} is {column.storage_key}")

    def _ask_permission(self, inside_transaction: bool) -> None:
        """Note which database is drained. A dry run changes nothing, and says what would stop the drain itself."""
        self.context.is_first = is_first_drain(self.context.using)
        if self.dry_run:
            for number, reason in enumerate(withheld(self.context.using, compare=not inside_transaction)):
                self.context.tally.refused[f"withheld {number}"] = str(reason)
        elif not inside_transaction:
            note_drain(self.context.using)

    def steps(self) -> Iterator[str]:
        """Do the work. Yields the name of each step after it is done.

        Raises:
            ConnectionLost: the database went away; what was committed before stands.
        """
        try:
            with self.deadline.watch():
                for step in self._steps():
                    yield step
                    if step in _BETWEEN_BATCHES and self.context.is_stopping():
                        return
        except ConnectionLost as error:
            raise self._lost(error) from error
        except DatabaseError as error:
            if is_lost(self.context.using, self.context.session):
                raise self._lost(error) from error
            raise

    def report(self) -> DrainReport:
        """Return what was done, and look at what is left."""
        return closing.report(self.context, self.inspection, dry_run=self.dry_run)

    def _steps(self) -> Iterator[str]:
        context = self.context
        find_defaults(context)
        if self.dry_run:
            forecast(context, self.limit)
            return
        while fence.stamp(context.using) == fence.STAMP_SIZE:
            yield "stamped"
        yield "stamped"
        if not settings.delete_files:
            forecast(context, self.limit or FORECAST_LIMIT, due_only=True)
            return
        if context.accept_absent:
            closing.in_transaction(context.using, partial(outages.retry_put_off, context.using))
        yield from settle_at_once(context, self.inspection)
        deadline = time.monotonic() + self.wait.total_seconds()
        breaker.rest(context)
        while True:
            # Asked before the sweep: what waits for a transaction that ends in its midst is worth another one.
            held = bool(self.wait) and self._held_by_transactions()
            yield from self._sweep()
            if context.put_last:
                context.put_last.clear()
                yield from self._sweep()
            if time.monotonic() >= deadline or self._room(1) <= 0 or not (held or context.prepared):
                break
            time.sleep(0.1)
            yield "waited"
        fence.drop_unused_stamps(context.using)
        yield "dropped unused stamps"
        closing.prune_history(context.using)

    def _sweep(self) -> Iterator[str]:
        context = self.context
        size = self._hold_back_scans()
        cursor = Cursor(retries_until=state.now(context.using))
        # By storage: a batch is of one, since where its check fails, no file of another one has been touched yet.
        names: dict[str, dict[str, None]] = {}
        while (room := self._room(size)) > 0:
            names = {key: waiting for key, waiting in names.items() if waiting and not context.is_closed(key)}
            missing = room - sum(map(len, names.values()))
            if missing > 0:
                sources = context.open_sources
                picked, cursor = claims.pick(context.using, cursor, context.grace, list(sources), missing)
                for source, found in picked.items():
                    names.setdefault(sources[source], {}).update(dict.fromkeys(found))
                if not names and cursor.retry_at is None:
                    cursor = replace(cursor, id=0, retry_at=_FIRST_RETRY)
                    continue
            if not names:
                return
            key, waiting = next(iter(names.items()))
            taken = list(islice(waiting, min(room, self._sizes.get(key, room))))
            for name in taken:
                del waiting[name]
            batch = Batch(context, key, taken)
            try:
                yield from batch.steps()
            except OtherDatabaseFailed as error:
                self._close(batch, error)
            except DatabaseError as error:
                yield from self._after_error(batch, error)
            if context.prepared:
                return
            self._adapt(key, len(taken), len(batch.unfinished))
            names[key] = dict.fromkeys(batch.unfinished) | waiting

    def _after_error(self, batch: Batch, error: DatabaseError) -> Iterator[str]:
        """Leave a storage alone whose check fails; else find the name that spoiled the batch."""
        context = self.context
        if is_lost(context.using, context.session):
            raise error
        if is_about_the_check(error):
            self._close(batch, error)
        elif len(batch.names) == 1:
            postpone_alone(context, batch.storage_key, batch.names[0], error)
        else:
            for name in batch.names:
                single = Batch(context, batch.storage_key, [name])
                try:
                    yield from single.steps()
                except DatabaseError as cause:
                    yield from self._after_error(single, cause)

    def _close(self, batch: Batch, error: Exception) -> None:
        """Leave the storage alone whose names could not be checked, and go on with the others' names."""
        closing.close_storage(self.context, batch.storage_key, error)
        batch.unfinished = [] if self.context.is_closed(batch.storage_key) else list(batch.names)

    def _adapt(self, key: str, names: int, unfinished: int) -> None:
        """Give a storage twice what it got done in its time: the rest was claimed and checked in vain."""
        if unfinished or key in self._sizes:
            self._sizes[key] = 2 * max(names - unfinished, 1)

    def _room(self, size: int) -> int:
        return size if self.limit is None else min(size, self.limit - self.context.tally.names)

    def _hold_back_scans(self) -> int:
        """Close the storages that wait for company, and return how many names a batch should have."""
        context = self.context
        if len(context.columns) == 0:
            return BATCH_SIZE
        scans = find_scans(context.using, context.columns, list(context.stores), context.grace)
        context.large = {scan.storage_key: scan.columns for scan in scans}
        for scan in scans:
            if scan.waiting:
                context.waiting_for_scan[scan.storage_key] = scan.waiting
            if scan.advice not in context.tally.scans:
                context.tally.scans.append(scan.advice)
        return WORTH_A_SCAN if scans else BATCH_SIZE

    def _held_by_transactions(self) -> bool:
        return bool(fence.holders(self.context.using, self.context.grace, limit=1))

    def _lost(self, error: Exception) -> ConnectionLost:
        settled = self.context.tally.settled
        so_far = "1 name was" if settled == 1 else f"{settled} names were"
        # What it still holds of the old session is of no use; the next query opens a new one.
        connections[self.context.using].close()
        postpone_what_was_told(self.context, error)
        return ConnectionLost(
            f"the database went away ({str(error).splitlines()[0]}). {so_far} settled before. "
            "Nothing is lost: the next drain goes on where this one stopped"
        )
