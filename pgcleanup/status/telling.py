"""The story of a file name in sentences, for the terminal and for the admin."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote

from pgcleanup.ledger.story import PendingEntry
from pgcleanup.status.events import what, who, why
from pgcleanup.status.rows import Named
from pgcleanup.status.story import HISTORY, Place, Story
from pgcleanup.status.words import ahead, duration, moment, shown, size
from pgcleanup.storages import Presence

_SO = {
    "named": "It stays as long as a row names it.",
    "unread": "No drain deletes it while what might name it cannot be read.",
    "cancelled": "Somebody cancelled its deletion: the drain that would have deleted it settles it, and it stays.",
    "keep": "It was let go under keep(): the drain that would have deleted it settles it, and it stays.",
    "default": "It is the default of its field, which no drain deletes: the next one settles it as kept.",
    "excluded": "The files of {excluded} are left alone (PGCLEANUP_EXCLUDE or a decorator): it stays.",
    "unresolved": "No installed model has the field {source}, so nobody knows where its file is: it is left alone.",
    "grace_period": "It waits out its grace period (PGCLEANUP_GRACE_PERIOD).",
    "transaction": "It is past its grace period, and waits for open transactions, which could write the name back.",
    "retrying": "It could not be deleted, and is tried again.",
    "failed": "It could not be deleted in PGCLEANUP_MAX_ATTEMPTS attempts: a person is needed.",
    "upload_window": "The file was too young when a drain looked (PGCLEANUP_UPLOAD_WINDOW), and is looked at again.",
    "other_entry": "The name was let go once more a moment ago, and is looked at again.",
    "due": "Nothing names it any more, and nothing is left to wait for: it goes with the next drain.",
    "gone": "It is gone; the history says how.",
    "absent": "There is no such file.",
    "stays": "No row names it, and nothing is pending: it stays, since a drain deletes only what a trigger recorded.",
    "unknown": "Whether the file is there could not be seen.",
}


def sentences(story: Story, place: Place) -> Iterator[str]:
    """Yield all there is to say of a name in one storage."""
    yield file_sentence(place)
    for named in place.named:
        yield named_sentence(story, named)
    if not place.named and not place.unread and not place.unresolved:
        yield "No row names it."
    for unread in place.unread:
        yield f"Whether {unread.source} names it could not be read: {unread.error}"
    for entry in place.pending:
        yield from pending_sentences(entry)
    for event in place.history:
        yield f"{what(event)[0].upper()}{what(event)[1:]}, because {why(event)}. That was done by {who(event)}."
    if len(place.history) == HISTORY:
        yield f"There may be more than these {HISTORY}. All of it: {command(story, 'export --name', story.name)}"
    yield f"So: {conclusion(place)}"
    for step in advice(story, place):
        yield f"Next: {step}"


def file_sentence(place: Place) -> str:
    """Say whether the file is there."""
    file = place.file
    if file.presence is None:
        return f"Whether the file is there is not known: {file.problem}."
    if file.presence is Presence.ABSENT:
        return "The file is not there."
    if file.presence is Presence.ALIAS:
        return "The storage has a file like this under another name, so this one is the name of no file."
    what_ = "A directory is there" if file.presence is Presence.DIRECTORY else "The file is there"
    known = [size(file.size)] if file.size is not None else []
    known += [f"written {duration(file.age)} ago"] if file.age is not None else []
    return f"{what_}{': ' if known else ''}{', '.join(known)}."


def named_sentence(story: Story, named: Named) -> str:
    """Say which rows of a column name it."""
    where = f' in database "{named.database}"' if named.database != story.database else ""
    keys = [shown(key) for key in named.keys if key is not None]
    rows = f"{', '.join(keys)}{' and others' if named.more else ''}" if keys else "a row without a primary key"
    return f"Named by {named.source}{where}: {rows}."


def pending_sentences(entry: PendingEntry) -> Iterator[str]:
    """Say of an entry who made it, and what it waits for."""
    event = entry.event
    yield f"Pending since {moment(event.recorded_at)}: {why(event)}. That was done by {who(event)}."
    if event.cancelled_at is not None:
        yield f"  Cancelled at {moment(event.cancelled_at)}."
    if event.keep:
        yield "  Let go under keep()."
    yield f"  {waiting_sentence(entry)}"


def waiting_sentence(entry: PendingEntry) -> str:
    """Say what an entry waits for."""
    error = entry.event.last_error
    again = f"tried again at {ahead(entry.retry_at)}" if entry.retry_at is not None else "tried again"
    match entry.waiting:
        case "grace_period" if entry.due_at is None:
            return "No drain has seen it yet; its grace period begins with the first that does."
        case "grace_period" if entry.due_at is not None:
            return f"In its grace period until {ahead(entry.due_at)}."
        case "transaction":
            held = "; ".join(_held(*session) for session in entry.holders) or "one that has just ended"
            return f"Waits for an open transaction: {held}."
        case "retrying":
            return f"Failed {entry.event.attempts} times, {again}. The last error: {error}"
        case "failed":
            return f"Failed {entry.event.attempts} times, and is tried no more. The last error: {error}"
        case "due":
            return "Past its grace period, and waits for the next drain."
    return f"Left by a drain, {again}: {error.partition(': ')[2] or error}"


def _held(pid: int | None, user: str | None, application: str | None) -> str:
    if pid is None:
        return "of a session that is not visible"
    return ", ".join(
        [f"pid {pid}", *([f"user {user}"] if user else []), *([f'application "{application}"'] if application else [])]
    )


def conclusion(place: Place) -> str:
    """Say in one sentence why the file is here, or why it went."""
    text = _SO.get(place.verdict, f"It waits ({place.verdict}).")
    return text.format(excluded=", ".join(place.excluded), source=", ".join(place.sources))


def advice(story: Story, place: Place) -> Iterator[str]:
    """Yield what to type next."""
    verdict = place.verdict
    cancel = f"To keep the file: {command(story, 'cancel', story.name)}"
    if verdict in ("failed", "retrying"):
        yield f"mend what the error says, then: {command(story, 'retry', story.name)}"
    elif verdict == "transaction":
        pids = sorted({str(held.pid) for entry in place.pending for held in entry.holders if held.pid is not None})
        if pids:
            yield f"look at it: SELECT * FROM pg_stat_activity WHERE pid IN ({', '.join(pids)});"  # noqa: S608 -- for people
    elif verdict in ("due", "grace_period", "upload_window", "other_entry"):
        due = [entry.due_at for entry in place.pending if entry.due_at is not None and verdict == "grace_period"]
        after = f", after {moment(max(due))}" if due else ""
        yield f"manage.py drain_deletions{_database(story)}{after}"
    if verdict in ("failed", "retrying", "transaction", "due", "grace_period", "upload_window", "other_entry"):
        yield cancel


def command(story: Story, subcommand: str, name: str) -> str:
    """Return the command line of a subcommand for this name."""
    dashes = "-- " if name.startswith("-") else ""
    return f"manage.py pgcleanup {subcommand}{_database(story)} {dashes}{quote(name)}"


def _database(story: Story) -> str:
    return "" if story.database == "default" else f" --database {story.database}"
