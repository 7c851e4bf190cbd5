"""The admin's pages over a ledger and a history of a million entries each: time, and number of queries."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path

from benchmarks.figures import Figure, Size
from pgcleanup.models import PendingFileDeletion, SettledFileDeletion
from pgcleanup.triggers import sync

REPEATS = 5

STAMP = """
INSERT INTO file_deletion_stamp (stamped_at, fence)
SELECT now() - i * interval '5 minutes', '{}' FROM generate_series(1, 200) i
"""
PENDING = """
INSERT INTO pending_file_deletion
       (source, name, object_pk, operation, transaction_id, db_user, application_name, keep, recorded_at, stamp_id,
        retry_at, attempts, exhausted_at, last_error)
SELECT CASE WHEN i %% 2 = 0 THEN 'shop.item.file' ELSE 'shop.item.thumb' END, 'files/' || md5(i::text) || '.dat',
       i::text, 'DELETE', i / 10, 'app', 'gunicorn', false, now() - interval '30 days' + i * interval '2.5 seconds',
       CASE WHEN i > %(entries)s - 1000 THEN NULL ELSE (SELECT min(id) FROM file_deletion_stamp) + i %% 200 END,
       CASE WHEN i %% 1000 = 0 THEN now() WHEN i %% 1000 = 1 THEN now() + interval '1 hour' END,
       CASE WHEN i %% 1000 < 2 THEN 10 ELSE 0 END, CASE WHEN i %% 1000 = 0 THEN now() END,
       CASE WHEN i %% 1000 < 2 THEN 'OSError: no' ELSE '' END
  FROM generate_series(1, %(entries)s) i
"""
SETTLED = """
INSERT INTO settled_file_deletion
       (id, source, name, object_pk, operation, transaction_id, db_user, application_name, keep, recorded_at, attempts,
        stamped_at, outcome, bytes, settled_at, drained_by)
SELECT 10000000 + i, 'shop.item.file', 'files/' || md5(i::text) || '.pdf', i::text, 'DELETE', i / 10,
       'app', 'gunicorn', false, t.at - interval '2 hours', 0, t.at - interval '1 hour',
       CASE WHEN i %% 9 = 0 THEN 'kept' ELSE 'deleted' END,
       100000, t.at, 'web:' || i / 5000
  FROM generate_series(1, %(entries)s) i
 CROSS JOIN LATERAL (SELECT now() - interval '90 days' + i * interval '7.776 seconds' AS at) t
"""
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]


def measure(size: Size) -> Iterator[Figure]:
    """Ask for the pages."""
    from django.contrib import admin

    admin.autodiscover()
    globals()["urlpatterns"] = [path("admin/", admin.site.urls)]
    sync("default")
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE pending_file_deletion, settled_file_deletion, file_deletion_stamp")
        cursor.execute(STAMP)
        for statement in (PENDING, SETTLED):
            cursor.execute(statement, {"entries": size.admin})
        cursor.execute("VACUUM ANALYZE pending_file_deletion")
        cursor.execute("VACUUM ANALYZE settled_file_deletion")
    pending, settled = (
        model.objects.order_by("id")[size.admin // 2] for model in (PendingFileDeletion, SettledFileDeletion)
    )
    deletions = "/admin/pgcleanup/"
    pages = {
        "the first page, with its banner": "/admin/",
        "overview": deletions,
        "pending": f"{deletions}pendingfiledeletion/",
        **{
            f"pending, state {state}": f"{deletions}pendingfiledeletion/?state={state}"
            for state in ("unseen", "grace_period", "transaction", "due", "retrying", "failed")
        },
        "pending, search by a part of a name that few have": f"{deletions}pendingfiledeletion/?q={pending.name[6:20]}",
        "pending, one entry": f"{deletions}pendingfiledeletion/{pending.pk}/change/",
        "settled": f"{deletions}settledfiledeletion/",
        "settled, outcome kept, one field": f"{deletions}settledfiledeletion/?outcome=kept&source=shop.item.file",
        "settled, search by a part of a name that few have": f"{deletions}settledfiledeletion/?q={settled.name[6:20]}",
        "settled, search by object": f"{deletions}settledfiledeletion/?q=shop.item:{settled.object_pk}",
        "settled, one entry": f"{deletions}settledfiledeletion/{settled.pk}/change/",
    }
    site = {"ROOT_URLCONF": __name__, "ALLOWED_HOSTS": ["testserver"], "TEMPLATES": TEMPLATES, "MIDDLEWARE": MIDDLEWARE}
    with override_settings(**site):
        client = Client()
        client.force_login(User.objects.create_superuser("bench"))
        for name, url in pages.items():
            milliseconds, queries = _page(client, url)
            what = f"admin with {size.admin:,} entries: {name}"
            yield Figure(what, milliseconds, "{:,.0f} ms" + f", {queries} queries", at_most=1000)
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE pending_file_deletion, settled_file_deletion, file_deletion_stamp")


def _page(client: Client, url: str) -> tuple[float, int]:
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        with CaptureQueriesContext(connection) as queries:
            status = client.get(url).status_code
        times.append(time.perf_counter() - began)
        if status != 200:
            raise SystemExit(f"{url} answers {status}")
    return statistics.median(times) * 1000, len(queries)
