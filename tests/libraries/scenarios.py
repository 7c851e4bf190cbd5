"""Run in a process of its own: what becomes of files where the libraries are installed. Prints JSON."""

from __future__ import annotations

import io
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import django

django.setup()

import pghistory  # noqa: E402
from django.conf import settings  # noqa: E402
from django.core.files.base import ContentFile  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.test import RequestFactory, override_settings  # noqa: E402
from easy_thumbnails.files import get_thumbnailer  # noqa: E402
from easy_thumbnails.models import Source  # noqa: E402
from PIL import Image  # noqa: E402
from sorl import thumbnail as sorl  # noqa: E402

import pgcleanup  # noqa: E402
from pgcleanup import sql  # noqa: E402
from pgcleanup.drain import drain  # noqa: E402
from pgcleanup.middleware import ContextMiddleware  # noqa: E402
from pgcleanup.signals import cleanup_post_delete, cleanup_pre_delete  # noqa: E402
from pgcleanup.triggers import sync  # noqa: E402
from tests.libraries.models import Contract, Letter, Portrait, Poster  # noqa: E402


def files() -> list[str]:
    root = Path(settings.MEDIA_ROOT)
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def picture() -> ContentFile:
    buffer = io.BytesIO()
    Image.new("RGB", (400, 300), "red").save(buffer, "JPEG")
    return ContentFile(buffer.getvalue(), "picture.jpg")


def drained(**overrides: Any) -> dict[str, Any]:
    """Drain with these settings, and tell what became of the names and which files are left."""
    with override_settings(**overrides):
        sync("default")
        before = files()
        report = drain()
    history = sql.fetch("default", "SELECT name, outcome, reason FROM settled_file_deletion ORDER BY id")
    sql.execute("default", "TRUNCATE settled_file_deletion")
    return {
        "before": before,
        "after": files(),
        "history": history,
        "exit_code": report.exit_code,
        "problems": [*report.problems, *report.uncovered, *report.refused],
    }


def simple_history(**overrides: Any) -> dict[str, Any]:
    letter = Letter.objects.create(file=ContentFile(b"Dear", "letter.txt"))
    letter.delete()
    try:
        return {**drained(**overrides), "copies": list(Letter.history.values_list("file", flat=True))}
    finally:
        Letter.history.all().delete()
        clear()


def pg_history(**overrides: Any) -> dict[str, Any]:
    contract = Contract.objects.create(file=ContentFile(b"We", "contract.txt"))
    contract.delete()
    events = Contract.pgh_event_model.objects
    try:
        return {**drained(**overrides), "copies": list(events.values_list("file", flat=True))}
    finally:
        events.all().delete()
        clear()


def pghistory_context() -> dict[str, Any]:
    """Let names go with the context of django-pghistory, of ours, of both, and of the middleware with theirs."""

    def let_go(name: str) -> None:
        Poster.objects.create(image=name)
        Poster.objects.filter(image=name).delete()

    def view(request: HttpRequest) -> HttpResponse:
        with pghistory.context(user=8):
            let_go("middleware and theirs")
        return HttpResponse()

    let_go("none")
    with pghistory.context(user=7, since=datetime(2026, 1, 1)):
        let_go("theirs")
        with pgcleanup.context(job="resize"):
            let_go("both")
    let_go("none again")
    ContextMiddleware(view)(RequestFactory().get("/there/"))
    rows = sql.fetch("default", "SELECT name, context FROM pending_file_deletion ORDER BY id")
    clear()
    contexts = {name: json.loads(context) if context else None for name, context in rows}
    return {"contexts": contexts, "exit_code": 0, "problems": []}


def easy_thumbnails() -> dict[str, Any]:
    portrait = Portrait.objects.create(image=picture())
    get_thumbnailer(portrait.image).get_thumbnail({"size": (50, 50)})
    get_thumbnailer(portrait.image).get_thumbnail({"size": (80, 80)})
    told: list[str] = []
    receiver = lambda **kwargs: told.append(f"{type(kwargs['file']).__name__} {kwargs['success']}")  # noqa: E731
    cleanup_post_delete.connect(receiver)
    Portrait.objects.all().delete()
    try:
        return {**drained(), "told": told}
    finally:
        cleanup_post_delete.disconnect(receiver)


def sorl_thumbnail(**options: Any) -> dict[str, Any]:
    """Delete a poster and, on the same site, a portrait of easy-thumbnails, with the receiver of sorl's users."""
    poster = Poster.objects.create(image=picture())
    sorl.get_thumbnail(poster.image, "50x50")
    portrait = Portrait.objects.create(image=picture())
    get_thumbnailer(portrait.image).get_thumbnail({"size": (50, 50)})
    receiver = lambda **kwargs: sorl.delete(kwargs["file"], **options)  # noqa: E731
    cleanup_pre_delete.connect(receiver)
    Poster.objects.all().delete()
    Portrait.objects.all().delete()
    try:
        return {**drained(), "sources": Source.objects.count()}
    finally:
        cleanup_pre_delete.disconnect(receiver)
        Source.objects.all().delete()
        clear()


def clear() -> None:
    for path in files():
        Path(settings.MEDIA_ROOT, path).unlink()
    sql.execute("default", "DELETE FROM pending_file_deletion; TRUNCATE settled_file_deletion")


def main() -> None:
    call_command("migrate", verbosity=0)  # first: the tables of apps without migrations refer to others
    call_command("migrate", run_syncdb=True, verbosity=0)
    call_command("pgtrigger", "install")
    event = Contract.pgh_event_model._meta.label
    results = {
        "simple_history": simple_history(),
        "simple_history_extra": simple_history(PGCLEANUP_EXTRA_REFERENCES=["libraries.HistoricalLetter.file"]),
        "pghistory": pg_history(),
        "pghistory_ignored": pg_history(PGCLEANUP_IGNORE_REFERENCES=[f"{event}.file"]),
        "pghistory_context": pghistory_context(),
        "easy_thumbnails": easy_thumbnails(),
        "sorl_thumbnail": sorl_thumbnail(delete_file=False),
        "sorl_thumbnail_as_before": sorl_thumbnail(),
    }
    print("RESULTS " + json.dumps(results))


if __name__ == "__main__":
    main()
