"""What millions of entries leave behind in the ledger that have gone through it: dead rows, and the size of its tables.

The files are a storage's that has none: what is measured is the database.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
from django.db import connection

from benchmarks.figures import Figure, Size
from benchmarks.files import empty_ledger, record
from benchmarks.nowhere import Nowhere
from benchmarks.shop.models import Upload
from pgcleanup.drain import drain
from pgcleanup.triggers import sync

# What is recorded between two drains; and the share of all entries that passes while a transaction is open.
A_TIME = 20_000
HELD = 0.2

_STATE = """
SELECT sum(pg_table_size(c.oid)) / 1024.0 / 1024, sum(pg_indexes_size(c.oid)) / 1024.0 / 1024, sum(s.n_dead_tup)
  FROM pg_class c JOIN pg_stat_user_tables s ON s.relid = c.oid
 WHERE c.relname IN ('pending_file_deletion', 'file_deletion_stamp')
"""


def measure(size: Size) -> Iterator[Figure]:
    """Let them through, and look."""
    if not size.passing:
        return
    Upload._meta.get_field("file").storage = Nowhere()
    sync("default", triggers=False)
    empty_ledger()
    with ExitStack() as stack:
        began = time.perf_counter()
        # A history of ten million is another matter: it is kept for a year, by a setting.
        sizes = [_through(size.passing // 10) for _ in range(10)]
        seconds = time.perf_counter() - began
        what = f"{size.passing:,} entries, {A_TIME:,} between two drains"
        yield Figure(f"{what}: ledger after a tenth of them", sizes[0], "{:,.0f} MB")
        yield Figure("  after all of them / after a tenth", max(sizes[-3:]) / sizes[0], at_most=1.5)
        yield Figure("  dead rows then", _state()[1], "{:,.0f}")
        yield Figure("  entries a second, recorded and drained", size.passing / seconds, "{:,.0f}")
        holder = stack.enter_context(psycopg.connect(os.environ["DATABASE_URL"]))
        holder.execute("SELECT txid_current()")
        held = _through(int(size.passing * HELD), waits=True)
        yield Figure(f"  beside a transaction that stays open for {size.passing * HELD:,.0f} more", held, "{:,.0f} MB")
        holder.close()
        after = [_through(size.passing // 10) for _ in range(3)][-1]
        yield Figure("  when it has ended and they have gone", after, "{:,.0f} MB")
        yield Figure("  the same / when it was open", after / held, at_most=1.2)
    empty_ledger()


def _through(entries: int, *, waits: bool = False) -> float:
    """Record so many, drain them, and return the size of the ledger in MB."""
    for start in range(0, entries, A_TIME):
        record("passing", min(A_TIME, entries - start), "shop.upload.file")
        drain()
        if not waits:
            with connection.cursor() as cursor:
                # A year of history would be of another size than the ledger.
                cursor.execute("TRUNCATE settled_file_deletion")
    return _state()[0]


def _state() -> tuple[float, float]:
    """Return the size of the ledger in MB, and how many dead rows it has."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(_STATE)
        table, indexes, dead = cursor.fetchone()
    return float(table + indexes), float(dead)
