"""What is true after the drain, read back from the disk, the users' tables, the ledger and the history.

The look at the users' tables is plain SQL of the demo's own: it must not share a mistake with pgcleanup's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.db import connection

from demo.library.models import Goodbye
from demo.site import Site
from demo.story import DEFAULT_AVATAR, Change, Expected, File, sizes
from pgcleanup.ledger import state
from pgcleanup.models import Outcome, PendingFileDeletion, SettledFileDeletion

FILE_COLUMNS = {
    ("media", "library_document", "file"),
    ("media", "library_photo", "image"),
    ("media", "library_profile", "avatar"),
    ("archive", "library_invoice", "file"),
    ("media", "library_scan", "file"),
    ("media", "post_office_attachment", "file"),
}


@dataclass
class Done:
    """A change that was made, with the entries that the database recorded of it."""

    change: Change
    expected: Expected
    recorded: int


@dataclass
class Facts:
    """One look at everything."""

    on_disk: dict[File, int]
    named: dict[File, str]
    """Which column names a file."""
    history: dict[str, SettledFileDeletion]
    pending: int
    goodbyes: list[str]
    oldest: timedelta | None
    """How long the oldest pending entry is past a grace period of zero."""
    before: dict[File, int]
    """The files that there were before the drain, where it matters."""

    def went(self, file: File) -> bool:
        """Whether the file is not on disk."""
        return file not in self.on_disk

    def reason(self, file: File) -> str:
        """Say why a file went or stayed, as the history has it, else the users' tables."""
        entry = self.history.get(file[1])
        if self.went(file):
            if entry is not None:
                return entry.outcome
            thumbnail = file[1].rpartition("/")[2].count(".") > 1
            return "by easy-thumbnails" if thumbnail else "the history knows nothing of it"
        if entry is None:
            return f"{self.named.get(file, 'no row')} names it"
        if entry.outcome != Outcome.KEPT:
            return f"the history says: {entry.outcome}"
        return "kept: it is a default" if entry.reason == "default" else f"kept: {entry.reason} still names it"


def make(change: Change, site: Site) -> Done:
    """Make one change, and count what the database recorded of it."""
    before = PendingFileDeletion.objects.count()
    expected = change.do(site)
    return Done(change, expected, PendingFileDeletion.objects.count() - before)


def look(site: Site, *, before: dict[File, int] | None = None) -> Facts:
    """Read everything back."""
    return Facts(
        before=before or {},
        on_disk=sizes(site),
        named=_named(),
        # The newest entry of a name last: it is the one that counts.
        history={entry.name: entry for entry in SettledFileDeletion.objects.order_by("settled_at", "id")},
        pending=PendingFileDeletion.objects.count(),
        goodbyes=list(Goodbye.objects.values_list("name", flat=True)),
        oldest=state.oldest_age("default", timedelta(0)),
    )


def broken(done: list[Done], facts: Facts) -> dict[str, list[str]]:
    """Return what breaks each of the four promises; empty lists where they hold."""
    must_go = {file for one in done for file in one.expected.goes}
    must_stay = {file for one in done for file in one.expected.stays} | {("media", DEFAULT_AVATAR)}
    deleted = [entry.name for entry in facts.history.values() if entry.outcome == Outcome.DELETED]
    return {
        "never early": [
            *(f"{name} is gone, although {facts.named[place, name]} names it" for place, name in _gone(facts)),
            *(f"{name} is gone" for place, name in sorted(must_stay - set(facts.on_disk) - set(facts.named))),
        ],
        "never lost": [
            *(f"{name} is still there" for _, name in sorted(must_go & set(facts.on_disk))),
            *(f"{name} is there, but no row names it" for _, name in sorted(_without_row(facts) - must_go)),
            *([f"{facts.pending} names are still pending"] if facts.pending else []),
        ],
        "at least once": [f"no signal for {name}" for name in deleted if name not in facts.goodbyes],
        "one visible age": [f"the oldest is {facts.oldest}"] if facts.oldest is not None else [],
    }


def _named() -> dict[File, str]:
    named = {}
    with connection.cursor() as cursor:
        for place, table, column in sorted(FILE_COLUMNS):
            cursor.execute(f"SELECT {column} FROM {table} WHERE {column} <> ''")
            named.update({(place, name): f"{table}.{column}" for (name,) in cursor.fetchall()})
    return named


def _gone(facts: Facts) -> list[File]:
    return sorted(set(facts.named) - set(facts.on_disk))


def _without_row(facts: Facts) -> set[File]:
    """Return the files that neither a row nor a default names; a thumbnail belongs to its photo's row."""
    owners = tuple(f"{name}." for _, name in facts.named)
    return {
        (place, name)
        for place, name in facts.on_disk
        if (place, name) not in facts.named and name != DEFAULT_AVATAR and not name.startswith(owners)
    }
