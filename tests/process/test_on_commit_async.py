"""PGCLEANUP_DRAIN_ON_COMMIT under ASGI: real requests to async and sync views, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.drain.support import put
from tests.project.models import Document
from tests.support import CHECKOUT, history, ledger

# Views and requests as a server would make them: each request a task of its own, ORM calls in threads.
PROGRAM = """
import asyncio, json, sys
from datetime import timedelta
import django
from django.conf import settings
settings.PGCLEANUP_GRACE_PERIOD = settings.PGCLEANUP_UPLOAD_WINDOW = timedelta(0)
settings.PGCLEANUP_DRAIN_ON_COMMIT = True
settings.ROOT_URLCONF = __name__
settings.MIDDLEWARE = []
django.setup()
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.core.asgi import get_asgi_application
from django.db import connections, transaction
from django.http import JsonResponse
from django.urls import path
from pgcleanup.triggers import sync
from tests.project.models import Document

there = lambda name: Document._meta.get_field("file").storage.exists(name)

async def asynchronous(request, name):
    await Document.objects.filter(file=name).aupdate(file="")
    return JsonResponse({name: there(name)})

async def in_a_transaction(request, name):
    @sync_to_async
    def change():
        with transaction.atomic():
            Document.objects.filter(file=name).delete()
            return there(name)
    before = await change()
    return JsonResponse({name: [before, there(name)]})

def synchronous(request, name):
    with transaction.atomic():
        Document.objects.filter(file=name).update(file="")
    return JsonResponse({name: there(name)})

urlpatterns = [
    path("async/<path:name>", asynchronous), path("atomic/<path:name>", in_a_transaction),
    path("sync/<path:name>", synchronous),
]

async def get(url):
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": url,
             "query_string": b"", "headers": [(b"host", b"localhost")]}
    request = ApplicationCommunicator(get_asgi_application(), scope)
    await request.send_input({"type": "http.request", "body": b""})
    start = await request.receive_output(timeout=20)
    assert start["status"] == 200, start
    body = await request.receive_output(timeout=20)
    return json.loads(body["body"])

async def main():
    answers = {}
    for url in sys.argv[1:]:
        answers |= await get(url)
    answers["together"] = len(await asyncio.gather(*(get(f"/async/docs/together/{n}.txt") for n in range(6))))
    print(json.dumps(answers))

sync("default", triggers=False)
asyncio.run(main())
"""


def test_requests_to_async_and_sync_views_delete_what_they_let_go(
    process_env: dict[str, str], media_root: Path
) -> None:
    names = [f"docs/{name}.txt" for name in ("1", "2", "3", *(f"together/{number}" for number in range(6)))]
    for name in names:
        put(name)
    Document.objects.bulk_create([Document(file=name) for name in names])
    env = {**process_env, "DJANGO_SETTINGS_MODULE": "tests.project.settings"}
    urls = ["/async/docs/1.txt", "/atomic/docs/2.txt", "/sync/docs/3.txt"]

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *urls], env=env, cwd=CHECKOUT, capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "docs/1.txt": False,
        "docs/2.txt": [True, False],
        "docs/3.txt": False,
        "together": 6,
    }
    # Of requests at the same time some may have to leave theirs to the next drain; none is lost.
    rest = {entry.name for entry in ledger()}
    assert {name for name in names if (media_root / name).exists()} == rest
    assert {entry.name for entry in history()} == set(names) - rest
    assert "after a commit" not in done.stderr
