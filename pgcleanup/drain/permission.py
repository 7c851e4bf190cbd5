"""Whether a drain may delete at all: not while it is paused, and not in a copy of the database it belongs to."""

from __future__ import annotations

import getpass
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

from pgcleanup.conf import settings
from pgcleanup.ledger import control
from pgcleanup.ledger.control import Control, Pause
from pgcleanup.ledger.identity import Identity, present_identity

# A running drain looks so often whether it was paused, between two files and between two batches.
SECONDS_BETWEEN_LOOKS = 1.0


@dataclass(frozen=True, slots=True)
class Withheld:
    """Why nothing may be deleted, and what to do about it."""

    sentence: str
    advice: str
    by_pause: bool = False

    def __str__(self) -> str:
        """Say it with what to do."""
        return f"{self.sentence} {self.advice}"


def withheld(using: str, *, compare: bool = True, addresses: bool = True) -> Iterator[Withheld]:
    """Yield why no drain may delete in this database now.

    Args:
        using: the database alias.
        compare: look whether it is the database that was drained before.
        addresses: count the address by which this process reaches it, which may rightly differ from the drain's.
    """
    found = control.read(using)
    if found.pause is not None:
        yield paused(using, found.pause)
    # Where nothing is deleted, a copy may look.
    if compare and settings.delete_files and found.identity is not None:
        now = present_identity(using)
        differences = [*found.identity.differences(now)]
        if addresses and (moved := found.identity.moved_to(now)) is not None:
            differences.append(moved)
        if differences:
            yield _copied(using, found, found.identity, now, differences)


def is_first_drain(using: str) -> bool:
    """Whether none has been noted in this database."""
    return control.read(using).identity is None


def note_drain(using: str) -> None:
    """Write down which database is drained: its first drain tells its copies from it."""
    known, now = control.read(using).identity, present_identity(using)
    if known is None:
        control.remember(using, now, person())
    elif not any(known.differences(now)) and known.moved_to(now) is None:
        control.drained(using, now)


def person() -> str:
    """Name who runs this process, for the record."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container whose user has no name
        user = "somebody"
    return f"{user}@{socket.gethostname()}"


def paused(using: str, pause: Pause) -> Withheld:
    """Return the words for a pause."""
    by = f" by {pause.by}" if pause.by else ""
    reason = f": {pause.reason.rstrip('.')}" if pause.reason else ""
    return Withheld(
        f'deletions in database "{using}" are paused since {_moment(pause.at)}{by}{reason}.',
        f"To go on: manage.py pgcleanup resume --database {using}",
        by_pause=True,
    )


class PauseWatch:
    """Tells a running drain that it was paused meanwhile, at the cost of a query now and then."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._looked = time.monotonic()
        self._found: Withheld | None = None

    def __call__(self) -> Withheld | None:
        """Return why to stop, if it is time to look and there is a pause. Once there is one, it stays."""
        if self._found is None and time.monotonic() - self._looked >= SECONDS_BETWEEN_LOOKS:
            pause = control.paused(self._using)
            self._looked = time.monotonic()
            self._found = paused(self._using, pause) if pause is not None else None
        return self._found


def _copied(using: str, found: Control, known: Identity, now: Identity, differences: list[str]) -> Withheld:
    drained = f", last drained at {_moment(found.drained_at)}" if found.drained_at is not None else ""
    return Withheld(
        f'database "{using}" is not the one that was drained before: {" and ".join(differences)}. '
        f"It was {known}{drained}; now it is {now}.",
        "If it is a copy (staging, a restored backup), its files may belong to the other one: set "
        "PGCLEANUP_DELETE_FILES = False here, or give it storages of its own. If it is the same one, moved or "
        f"upgraded, or has storages of its own: manage.py pgcleanup adopt --database {using}",
    )


def _moment(value: datetime) -> str:
    return f"{value.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
