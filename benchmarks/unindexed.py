"""How often a drain reads a large table without an index, where a few names an hour become due."""

from __future__ import annotations

from collections.abc import Iterator

from django.db import connection

from benchmarks.figures import Figure, Size
from benchmarks.files import empty_ledger, make_files
from pgcleanup.drain import drain

HOURS = 3
NAMES_AN_HOUR = 20
# As often as a drain is usually run.
DRAINS_AN_HOUR = 12

_FILL = """
INSERT INTO shop_archive (file) SELECT 'files/' || md5(i::text) || '.dat' FROM generate_series(1, %s) i
"""
_RECORD = """
INSERT INTO pending_file_deletion
       (source, name, operation, transaction_id, db_user, application_name, keep)
VALUES ('shop.archive.file', %s, 'UPDATE', pg_current_xact_id()::text::bigint, session_user, 'bench', false)
"""
# A clock that nobody has to wait for: everything happened so long before.
_LATER = (
    "UPDATE pending_file_deletion SET recorded_at = recorded_at - %(later)s::interval",
    "UPDATE file_deletion_stamp SET stamped_at = stamped_at - %(later)s::interval",
)
# In rows, and not in scans: each process of a parallel one counts as a scan.
_READ = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'shop_archive'"


def measure(size: Size) -> Iterator[Figure]:
    """Count."""
    paths = make_files("trickle", HOURS * NAMES_AN_HOUR)
    names = [path[path.index("trickle/") :] for path in paths]
    with connection.cursor() as cursor:
        empty_ledger()
        cursor.execute("TRUNCATE shop_archive")
        cursor.execute(_FILL, [size.unindexed])
        cursor.execute("TRUNCATE pending_file_deletion")
        cursor.execute("VACUUM ANALYZE shop_archive")
        cursor.execute("SELECT pg_size_pretty(pg_table_size('shop_archive'))")
        (bytes_,) = cursor.fetchone()
        # With what has come in by then, half an hour each.
        before = _read(cursor)
        for number in range(HOURS * DRAINS_AN_HOUR):
            for name in names[
                number * NAMES_AN_HOUR // DRAINS_AN_HOUR : (number + 1) * NAMES_AN_HOUR // DRAINS_AN_HOUR
            ]:
                cursor.execute(_RECORD, [name])
            drain()
            for statement in _LATER:
                cursor.execute(statement, {"later": f"{3600 / DRAINS_AN_HOUR} seconds"})
        scans = (_read(cursor) - before) / size.unindexed
        cursor.execute("TRUNCATE shop_archive")
    what = f"{NAMES_AN_HOUR} names an hour, table of {size.unindexed:,} rows ({bytes_}) without an index"
    yield Figure(f"{what}: scans an hour", scans / HOURS, at_most=1)


def _read(cursor: object) -> int:
    execute, fetch = cursor.execute, cursor.fetchone  # type: ignore[attr-defined]
    # Sessions report what they did when they are idle for a while, or here.
    execute("SELECT pg_stat_force_next_flush()")
    execute(_READ)
    return int(fetch()[0])
