"""The page of an entry: the whole story of its file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import DatabaseError
from django.http import HttpRequest
from django.urls import reverse
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from pgcleanup.admin.objects import linked_object
from pgcleanup.admin.rights import may_view
from pgcleanup.conf import settings
from pgcleanup.ledger import bounded, state
from pgcleanup.ledger.history import Event
from pgcleanup.models import PendingFileDeletion, SettledFileDeletion
from pgcleanup.status.events import what, who, why
from pgcleanup.status.rows import Patience
from pgcleanup.status.story import HISTORY, Place, Story, tell
from pgcleanup.status.telling import advice, conclusion, file_sentence, named_sentence, waiting_sentence
from pgcleanup.status.words import in_utc, kept_because

PATIENCE = Patience(each=timedelta(seconds=2), all=timedelta(seconds=8))
"""With a project's tables, in each database: somebody waits for the page."""
HISTORY_SECONDS = 5.0
# How a verdict of the story looks.
_TONES = {
    "failed": "bad",
    "retrying": "warning",
    "unread": "warning",
    "unresolved": "warning",
    "transaction": "warning",
}


def entry_page(model_admin: Any, request: HttpRequest, entry: Any) -> dict[str, Any]:
    """Return what the page of an entry shows besides its fields."""
    using = model_admin.using
    try:
        with bounded.at_most(using, HISTORY_SECONDS):
            story: Story | None = tell(using, entry.name, [entry.source], PATIENCE)
    except DatabaseError:
        story = None  # a history too large to search it for a name while somebody waits
    place = story.places[0] if story is not None and story.places else None
    said = conclusion(place) if place is not None else ""
    site = model_admin.admin_site
    if place is not None and not may_view(site, request, SettledFileDeletion):
        place = replace(place, history=())
    if place is not None and place.pending and not may_view(site, request, PendingFileDeletion):
        place = replace(place, pending=())
        said = _("The name is pending once more; what it waits for is for who may view pending file deletions.")
    return {
        "entry": entry,
        "is_pending": isinstance(entry, PendingFileDeletion),
        "steps": list(_steps(using, entry)),
        "object": linked_object(model_admin, request, entry),
        "story": story,
        "place": place,
        "conclusion": said,
        "tone": _TONES.get(place.verdict, "good") if place is not None else "warning",
        "advice": [_typed(step) for step in advice(story, place)] if story is not None and place is not None else [],
        "now": list(_now(story, place)) if story is not None and place is not None else [],
        "others": list(_others(model_admin, place, entry)) if place is not None else [],
        "more": place is not None and len(place.history) >= HISTORY,
        "log": _log(using, place, entry),
        "can_retry": may(model_admin, "retry", request),
        "can_cancel": may(model_admin, "cancel", request),
    }


def may(model_admin: Any, action: str, request: HttpRequest) -> bool:
    """Whether this admin has the action, and this user may use it."""
    permission = getattr(model_admin, f"has_{action}_permission", None)
    return permission is not None and bool(permission(request))


def _steps(using: str, entry: Any) -> Iterator[tuple[datetime | None, str]]:
    """Yield what happened to the entry itself, with the time where that is known."""
    event = _event(entry)
    yield (
        entry.recorded_at,
        _("%(why)s. That was done by %(who)s.")
        % {
            "why": why(event).rpartition(" at ")[0],
            "who": who(event),
        },
    )
    if entry.keep:
        yield None, _("It was let go under keep(): the file stays.")
    seen_at = _seen(using, entry)
    if seen_at is not None:
        yield seen_at, _("A drain saw it for the first time, committed: the grace period begins.")
        over = seen_at + settings.grace_period
        if isinstance(entry, PendingFileDeletion) or over < entry.settled_at:
            yield over, _ahead(over, _("The grace period ends, as PGCLEANUP_GRACE_PERIOD is set now."))
    if entry.attempts:
        tried = _("It could not be deleted, %(attempts)s times so far. The last error: %(error)s")
        yield None, tried % {"attempts": entry.attempts, "error": entry.last_error}
    if entry.cancelled_at is not None:
        yield entry.cancelled_at, _("Somebody cancelled the deletion: the file stays.")
    if isinstance(entry, SettledFileDeletion):
        said = f"{capfirst(what(event).rpartition(' at ')[0].strip(', '))}"
        yield entry.settled_at, f"{said}. {_('By the drain')} {entry.drained_by}."
    elif entry.exhausted_at is not None:
        yield entry.exhausted_at, _("Given up after PGCLEANUP_MAX_ATTEMPTS attempts: a person is needed.")
    elif entry.retry_at is not None:
        yield entry.retry_at, _ahead(entry.retry_at, _("It is looked at again."))


