"""A drain of many small files beside a bare os.remove loop over the same files, and the memory it takes."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from django.conf import settings
from django.db import connection

FILES = 100_000
REPEATS = 3
PER_FOLDER = 1_000

RECORD = """
INSERT INTO pending_file_deletion
       (source, name, object_pk, operation, transaction_id, db_user, application_name, keep)
SELECT 'shop.item.file', 'small/' || i / %(per_folder)s || '/' || i || '.dat', i::text, 'DELETE',
       pg_current_xact_id()::text::bigint, session_user, 'bench', false
  FROM generate_series(0, %(files)s - 1) i
"""
# A process of its own, so that its peak is the drain's and nobody else's.
DRAIN = """
import django, json, resource, time
django.setup()
from pgcleanup.drain import drain
began = time.perf_counter()
report = drain()
seconds, peak = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([seconds, peak, report.counts]))
"""


def measure() -> list[tuple[str, str, str]]:
    """Return (what, target, result) rows."""
    loops, drains, memory = [], [], {}
    for _ in range(REPEATS):
        names = _make_files(FILES)
        began = time.perf_counter()
        for name in names:
            os.remove(name)
        loops.append(time.perf_counter() - began)
        _make_files(FILES)
        seconds, memory[FILES] = _drain(FILES)
        drains.append(seconds)
    _make_files(FILES // 10)
    _, memory[FILES // 10] = _drain(FILES // 10)
    loop, drain = statistics.median(loops), statistics.median(drains)
    return [
        (f"os.remove loop over {FILES:,} small files", "-", f"{loop:.2f} s"),
        ("drain of the same files", "-", f"{drain:.2f} s, {FILES / drain:,.0f} files a second"),
        ("  drain / loop", "<= 6", f"{drain / loop:.1f}"),
        (
            f"peak memory of a drain of {FILES:,} above one of {FILES // 10:,}",
            "about 0",
            f"{(memory[FILES] - memory[FILES // 10]) / 1024:.1f} MB",
        ),
    ]


def _make_files(count: int) -> list[str]:
    names = []
    for number in range(count):
        folder = Path(settings.MEDIA_ROOT, "small", str(number // PER_FOLDER))
        if number % PER_FOLDER == 0:
            folder.mkdir(parents=True, exist_ok=True)
        names.append(f"{folder}/{number}.dat")
        with open(names[-1], "wb") as file:
            file.write(b"x" * 100)
    # Else the disk is still writing them down while it is asked to forget them, now in the loop, now in the drain.
    os.sync()
    return names


def _drain(files: int) -> tuple[float, int]:
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE pending_file_deletion, settled_file_deletion, file_deletion_stamp")
        cursor.execute(RECORD, {"files": files, "per_folder": PER_FOLDER})
        # As autovacuum would have it a minute after the deletions; a drain that starts at once pays it itself.
        cursor.execute("VACUUM ANALYZE pending_file_deletion")
    result = subprocess.run([sys.executable, "-c", DRAIN], check=True, capture_output=True, text=True)
    seconds, peak, counts = json.loads(result.stdout)
    if counts != {"deleted": files}:
        raise SystemExit(f"the drain did something else: {counts}")
    return seconds, peak
