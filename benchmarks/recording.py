"""What the triggers cost: bulk statements with and without them, and the bare insert of the same entries."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from django.db import connection

ROWS = 100_000
REPEATS = 5

FILL = """
INSERT INTO shop_item (title, file, thumb)
SELECT 'item ' || i, 'files/' || md5(i::text) || '.dat', 'thumbs/' || md5(i::text) || '.png'
  FROM generate_series(1, %s) i
"""
# The same entries as a DELETE of all rows records, without any trigger.
BARE_INSERT = """
INSERT INTO pending_file_deletion (source, name, object_pk, operation, transaction_id, db_user, application_name, keep)
SELECT v.source, v.name, i.id::text, 'DELETE', pg_current_xact_id()::text::bigint, session_user,
       current_setting('application_name'), false
  FROM shop_item i
 CROSS JOIN LATERAL (VALUES ('shop.item.file', i.file), ('shop.item.thumb', i.thumb)) AS v(source, name)
"""


def measure() -> list[tuple[str, str, str]]:
    """Return (what, target, result) rows."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        version = cursor.fetchone()[0]
        figures = {
            name: [_timed(cursor, statement, triggers) for _ in range(REPEATS)]
            for name, statement, triggers in (
                ("delete bare", "DELETE FROM shop_item", False),
                ("delete", "DELETE FROM shop_item", True),
                ("insert", BARE_INSERT, False),
                ("update other bare", "UPDATE shop_item SET title = title || 'x'", False),
                ("update other", "UPDATE shop_item SET title = title || 'x'", True),
                ("update file bare", "UPDATE shop_item SET file = file || 'x'", False),
                ("update file", "UPDATE shop_item SET file = file || 'x'", True),
            )
        }
        cursor.execute("TRUNCATE shop_item, shop_part, pending_file_deletion")
    cost = {name: statistics.median(times) / ROWS * 1e6 for name, times in figures.items()}
    delete = cost["delete"] - cost["delete bare"]
    update = cost["update other"] - cost["update other bare"]
    changed = cost["update file"] - cost["update file bare"]
    return [
        (
            f"DELETE of {ROWS:,} rows with 2 names each, extra (PostgreSQL {version})",
            "<= 12 us a row",
            f"{delete:.1f} us a row",
        ),
        ("  the same / a bare INSERT ... SELECT of the same entries", "-", f"{delete / cost['insert']:.2f}"),
        ("UPDATE of another column, extra", "<= 6 us a row", f"{update:.1f} us a row"),
        ("UPDATE of a file column, extra", "-", f"{changed:.1f} us a row"),
    ]


def _timed(cursor: object, statement: str, triggers: bool) -> float:
    execute: Callable[..., None] = cursor.execute  # type: ignore[attr-defined]
    execute("TRUNCATE shop_item, shop_part, pending_file_deletion")
    execute(f"ALTER TABLE shop_item {'ENABLE' if triggers else 'DISABLE'} TRIGGER USER")
    execute(FILL, [ROWS])
    execute("TRUNCATE pending_file_deletion")
    execute("VACUUM ANALYZE shop_item")
    began = time.perf_counter()
    execute(statement)
    taken = time.perf_counter() - began
    execute("ALTER TABLE shop_item ENABLE TRIGGER USER")
    return taken
