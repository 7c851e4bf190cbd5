"""Whether a drain is as fast with a long ledger as with a short one, and behind much that it must leave alone."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import psycopg
from django.db import connection

from benchmarks.figures import Figure, Size
from benchmarks.files import empty_ledger, make_files, record, vacuum
from pgcleanup.drain import drain
from pgcleanup.ledger import fence

# What is drained each time.
FILES = 10_000

# Entries that are in the ledger besides, with as many stamps as a drain gives them.
_BESIDES = """
WITH stamps AS (
    INSERT INTO file_deletion_stamp (stamped_at, fence)
    SELECT now() + %(later)s::interval, '{}' FROM generate_series(0, (%(count)s - 1) / %(a_stamp)s)
    RETURNING id)
INSERT INTO pending_file_deletion
       (source, name, object_pk, operation, transaction_id, db_user, application_name, keep, stamp_id)
SELECT %(source)s, 'besides/' || md5(i::text) || '.dat', i::text, 'DELETE', 1, 'app', 'bench', false,
       first.id + i / %(a_stamp)s
  FROM generate_series(0, %(count)s - 1) i CROSS JOIN (SELECT min(id) AS id FROM stamps) first
"""
_FENCE = """
UPDATE file_deletion_stamp
   SET fence = ARRAY(SELECT virtualtransaction FROM pg_locks WHERE pid = %(pid)s AND locktype = 'virtualxid')
 WHERE id <= %(last)s
"""


def measure(size: Size) -> Iterator[Figure]:
    """Compare."""
    front = min(size.backlog, 1_000_000)
    for source, column in (("shop.document.file", "with an index"), ("shop.item.file", "without an index")):
        few = speed(source, size.repeats)
        many = speed(source, size.repeats, behind=size.backlog)
        yield Figure(f"files a second, {size.backlog:,} entries / {FILES:,}, column {column}", many / few, at_least=0.9)
        yield Figure("  files a second with so many entries", many, "{:,.0f}")
    none = speed("shop.document.file", size.repeats)
    for what, later, fenced in (("not due yet", "1 day", False), ("fenced", "-1 day", True)):
        found = speed("shop.document.file", size.repeats, front=front, later=later, fenced=fenced)
        yield Figure(f"files a second, {front:,} entries {what} in front / none", found / none, at_least=0.9)
    empty_ledger()


def speed(
    source: str, repeats: int, *, behind: int = 0, front: int = 0, later: str = "", fenced: bool = False
) -> float:
    """Return how many files a second a drain deletes that has so many to delete, and so many entries besides."""
    times = []
    for _ in range(repeats):
        last = fill(source, behind=behind, front=front, later=later)
        with psycopg.connect(os.environ["DATABASE_URL"]) as holder, connection.cursor() as cursor:
            if fenced:
                holder.execute("SELECT 1 FROM shop_document LIMIT 1")
                cursor.execute(_FENCE, {"pid": holder.info.backend_pid, "last": last})
            began = time.perf_counter()
            report = drain(limit=FILES)
            times.append(time.perf_counter() - began)
        if report.counts.get("deleted") != FILES:  # type: ignore[call-overload]
            raise SystemExit(f"the drain did something else: {report.counts} {report.problems}")
    return FILES / median(times)


def fill(source: str, *, behind: int = 0, front: int = 0, later: str = "") -> int:
    """Make files that are due, and entries before and behind theirs. Returns the last stamp of those before."""
    make_files("due", FILES)
    empty_ledger()
    with connection.cursor() as cursor:
        _besides(cursor, source, front, later)
        cursor.execute("SELECT coalesce(max(id), 0) FROM file_deletion_stamp")
        last: int = cursor.fetchone()[0]
        record("due", FILES, source)
        while fence.stamp("default") == fence.STAMP_SIZE:
            pass
        _besides(cursor, source, behind, "-1 second")
    vacuum()
    return last


def _besides(cursor: Any, source: str, count: int, later: str) -> None:
    if count:
        cursor.execute(_BESIDES, {"source": source, "count": count, "later": later, "a_stamp": fence.STAMP_SIZE})
