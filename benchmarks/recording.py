"""What the triggers cost: statements with and without them, beside the bare insert of the same entries."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from statistics import median
from typing import Any

from django.db import connection

from benchmarks.figures import Figure, Size, ratio
from pgcleanup.triggers import sync

# Of one-row statements, in turns of so many with and without triggers.
TURNS, CLIENT_ROWS = 20, 200

FILL = """
INSERT INTO shop_item (title, file, thumb)
SELECT 'item ' || i, 'files/' || md5(i::text) || '.dat', 'thumbs/' || md5(i::text) || '.png'
  FROM generate_series(1, %s) i
"""
# The same entries as a DELETE of all rows records, without any trigger; and those of an UPDATE of one column.
BARE_INSERT = """
INSERT INTO pending_file_deletion (source, name, object_pk, operation, transaction_id, db_user, application_name, keep)
SELECT v.source, v.name, i.id::text, 'DELETE', pg_current_xact_id()::text::bigint, session_user,
       current_setting('application_name'), false
  FROM shop_item i
 CROSS JOIN LATERAL (VALUES ('shop.item.file', i.file), ('shop.item.thumb', i.thumb)) AS v(source, name)
"""
BARE_INSERT_ONE = """
INSERT INTO pending_file_deletion (source, name, object_pk, operation, transaction_id, db_user, application_name, keep)
SELECT 'shop.item.file', i.file, i.id::text, 'UPDATE', pg_current_xact_id()::text::bigint, session_user,
       current_setting('application_name'), false
  FROM shop_item i
"""
STATEMENTS = {
    "delete": "DELETE FROM shop_item",
    "update": "UPDATE shop_item SET file = file || 'x'",
    "update other": "UPDATE shop_item SET title = title || 'x'",
}


def measure(size: Size) -> Iterator[Figure]:
    """Compare."""
    with connection.cursor() as cursor:
        times = _bulk(cursor, size)
        one_row = _one_row(cursor)
        # A drain checks names twice that a table without its trigger may have held.
        _switch(cursor, True)
        cursor.execute("TRUNCATE shop_item, shop_part, pending_file_deletion")
    # The tables have been without their triggers.
    sync("default")
    extra = {name: _extra(times, name) for name in STATEMENTS}
    yield Figure(
        f"DELETE of {size.rows:,} rows with two names each: extra a name / a bare INSERT … SELECT of the entries",
        extra["delete"] / median(times["insert"]),
        at_most=1.5,
    )
    yield Figure("  extra a row", extra["delete"], "{:,.1f} µs", at_most=12)
    yield Figure(
        f"UPDATE of the file column of {size.rows:,} rows: extra a name / a bare INSERT … SELECT of the entries",
        extra["update"] / median(times["insert one"]),
        at_most=5,
    )
    yield Figure("  extra a row", extra["update"], "{:,.1f} µs")
    yield Figure("UPDATE that leaves the file alone: extra a row", extra["update other"], "{:,.1f} µs", at_most=5)
    yield Figure(
        "DELETE of one row by a client, commit included / the same without triggers",
        ratio(one_row["with"], one_row["without"]),
        at_most=1.25,
    )
    yield Figure("  without triggers", median(one_row["without"]) * 1e6, "{:,.0f} µs")


def _bulk(cursor: Any, size: Size) -> dict[str, list[float]]:
    """Return microseconds a row."""
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(size.repeats):
        for name, statement in STATEMENTS.items():
            times[name].append(_timed(cursor, statement, size.rows, triggers=True))
            times[f"{name} bare"].append(_timed(cursor, statement, size.rows, triggers=False))
        times["insert"].append(_timed(cursor, BARE_INSERT, size.rows, triggers=False))
        times["insert one"].append(_timed(cursor, BARE_INSERT_ONE, size.rows, triggers=False))
    return times


def _extra(times: dict[str, list[float]], name: str) -> float:
    return median(times[name]) - median(times[f"{name} bare"])


def _timed(cursor: Any, statement: str, rows: int, *, triggers: bool) -> float:
    _fill(cursor, rows)
    _switch(cursor, triggers)
    # Else the statement pays for the pages that the filling has left dirty, now and then.
    cursor.execute("CHECKPOINT")
    began = time.perf_counter()
    cursor.execute(statement)
    return (time.perf_counter() - began) / rows * 1e6


def _one_row(cursor: Any) -> dict[str, list[float]]:
    """Return the times of single deletions, taken in turns: the disk's moods meet both."""
    times: dict[str, list[float]] = {"with": [], "without": []}
    _fill(cursor, 2 * TURNS * CLIENT_ROWS)
    cursor.execute("SELECT id FROM shop_item ORDER BY id")
    keys = [row[0] for row in cursor.fetchall()]
    for _ in range(TURNS):
        for name in times:
            _switch(cursor, name == "with")
            for _ in range(CLIENT_ROWS):
                began = time.perf_counter()
                cursor.execute("DELETE FROM shop_item WHERE id = %s", [keys.pop()])
                times[name].append(time.perf_counter() - began)
    return times


def _fill(cursor: Any, rows: int) -> None:
    _switch(cursor, True)
    cursor.execute("TRUNCATE shop_item, shop_part")
    cursor.execute("TRUNCATE pending_file_deletion")
    cursor.execute(FILL, [rows])
    cursor.execute("VACUUM ANALYZE shop_item")


def _switch(cursor: Any, triggers: bool) -> None:
    cursor.execute(f"ALTER TABLE shop_item {'ENABLE' if triggers else 'DISABLE'} TRIGGER USER")
