"""Retry and cancel, as actions with permissions of their own, a confirmation, and an entry in the admin's log."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.db import DatabaseError
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from pgcleanup.admin.lists import COUNTED
from pgcleanup.columns import find_file_columns
from pgcleanup.ledger.operating import Operated, Selection, operate
from pgcleanup.models import PendingFileDeletion
from pgcleanup.status.rights import unchangeable
from pgcleanup.status.words import listed, plural, shown

SHOWN = 20
CHOSEN = "chosen"
"""The confirmed entries in one field: Django takes no more than a thousand."""

_WORDS: dict[str, dict[str, Any]] = {
    "retry": {
        "title": gettext_lazy("Try again"),
        "explanation": gettext_lazy(
            "The next drain tries these files again, with all their attempts. Files that wait for their grace period "
            "or for an open transaction go on waiting."
        ),
        "sure": gettext_lazy("Yes, try again"),
        "done": gettext_lazy("%(files)s will be tried again by the next drain."),
        "log": gettext_lazy("Told the next drain to try the file again."),
    },
    "cancel": {
        "title": gettext_lazy("Cancel the deletion"),
        "explanation": gettext_lazy(
            "These files are kept: they stay in the storage for good. Each is settled as cancelled by the drain that "
            "would have deleted it. A name that is let go once more later is a new entry."
        ),
        "sure": gettext_lazy("Yes, keep the files"),
        "done": gettext_lazy("%(files)s cancelled, and kept in the storage."),
        "log": gettext_lazy("Cancelled the deletion: the file stays."),
    },
}

# As in ledger.operating.
_TO_DO = {
    "retry": Q(attempts__gt=0) | Q(retry_at__isnull=False) | Q(exhausted_at__isnull=False),
    "cancel": Q(cancelled_at=None) | Q(retry_at__isnull=False),
}


class Operations:
    """The two actions, for `PendingAdmin`."""

    using: str
    admin_site: admin.AdminSite

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Whether this user may try files again."""
        return request.user.has_perm("pgcleanup.retry_pendingfiledeletion")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Whether this user may let files be kept."""
        return request.user.has_perm("pgcleanup.cancel_pendingfiledeletion")

    @admin.action(description=gettext_lazy("Try the selected files again"), permissions=["retry"])
    def retry(self, request: HttpRequest, queryset: QuerySet[PendingFileDeletion]) -> TemplateResponse | None:
        return self._operate("retry", request, queryset)

    @admin.action(description=gettext_lazy("Cancel: keep the selected files"), permissions=["cancel"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[PendingFileDeletion]) -> TemplateResponse | None:
        return self._operate("cancel", request, queryset)

    def _operate(
        self, action: str, request: HttpRequest, queryset: QuerySet[PendingFileDeletion]
    ) -> TemplateResponse | None:
        if CHOSEN in request.POST:
            queryset = queryset.filter(pk__in=_keys(request.POST[CHOSEN]))
        elif request.POST.get("select_across") == "1":
            # Of more than COUNTED the next time takes the next ones.
            queryset = queryset.filter(_TO_DO[action])
        entries = list(queryset.order_by("id")[:COUNTED])
        if not entries:
            messages.warning(request, _("None of the selected files is pending any more, or waits for this."))
            return None
        if "post" not in request.POST:
            return self._ask(action, request, entries)
        if (lacking := unchangeable(self.using)) is not None:
            messages.error(request, " ".join(lacking))
            return None
        try:
            done = _by_storage(self.using, action, entries)
        except DatabaseError as error:
            text = str(error).strip().splitlines()[0]
            messages.error(request, _("Nothing was changed: %(error)s. Try again in a minute.") % {"error": text})
            return None
        _report(action, request, done)
        _note(action, request, entries, done)
        return None

    def _ask(self, action: str, request: HttpRequest, entries: list[PendingFileDeletion]) -> TemplateResponse:
        """Show what is about to be done to which files."""
        names = list(dict.fromkeys((entry.name, entry.source) for entry in entries))
        context = {
            **self.admin_site.each_context(request),
            **_WORDS[action],
            "opts": PendingFileDeletion._meta,
            "action": action,
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
            "chosen": ",".join(str(entry.pk) for entry in entries),
            "files": plural(len({entry.name for entry in entries}), "file"),
            "names": [(shown(name), source) for name, source in names[:SHOWN]],
            "rest": max(len(names) - SHOWN, 0),
            "capped": len(entries) >= COUNTED,
            "counted": f"{COUNTED:,}",
        }
        return TemplateResponse(request, "admin/pgcleanup/confirm.html", context)


def _keys(text: str) -> list[int]:
    return [int(key) for key in text.split(",") if key.isdecimal() and len(key) < 19]


def _by_storage(using: str, action: str, entries: list[PendingFileDeletion]) -> Operated:
    """Do it, storage by storage: the same name in another one is another file."""
    columns = find_file_columns(using)
    places = {column.source: str(column.storage_key) for column in columns.stored}
    wanted: dict[str, dict[str, None]] = {}
    for entry in entries:
        wanted.setdefault(places.get(entry.source, f"source {entry.source}"), {})[entry.name] = None
    total = Operated()
    for place, names in wanted.items():
        here = [source for source in {entry.source for entry in entries} if _place(places, source) == place]
        sources = tuple({*here, *(source for source, key in places.items() if key == place)})
        done = operate(using, action, Selection(names=tuple(names), sources=sources), columns)
        total.changed += done.changed
        total.busy |= done.busy
        total.unchanged += done.unchanged
        total.not_pending += done.not_pending
    return total


def _place(places: dict[str, str], source: str) -> str:
    return places.get(source, f"source {source}")


def _report(action: str, request: HttpRequest, done: Operated) -> None:
    if done.changed:
        messages.success(request, capfirst(_WORDS[action]["done"] % {"files": plural(done.changed, "file")}))
    if done.unchanged:
        unchanged = _("Cancelled before: %(names)s.") if action == "cancel" else _("Nothing to retry: %(names)s.")
        messages.info(request, unchanged % {"names": _listed(done.unchanged)})
    if done.busy:
        text = _("A drain works on these right now, so they are left as they are: %(names)s. Try again in a minute.")
        messages.warning(request, text % {"names": _listed(sorted({name for _, name in done.busy}))})
    if done.not_pending:
        messages.warning(request, _("Not pending any more: %(names)s.") % {"names": _listed(done.not_pending)})


def _note(action: str, request: HttpRequest, entries: list[PendingFileDeletion], done: Operated) -> None:
    """Write it into the admin's log, for each selected entry that was changed."""
    left = {*done.unchanged, *done.not_pending, *(name for _, name in done.busy)}
    changed = [entry for entry in entries if entry.name not in left]
    if changed:
        pages = [changed[start : start + 1_000] for start in range(0, len(changed), 1_000)]
        for page in pages:
            message = str(_WORDS[action]["log"])
            LogEntry.objects.log_actions(request.user.pk, page, CHANGE, message)  # type: ignore[arg-type]  # logged in


def _listed(names: Any) -> str:
    return listed([shown(name) for name in names])


__all__ = ["Operations"]
