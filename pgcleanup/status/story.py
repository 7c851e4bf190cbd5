"""The whole story of a file name: where it is, who names it, what is pending, what has been. Looks, changes nothing."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from pgcleanup.columns import FileColumns, default_names, find_file_columns
from pgcleanup.conf import settings
from pgcleanup.drain.elsewhere import Elsewhere
from pgcleanup.drain.store import Store, error_text, find_stores
from pgcleanup.exceptions import DrainRefused
from pgcleanup.ledger import fence
from pgcleanup.ledger.history import Event
from pgcleanup.ledger.story import PendingEntry, pending_entries, settled_events
from pgcleanup.status.problems import find_problems
from pgcleanup.status.rows import PATIENCE, Named, Patience, Unread, rows_naming
from pgcleanup.storages import Presence, unclean
from pgcleanup.triggers import inspect
from pgcleanup.triggers.dropped import with_dropped

KEYS = 3
HISTORY = 20
# Of a whole name the drain takes what waits longest for the reason.
_LONGEST_FIRST = ("grace_period", "transaction", "failed", "due")


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """What stands under the name in one storage."""

    presence: Presence | None
    """None where nobody looked, or where the storage did not answer."""
    size: int | None = None
    age: timedelta | None = None
    problem: str = ""
    """Why nobody looked, or what the storage answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A name in one storage. The same name in another storage is another file."""

    storage: str
    """For people; or that its field is no installed model's."""
    sources: tuple[str, ...]
    """Of the file fields whose files are here."""
    file: File
    named: tuple[Named, ...] = ()
    unread: tuple[Unread, ...] = ()
    """Columns that might name it and could not be asked: while they cannot, no drain deletes it."""
    pending: tuple[PendingEntry, ...] = ()
    history: tuple[Event, ...] = ()
    """Newest first, at most HISTORY of all storages."""
    is_default: bool = False
    """Whether the name is the default of a field here, which no drain deletes."""
    excluded: tuple[str, ...] = ()
    """The sources among the pending ones whose files are left alone by now."""
    unresolved: bool = False
    """Whether no installed model has the field."""

    @property
    def is_known(self) -> bool:
        """Whether there is anything to tell."""
        there = self.file.presence not in (None, Presence.ABSENT)
        return bool(there or self.named or self.pending or self.history)

    @property
    def verdict(self) -> str:
        """Return, in a word, why the file is here, or why it went.

        named, unread: rows name it, or might. cancelled, keep, default, excluded, unclean: the next drain
        settles it, and the file stays. A reason of `DrainReport.waiting`: it waits for that. pending: it would
        go, but nobody looked. gone: a drain has dealt with it. stays: it is there, and no drain will touch it. absent.
        """
        if self.named:
            return "named"
        if self.pending:
            return self._of_pending()
        if self.file.presence is Presence.ABSENT:
            return "gone" if self.history else "absent"
        return "stays" if self.file.presence is not None else "unknown"

    def _of_pending(self) -> str:
        events = [entry.event for entry in self.pending]
        if self.unresolved:
            return "unresolved"
        if self.is_default:
            return "default"
        if self.excluded:
            return "excluded"
        waiting = [entry.waiting for entry in self.pending]
        reason = next((reason for reason in _LONGEST_FIRST[:2] if reason in waiting), None)
        if reason is None and self.unread:
            return "unread"
        if any(event.cancelled_at is not None for event in events):
            return "cancelled"
        if any(event.keep for event in events):
            return "keep"
        if reason is not None:
            return reason
        # What is due takes along what waits for a retry.
        return "due" if "due" in waiting else waiting[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """All that is known of a name in one database."""

    name: str
    database: str
    places: tuple[Place, ...]
    """One for each storage in which anything is known of it."""
    looked: tuple[str, ...]
    """The storages in which nothing of that name is."""
    unseen: tuple[tuple[str, str], ...] = ()
    """Storages of which nothing is known but that nobody could look, and why."""
    problems: tuple[str, ...] = ()
    """What is wrong with the database: paused, triggers missing, behind."""
    prepared: tuple[str, ...] = ()
    deletes: bool = True
    """PGCLEANUP_DELETE_FILES."""
    unclean: str = ""
    """Why it cannot be the name of a file in a storage."""
    similar: tuple[str, ...] = ()
    """Names that something is known of, and that the given one may have been meant for."""


def tell(using: str, name: str, sources: Sequence[str] | None = None, patience: Patience = PATIENCE) -> Story:
    """Find out all there is to know of a name; with `sources`, in the storages of those fields alone.

    Raises:
        DatabaseError: the ledger cannot be read. A storage, or a user's table within `patience`, that does not answer
            is told of.
    """
    view = _View(using, patience)
    found = list(view.places(name, sources))
    places = tuple(place for place in found if place.is_known)
    return Story(
        name=name,
        database=using,
        places=places,
        looked=tuple(place.storage for place in found if place.file.presence is Presence.ABSENT and not place.is_known),
        unseen=tuple(
            (place.storage, place.file.problem)
            for place in found
            if place.file.presence is None and not place.is_known and not unclean(name)
        ),
        unclean=unclean(name) or "",
        problems=tuple(str(problem) for problem in find_problems(using)),
        prepared=tuple(str(gid) for gid, *_ in fence.prepared_transactions(using)),
        deletes=settings.delete_files,
        similar=() if places else tuple(view.similar(name, sources)),
    )


class _View:
    """What is the same for every name."""

    def __init__(self, using: str, patience: Patience) -> None:
        inspection = inspect(using)
        columns = find_file_columns(using)
        self.using = using
        self.patience = patience
        self.columns = with_dropped(columns, inspection.known) if inspection is not None else columns
        self.stores = find_stores(self.columns)
        self.elsewhere: dict[str, FileColumns] = {}
        self.unanswered = ""
        try:
            self.elsewhere = Elsewhere(using, self.columns, inside_transaction=True).columns
        except DrainRefused as error:
            self.unanswered = str(error)

    def places(self, name: str, sources: Sequence[str] | None) -> Iterator[Place]:
        by_key: dict[str, tuple[list[PendingEntry], list[Event]]] = {key: ([], []) for key in self.stores}
        for entry in pending_entries(self.using, name, settings.grace_period):
            by_key.setdefault(self._key(entry.event.source), ([], []))[0].append(entry)
        for event in settled_events(self.using, name, HISTORY):
            by_key.setdefault(self._key(event.source), ([], []))[1].append(event)
        wanted = None if sources is None else {self._key(source) for source in sources}
        for key, (pending, history) in by_key.items():
            if wanted is None or key in wanted:
                yield self._place(key, name, pending, history)

    def similar(self, name: str, sources: Sequence[str] | None) -> Iterator[str]:
        """Yield what is left of a URL or a path that leads into a storage, where something is known of it."""
        for candidate in dict.fromkeys(_names_in(name, self.stores.values())):
            if candidate != name and any(place.is_known for place in self.places(candidate, sources)):
                yield candidate

    def _key(self, source: str) -> str:
        column = self.columns.by_source.get(source)
        return str(column.storage_key) if column is not None else f"source {source}"

    def _place(self, key: str, name: str, pending: list[PendingEntry], history: list[Event]) -> Place:
        store, here = self.stores.get(key), FileColumns(c for c in self.columns.stored if c.storage_key == key)
        if store is None:
            source = (*(entry.event.source for entry in pending), *(event.source for event in history))[0]
            file = File(presence=None, problem="its storage is not known here")
            return Place(
                storage=f"the field {source}, which no installed model has",
                sources=(source,),
                file=file,
                pending=tuple(pending),
                history=tuple(history),
                unresolved=True,
            )
        answers: list[Named | Unread] = []
        for alias, columns in {self.using: self.columns, **self.elsewhere}.items():
            answers += rows_naming(alias, columns.naming(key), name, KEYS, self.patience)
        unread = [answer for answer in answers if isinstance(answer, Unread)]
        if self.unanswered:
            unread.append(Unread(source="another database", database="", error=self.unanswered))
        return Place(
            storage=store.label,
            sources=tuple(column.source for column in here),
            file=_look(store, name),
            named=tuple(answer for answer in answers if isinstance(answer, Named)),
            unread=tuple(unread),
            pending=tuple(pending),
            history=tuple(history),
            is_default=name in _defaults(here),
            excluded=tuple(
                sorted({entry.event.source for entry in pending if self.columns.by_source[entry.event.source].excluded})
            ),
        )


def _look(store: Store, name: str) -> File:
    if (reason := unclean(name)) is not None:
        return File(presence=None, problem=f"not the name of a file in a storage: {reason}")
    try:
        seen = store.adapter.look(name)
    except Exception as error:  # whatever a third party's storage raises
        return File(presence=None, problem=error_text(error))
    return File(presence=seen.presence, size=seen.size, age=seen.age)


def _defaults(columns: FileColumns) -> set[str]:
    try:
        return default_names(columns)
    except Exception:  # a callable default of somebody's own; the drain says so
        return set()


def _names_in(text: str, stores: Any) -> Iterator[str]:
    plain = posixpath.normpath(text).lstrip("/")
    yield plain
    path = urlsplit(text).path
    for store in stores:
        storage: Any = store.adapter.storage
        for prefix in (getattr(storage, "base_url", None), getattr(storage, "location", None)):
            prefix = str(prefix or "").rstrip("/") + "/"
            for candidate in (text, path):
                if len(prefix) > 1 and candidate.startswith(prefix):
                    yield posixpath.normpath(candidate[len(prefix) :])
