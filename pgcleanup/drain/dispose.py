"""The files of one batch in one storage: look, tell, delete, tell."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from django.db import DatabaseError

from pgcleanup.columns import FileColumn, FileColumns
from pgcleanup.conf import settings
from pgcleanup.drain import decide
from pgcleanup.drain.absence import Looked, folder_of
from pgcleanup.drain.asking import Asking
from pgcleanup.drain.decide import Left, Settled
from pgcleanup.drain.deliver import Delivery, deletes_by_itself, has_receivers
from pgcleanup.drain.disposal import Disposal
from pgcleanup.drain.guard import ConnectionGuard
from pgcleanup.drain.meanwhile import Meanwhile
from pgcleanup.drain.store import Store
from pgcleanup.drain.way import File, Way
from pgcleanup.exceptions import ConnectionLost, OtherDatabaseFailed
from pgcleanup.ledger.claims import Claim
from pgcleanup.models import Outcome
from pgcleanup.storages import Changed, Presence, Seen

logger = logging.getLogger("pgcleanup.drain")

# An enumeration's member is looked up slowly, where it is done for each file.
_ABSENT, _DELETED = Outcome.ABSENT.value, Outcome.DELETED.value


class Disposer:
    """Works on the names of one storage within one batch."""

    def __init__(
        self,
        using: str,
        columns: FileColumns,
        store: Store,
        guard: ConnectionGuard,
        out: Disposal,
        meanwhile: Meanwhile,
    ) -> None:
        self.using = using
        self.meanwhile = meanwhile
        self.columns = columns
        self.store = store
        self.guard = guard
        self.out = out
        self.asking = Asking(using, columns, store)
        self.absent: list[Claim] = []
        self.looked = Looked()
        self.filled: set[str] = set()
        """Folders in which a file was there."""
        self._upload_window = settings.upload_window
        self._ways: dict[tuple[str, tuple[str, ...]], Way] = {}

    def way_of(self, claim: Claim) -> Way:
        """Return how to work on a name.

        Where several columns let it go, one whose class does more than delete comes first.
        """
        # The newest source comes first: names that several columns let go differ in it.
        sources = claim.source, claim.sources
        if (way := self._ways.get(sources)) is None:
            columns = [self.columns.by_source[source] for source in (claim.source, *claim.sources)]
            column = next((column for column in columns if deletes_by_itself(column)), columns[0])
            adapter = self.store.adapter_of(claim)
            by_itself = deletes_by_itself(column)
            # One that has connected since the claim hears of the next batch.
            heard = has_receivers(column) and claim.newest is not None
            way = self._ways[sources] = Way(adapter, column, heard, by_itself)
        return way

    def dispose(self, claims: Sequence[tuple[Claim, Way]]) -> Iterator[str]:
        """Look at names that nothing refers to, of ways that go together, and delete their files.

        Yields after each step. Absent ones are only noted: whether to believe the storage shows when all have been
        looked at.
        """
        files = self._look(claims)
        if files:
            yield "looked"
        files = list(self._doomed(files))
        if files and files[0].way.told:
            files = yield from self._tell_before(files)
        if files and self.meanwhile.receivers.ran:
            files = list(self._not_named_meanwhile(files))
        if files:
            yield from self._delete(files)

    def settle_absent(self, claim: Claim) -> None:
        """Settle a name whose file is not there, with both signals: a crash may have swallowed them."""
        way = self.way_of(claim)
        if way.heard:
            delivery = self._announce(way.column, claim)
            if delivery is None:
                return
            self._tell_after(claim, delivery)
        self.out.settle(claim, _ABSENT)

    def _look(self, claims: Sequence[tuple[Claim, Way]]) -> list[File]:
        """Look at the names, if the connection is still alive. What the storage failed to tell is missing."""
        self.guard.check()
        look = partial(claims[0][1].adapter.look_many, [claim.name for claim, _ in claims])
        answers = self.asking("look", look, [claim for claim, _ in claims])
        return [File(*pair, seen) for pair, seen in zip(claims, answers, strict=True) if isinstance(seen, Seen)]

    def _doomed(self, files: Sequence[File]) -> Iterator[File]:
        """Yield the files that are to go."""
        for file in files:
            decision = decide.after_looking(file.seen, self._upload_window)
            is_there = file.seen.presence is not Presence.ABSENT
            self.looked.add(is_there=is_there)
            if is_there:
                self.filled.add(folder_of(file.claim.name))
            if decision is None:
                yield file
            elif isinstance(decision, Settled) and decision.outcome is Outcome.ABSENT:
                self.absent.append(file.claim)
            else:
                self.out.decide(file.claim, decision)

    def _tell_before(self, files: Sequence[File]) -> Generator[str, None, list[File]]:
        """Send the pre signals, and return the files that are to go all the same."""
        for file in files:
            file.delivery = self._announce(file.way.column, file.claim)
        told = [file for file in files if file.delivery is not None]
        if not told:
            return []
        yield "told before"
        # A receiver takes its time, and may have moved the file, or deleted it itself.
        again = self._look([(file.claim, file.way) for file in told])
        return list(self._still_there(again, {file.claim: file for file in told}))

    def _still_there(self, again: Sequence[File], told: Mapping[Claim, File]) -> Iterator[File]:
        for file in again:
            before = told[file.claim]
            file.delivery = before.delivery
            decision = decide.after_looking(file.seen, self._upload_window)
            is_gone = isinstance(decision, Settled) and decision.outcome is Outcome.ABSENT
            # FieldFile.delete() takes the name away, too.
            if not is_gone and before.delivery is not None and not before.delivery.file.name:
                self.out.settle(file.claim, Outcome.KEPT.value, "cleanup_pre_delete")
            elif decision is None:
                yield file
            elif isinstance(decision, Left):
                self.out.decide(file.claim, decision)
            else:
                if before.delivery is not None and file.way.by_itself:
                    self._finish_by_class(file.claim, before.delivery)
                self._tell_after(file.claim, before.delivery)
                self.out.settle(file.claim, _DELETED, "deleted by a receiver", before.seen.size)

    def _delete(self, files: Sequence[File]) -> Iterator[str]:
        adapter = files[0].way.adapter
        # The look may have taken its time, and so may a receiver.
        self.guard.check(ask=adapter.remote)
        delete: Callable[[], Mapping[str, Exception | None]]
        if (delivery := files[0].delivery) is not None and files[0].way.by_itself:
            delete = partial(self._delete_by_class, files[0].claim, delivery)
        else:
            delete = partial(adapter.delete_many, {file.claim.name: file.seen for file in files})
        gone = []
        for file, answer in zip(files, self.asking("delete", delete, [file.claim for file in files]), strict=True):
            if answer is None:
                gone.append(file)
            elif isinstance(answer, Changed):
                self.out.leave(file.claim, decide.written_again(self._upload_window))
            elif isinstance(answer, Exception):
                self._tell_after(file.claim, file.delivery, answer)
        if gone:
            yield "deleted"
        for file in gone:
            self._tell_after(file.claim, file.delivery)
            self.out.settle(file.claim, _DELETED, adapter.remark, file.seen.size)

    def _delete_by_class(self, claim: Claim, delivery: Delivery) -> dict[str, None]:
        with self._telling(claim):
            self.store.delete(delivery.delete, claim.name)
        return {claim.name: None}

    def _finish_by_class(self, claim: Claim, delivery: Delivery) -> None:
        """Have the field's class do what it does besides, as delete thumbnails. Its failure brings no file back."""
        try:
            with self._telling(claim):
                self.store.delete(delivery.delete_the_rest, claim.name)
        except ConnectionLost:
            raise
        except Exception as error:  # whatever a class of somebody's own raises
            logger.warning("%s is gone, but its field's class failed: %s", claim.name, error, exc_info=error)

    def _announce(self, column: FileColumn, claim: Claim) -> Delivery | None:
        """Send the pre signal. None means that it failed: the name is postponed, and its file stays."""
        with self._telling(claim):
            try:
                delivery = Delivery(self.using, column, claim, self.meanwhile.receivers)
                delivery.before()
            except Exception as error:  # a receiver's, or of the user's own model or field
                self.out.postpone(claim, error)
                return None
            return delivery

    def _tell_after(self, claim: Claim, delivery: Delivery | None, error: Exception | None = None) -> None:
        """Send the post signal, if anybody was told before."""
        if delivery is not None:
            with self._telling(claim):
                delivery.after(error)

    @contextmanager
    def _telling(self, claim: Claim) -> Iterator[None]:
        """Note whose receivers are at work, or whose field's class. The note stays where the connection is lost."""
        # A connection that was lost before is not their doing.
        self.guard.check()
        self.store.telling = claim.name
        try:
            yield
        finally:
            self.guard.check()
            self.store.telling = None

    def _not_named_meanwhile(self, files: Sequence[File]) -> Iterator[File]:
        """Yield the files that nothing needs by now either, after receivers were at work."""
        try:
            answer = self.meanwhile.ask([file.claim for file in files])
        except (DatabaseError, OtherDatabaseFailed) as error:
            # Not the batch's failure: other files of it are gone, and are to be settled.
            self.guard.check(ask=True)
            for file in files:
                self.out.postpone(file.claim, error)
            return
        for file in files:
            decision = decide.before_looking(file.claim, answer)
            if decision is None:
                yield file
            else:
                self.out.decide(file.claim, decision)
