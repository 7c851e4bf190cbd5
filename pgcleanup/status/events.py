"""What became of a name, in a sentence: file X went at T, by Y, because of Z."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import Any

from pgcleanup.ledger.history import Event, context_value
from pgcleanup.models import Outcome
from pgcleanup.status.words import in_utc, kept_because, shown, size

PENDING, FAILED = "pending", "failed"


def sentence(event: Event) -> str:
    """Say all of it, with full dates: it is read years later."""
    return f"{shown(event.name)} {what(event)}, because {why(event)}. That was done by {who(event)}."


def what(event: Event) -> str:
    """Say what became of the name, and when."""
    if event.settled_at is None:
        state = "failed for good, and is still there" if event.outcome == FAILED else "is pending"
        if event.cancelled_at is not None:
            state = f"was cancelled at {at(event.cancelled_at)} and is kept, but not settled yet: it is pending"
        return f"{state}, since {at(event.recorded_at)}"
    return f"{_outcome(event)} at {at(event.settled_at)}"


def why(event: Event) -> str:
    """Say what made the name go, and when."""
    row = row_of(event)
    phrase = {
        "UPDATE": f"{row} was given another file, or none",
        "DELETE": f"{row} was deleted",
        "TRUNCATE": f"the table of {row} was truncated",
        "DROP": f"the field was dropped, which held it in {row}",
    }.get(event.operation, f"{row} let it go ({event.operation})")
    return f"{phrase} at {at(event.recorded_at)}"


def who(event: Event) -> str:
    """Say who made the name go, as far as the database knew."""
    parts = [f"database user {event.db_user}"]
    parts += [f'application "{shown(event.application_name)}"'] if event.application_name else []
    parts += [f"context {shown(event.context, 300)}"] if event.context else []
    return ", ".join([*parts, f"transaction {event.transaction_id}"])


def row_of(event: Event) -> str:
    """Name the row that held the name: model, key and field."""
    model, _, field = event.source.rpartition(".")
    return f"{model} {shown(event.object_pk)} ({field})" if event.object_pk is not None else f"a row of {event.source}"


def at(value: datetime) -> str:
    """Return a time with its date."""
    return f"{in_utc(value):%Y-%m-%d %H:%M:%S} UTC"


def event_fields(event: Event) -> dict[str, Any]:
    """Return an event for machines, and in a sentence."""
    values = {field.name: getattr(event, field.name) for field in fields(Event)}
    return values | {"context": context_value(event.context, strict=True), "sentence": sentence(event)}


def _outcome(event: Event) -> str:
    match event.outcome:
        case Outcome.DELETED.value:
            return f"was deleted ({size(event.bytes)})" if event.bytes is not None else "was deleted"
        case Outcome.ABSENT.value:
            return "was found to be gone already"
        case Outcome.KEPT.value:
            return f"was kept, {kept_because(event.reason)},"
        case Outcome.REJECTED.value:
            return f"was left alone as no name of a file to delete ({event.reason})"
        case Outcome.CANCELLED.value:
            return "was kept, since somebody cancelled its deletion,"
    return f"was settled as {event.outcome}"
