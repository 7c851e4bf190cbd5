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
FILES = 20_000

# Where the stamps begin of entries that come before all others, of those that are drained, and of those behind.
BEFORE, DRAINED, BEHIND = 1, 10**8, 10**9

# Entries that are in the ledger besides, with as many stamps as a drain gives them.
_BESIDES = """
WITH stamps AS (
    INSERT INTO file_deletion_stamp (id, stamped_at, fence)
    OVERRIDING SYSTEM VALUE
    SELECT %(first)s + i, now() + %(later)s::interval, '{}' FROM generate_series(0, (%(count)s - 1) / %(a_stamp)s) i)
INSERT INTO pending_file_deletion
       (source, name, object_pk, operation, transaction_id, db_user, application_name, keep, stamp_id)
SELECT %(source)s, 'besides/' || md5(i::text) || '.dat', i::text, 'DELETE', 1, 'app', 'bench', false,
       %(first)s + i / %(a_stamp)s
  FROM generate_series(0, %(count)s - 1) i
"""
_FENCE = """
UPDATE file_deletion_stamp
   SET fence = ARRAY(SELECT virtualtransaction FROM pg_locks WHERE pid = %(pid)s AND locktype = 'virtualxid')
 WHERE id < %(drained)s
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
    """Return how many files a second a drain deletes that has so many to delete, and so many entries besides.

    Those before are too young, or fenced; those behind are due, as soon as the others have gone.
    """
    empty_ledger()
    with connection.cursor() as cursor:
        cursor.execute("SELECT setval(pg_get_serial_sequence('file_deletion_stamp', 'id'), %s)", [DRAINED])
        _besides(cursor, source, front, later, first=BEFORE)
        _besides(cursor, source, behind, "-1 second", first=BEHIND)
    vacuum()
    times = [_drained(source, fenced=fenced) for _ in range(repeats)]
    return FILES / median(times)


def _drained(source: str, *, fenced: bool) -> float:
    make_files("due", FILES)
    record("due", FILES, source)
    while fence.stamp("default") == fence.STAMP_SIZE:
        pass
    vacuum()
    with psycopg.connect(os.environ["DATABASE_URL"]) as holder, connection.cursor() as cursor:
        if fenced:
            holder.execute("SELECT 1 FROM shop_document LIMIT 1")
            cursor.execute(_FENCE, {"pid": holder.info.backend_pid, "drained": DRAINED})
        began = time.perf_counter()
        report = drain(limit=FILES)
        seconds = time.perf_counter() - began
    if report.counts.get("deleted") != FILES:  # type: ignore[call-overload]
        raise SystemExit(f"the drain did something else: {report.counts} {report.problems}")
    return seconds


def _besides(cursor: Any, source: str, count: int, later: str, *, first: int) -> None:
    if count:
        values = {"source": source, "count": count, "later": later, "a_stamp": fence.STAMP_SIZE, "first": first}
        cursor.execute(_BESIDES, values)
