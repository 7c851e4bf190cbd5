"""A ledger and a history as a site has them after some weeks, for the browser to look at."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import timedelta

from pgcleanup import context
from pgcleanup.ledger import fence
from tests.drain.support import agree, let_go, orphaned
from tests.project.models import Document, Invoice
from tests.support import run_sql, session

GRACE = timedelta(hours=1)

# More on weekdays, one busy day, nothing on one.
_HISTORY = """
INSERT INTO settled_file_deletion
       (id, source, name, object_pk, operation, transaction_id, db_user, application_name, keep, recorded_at, attempts,
        stamped_at, outcome, reason, bytes, settled_at, drained_by)
SELECT 1000000 + row_number() OVER (),
       CASE WHEN n % 3 = 0 THEN 'project.invoice.scan' ELSE 'project.document.file' END,
       CASE WHEN n % 3 = 0 THEN 'scans/2026/invoice-' ELSE 'documents/report-' END || d || '-' || n
           || CASE WHEN n % 3 = 0 THEN '.png' ELSE '.pdf' END,
       (d * 10 + n)::text, CASE WHEN n % 4 = 0 THEN 'UPDATE' ELSE 'DELETE' END, 700000 + d, 'shop', 'gunicorn', false,
       t.settled_at - interval '75 minutes' - CASE WHEN d = 9 THEN interval '14 hours' ELSE interval '0' END, 0,
       t.settled_at - interval '61 minutes', CASE WHEN n % 7 = 6 THEN 'kept' ELSE 'deleted' END,
       CASE WHEN n % 7 = 6 THEN 'project.document.file' ELSE '' END,
       CASE WHEN n % 7 = 6 THEN NULL ELSE 40000 + d * 9000 + n * 7000 END,
       t.settled_at, 'web-1:' || 4100 + d
  FROM generate_series(0, 27) d
 CROSS JOIN LATERAL generate_series(1, CASE d WHEN 9 THEN 64 WHEN 15 THEN 0 ELSE 12 + (d * 7) %% 19 END) n
 CROSS JOIN LATERAL (SELECT now() - d * interval '1 day' - interval '20 minutes' AS settled_at) t
 ORDER BY t.settled_at
"""


def fill(stack: ExitStack) -> None:
    """Make it; what it opens is closed with `stack`."""
    agree()
    run_sql(_HISTORY.replace("%%", "%"))
    run_sql("INSERT INTO file_deletion_control (drained_at) VALUES (now() - interval '4 minutes')")
    holder = stack.enter_context(session(autocommit=False, application_name="nightly-export"))
    holder.execute("SELECT 1")
    orphaned("documents/contract-2024.pdf", b"x" * 91_482)
    let_go("documents/contract-2025.pdf")
    _seen("3 hours")
    holder.rollback()
    orphaned("documents/letter.pdf", b"x" * 48_213)
    with context(user=17, path="/documents/41/replace/"):
        let_go("documents/annual-report-2026.pdf")
    let_go("scans/invoice-0815.png", model=Invoice, field="scan")
    _seen("20 minutes")
    run_sql(
        "UPDATE pending_file_deletion SET attempts = 10, exhausted_at = now(), retry_at = now(), "
        "last_error = 'ClientError: AccessDenied when calling DeleteObject' WHERE name = 'documents/contract-2024.pdf'"
    )
    run_sql(
        "UPDATE pending_file_deletion SET attempts = 3, retry_at = now() + interval '5 minutes', "
        "last_error = 'OSError: [Errno 30] Read-only file system' WHERE name = 'documents/contract-2025.pdf'"
    )
    holder.execute("SELECT 1")
    let_go("documents/draft-1.pdf", "documents/draft-2.pdf")
    _seen("90 minutes")
    let_go("documents/just-now.pdf")
    Document.objects.create(title="Terms", file="documents/terms.pdf")


def _seen(ago: str) -> None:
    """Let a drain have seen what is pending, a while ago."""
    fence.stamp("default")
    run_sql(
        f"UPDATE file_deletion_stamp SET stamped_at = now() - interval '{ago}' "
        "WHERE stamped_at > now() - interval '1 minute'"
    )
    run_sql(
        f"UPDATE pending_file_deletion SET recorded_at = now() - interval '{ago}' - interval '5 minutes' "
        "WHERE recorded_at > now() - interval '1 minute'"
    )