def _typed(step: str) -> str:
    return _("Run: %(command)s") % {"command": step} if step.startswith("manage.py") else str(capfirst(step))


def _ahead(when: datetime, what: str) -> str:
    return _("Still to come: %(what)s") % {"what": what} if in_utc(when) > datetime.now(timezone.utc) else what


def _seen(using: str, entry: Any) -> datetime | None:
    if isinstance(entry, SettledFileDeletion):
        return entry.stamped_at
    return state.reasons(using, [entry.pk], settings.grace_period).get(entry.pk, ("", None))[1]


def _now(story: Story, place: Place) -> Iterator[str]:
    yield file_sentence(place)
    yield from (named_sentence(story, named) for named in place.named)
    if not place.named and not place.unread and not place.unresolved:
        yield _("No row names it.")
    for unread in place.unread:
        yield f"Whether {unread.source} names it could not be read: {unread.error}"
    for pending in place.pending:
        yield waiting_sentence(pending)


def _others(model_admin: Any, place: Place, entry: Any) -> Iterator[dict[str, Any]]:
    """Yield the other entries of the name in the same storage, the pending ones first."""
    events = [*(pending.event for pending in reversed(place.pending)), *place.history]
    site = model_admin.admin_site.name
    for event in events:
        if event.id == entry.pk:
            continue
        model = "settledfiledeletion" if event.settled_at is not None else "pendingfiledeletion"
        yield {
            "url": reverse(f"admin:pgcleanup_{model}_change", args=[event.id], current_app=site),
            "recorded_at": event.recorded_at,
            "why": why(event).rpartition(" at ")[0],
            "what": _outcome(event),
            "when": event.settled_at,
        }


def _outcome(event: Event) -> str:
    reason = kept_because(event.reason) if event.outcome == "kept" else event.reason
    return f"{event.outcome}: {reason}" if reason else event.outcome


def _log(using: str, place: Place | None, entry: Any) -> list[LogEntry]:
    """Return what people did to the entries of the name, in this admin."""
    ids = {entry.pk}
    if place is not None:
        ids |= {pending.event.id for pending in place.pending} | {event.id for event in place.history}
    kind = ContentType.objects.get_for_model(PendingFileDeletion)
    entries = LogEntry.objects.filter(content_type=kind, object_id__in=[str(id_) for id_ in ids])
    return list(entries.select_related("user").order_by("-action_time")[:HISTORY])


def _event(entry: Any) -> Event:
    settled = isinstance(entry, SettledFileDeletion)
    return Event(
        id=entry.pk,
        source=entry.source,
        name=entry.name,
        object_pk=entry.object_pk,
        operation=entry.operation,
        transaction_id=entry.transaction_id,
        db_user=entry.db_user,
        application_name=entry.application_name,
        context=entry.context,
        keep=entry.keep,
        recorded_at=entry.recorded_at,
        attempts=entry.attempts,
        last_error=entry.last_error,
        cancelled_at=entry.cancelled_at,
        outcome=entry.outcome if settled else "pending",
        reason=entry.reason if settled else "",
        bytes=entry.bytes if settled else None,
        settled_at=entry.settled_at if settled else None,
        drained_by=entry.drained_by if settled else "",
    )
