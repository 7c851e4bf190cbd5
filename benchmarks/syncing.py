"""A sync that has nothing to do: how long, and behind whose locks it waits (nobody's)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from django.db import connection

from benchmarks.figures import Figure, Size
from pgcleanup.triggers import sync

REPEATS = 100


def measure(size: Size) -> Iterator[Figure]:
    """Time it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(DISTINCT tgrelid) FROM pg_trigger WHERE tgname LIKE 'pgcleanup\\_%'")
        tables = cursor.fetchone()[0]
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        report = sync("default")
        times.append(time.perf_counter() - began)
        if report is None or report.changed:
            raise SystemExit(f"the sync had something to do: {report}")
    busy = _beside_a_reader_and_a_writer()
    what = f"sync with nothing to do, {tables} tables"
    yield Figure(what, statistics.median(times) * 1000, "{:,.1f} ms", at_most=10)
    # It would wait for as long as they stay open.
    yield Figure("  the same beside an open reader and an open writer", busy * 1000, "{:,.1f} ms", at_most=1000)


def _beside_a_reader_and_a_writer() -> float:
    other = connection.copy()
    writer = connection.copy()
    with other.cursor() as reading, writer.cursor() as writing:
        reading.execute("BEGIN; SELECT * FROM shop_item; SELECT * FROM shop_shelf00")
        writing.execute(
            "BEGIN; INSERT INTO shop_shelf00 (file) VALUES ('x'); LOCK TABLE shop_item IN ROW EXCLUSIVE MODE"
        )
        began = time.perf_counter()
        sync("default")
        taken = time.perf_counter() - began
        reading.execute("ROLLBACK")
        writing.execute("ROLLBACK")
    other.close()
    writer.close()
    return taken
