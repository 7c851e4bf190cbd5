"""Small files, and entries that name them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from django.conf import settings
from django.db import connection

PER_FOLDER = 1_000
TABLES = "pending_file_deletion, settled_file_deletion, file_deletion_stamp"

# As a DELETE of as many rows records it.
_RECORD = """
INSERT INTO pending_file_deletion
       (source, name, object_pk, operation, transaction_id, db_user, application_name, keep)
SELECT %(source)s, %(folder)s || '/' || i / %(per_folder)s || '/' || i || '.dat', i::text, 'DELETE',
       pg_current_xact_id()::text::bigint, session_user, 'bench', false
  FROM generate_series(0, %(count)s - 1) i
"""


def make_files(folder: str, count: int, size: int = 100) -> list[str]:
    """Make files, and return their paths."""
    paths = []
    for number in range(count):
        directory = Path(settings.MEDIA_ROOT, folder, str(number // PER_FOLDER))
        if number % PER_FOLDER == 0:
            directory.mkdir(parents=True, exist_ok=True)
        paths.append(f"{directory}/{number}.dat")
        with open(paths[-1], "wb") as file:
            file.write(b"x" * size)
    # Else the disk is still writing them down while it is asked to forget them, now in the loop, now in the drain.
    os.sync()
    return paths


def remove_files(paths: list[str]) -> float:
    """Remove them with nothing but os.remove, and return how long it took."""
    began = time.perf_counter()
    for path in paths:
        os.remove(path)
    return time.perf_counter() - began


def empty_ledger() -> None:
    """Forget all entries, pending and settled."""
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {TABLES}")


def record(folder: str, count: int, source: str = "shop.document.file") -> None:
    """Record the names of `make_files` as gone."""
    with connection.cursor() as cursor:
        cursor.execute(_RECORD, {"source": source, "folder": folder, "count": count, "per_folder": PER_FOLDER})


def vacuum() -> None:
    """Do what autovacuum does a minute after such a change; whoever drains at once pays that himself."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE pending_file_deletion")
