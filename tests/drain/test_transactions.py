"""What the drain's own transactions are like, whatever the project and its roles have set."""

from __future__ import annotations

import threading

import pytest
from django.db import connections, transaction
from psycopg import IsolationLevel

from pgcleanup import sql
from pgcleanup.drain import drain
from pgcleanup.exceptions import DrainRefused
from pgcleanup.ledger.fence import DRAIN_PARAMETERS
from pgcleanup.models import Outcome
from tests.drain.support import Stepped, before_statement, let_go, orphaned, pending, put
from tests.project.models import Document
from tests.support import until

PARAMETERS = ("synchronous_commit", "transaction_isolation", "lock_timeout", "statement_timeout")


def _show(using: str, name: str) -> str:
    return sql.fetch(using, f"SHOW {name}")[0][0]


@pytest.fixture
def lazy(alias):
    """An alias whose sessions commit without waiting for the disk, and whose transactions see one snapshot."""
    options = {"isolation_level": IsolationLevel.REPEATABLE_READ, "options": "-c synchronous_commit=off"}
    return alias("lazy", OPTIONS=options)


def test_batch_is_durable_read_committed_and_has_timeouts_of_its_own(lazy):
    orphaned("docs/a.txt")
    assert _show(lazy, "synchronous_commit") == "off"
    run = Stepped(lazy)
    run.until("claimed")

    inside = [_show(lazy, name) for name in PARAMETERS]
    run.finish()

    assert inside == ["on", "read committed", "10s", "1h"]
    assert _show(lazy, "synchronous_commit") == "off"


def test_stamp_is_durable_so_that_no_crash_of_the_server_brings_a_row_back(lazy):
    orphaned("docs/a.txt")
    run = Stepped(lazy)
    seen: list[tuple[str, str]] = []

    def look():
        raw = connections[lazy].connection
        seen.extend(raw.execute(f"SHOW {name}").fetchone()[0] for name in PARAMETERS[:2])

    number = _number_of(lazy, "INSERT INTO file_deletion_stamp")
    with before_statement(number, look, lazy):
        run.until("stamped")

    assert seen == ["on", "read committed"]


def _number_of(using: str, text: str) -> int:
    """Return which statement of a drain that has nothing to stamp holds the text."""
    with before_statement(-1, lambda: None, using) as statements:
        Stepped(using).until("stamped")
    sql.execute(using, "UPDATE pending_file_deletion SET stamp_id = NULL; DELETE FROM file_deletion_stamp")
    run = [number for number, statement in enumerate(statements) if text in statement]
    # Less those of the look at the triggers, which Stepped makes before its first step.
    with before_statement(-1, lambda: None, using) as preflight:
        Stepped(using)
    return run[0] - len(preflight)


def test_row_committed_after_the_claim_is_seen_where_the_project_uses_repeatable_read(lazy, session):
    path = orphaned("docs/a.txt")
    run = Stepped(lazy)
    run.until("claimed")
    session().name("docs/a.txt")

    report = run.finish()

    assert report.counts == {Outcome.KEPT: 1}
    assert path.exists()


def test_users_table_is_free_while_a_storage_is_asked(session):
    orphaned("docs/a.txt")
    run = Stepped()
    run.until("looked")
    altering = session(options="-c lock_timeout=200ms")

    altering.run("ALTER TABLE project_document ADD COLUMN extra int")
    altering.run("ALTER TABLE project_document DROP COLUMN extra")

    assert run.finish().counts == {Outcome.DELETED: 1}


def test_claim_outlives_the_savepoint_of_the_check(session):
    orphaned("docs/a.txt")
    run = Stepped()
    run.until("looked")

    free = session().run("SELECT id FROM pending_file_deletion FOR UPDATE SKIP LOCKED")

    assert free == []
    run.finish()


def test_application_never_waits_for_a_batch(session):
    """Writes to the rows and to the ledger go through while a batch is in mid-work."""
    orphaned("docs/a.txt")
    run = Stepped()
    run.until("looked")
    application = session(options="-c lock_timeout=200ms")

    application.let_go("docs/a.txt")
    application.let_go("docs/b.txt")

    run.crash()
    assert len(pending()) == 3


def test_drain_inside_a_transaction_is_refused():
    path = orphaned("docs/a.txt")

    with transaction.atomic(), pytest.raises(DrainRefused, match=r"cannot run inside a transaction.*outside atomic"):
        drain()

    assert path.exists()
    assert pending() == ["docs/a.txt"]


def test_drain_with_autocommit_off_is_refused():
    transaction.set_autocommit(False)
    try:
        with pytest.raises(DrainRefused, match="cannot run inside a transaction"):
            drain()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


@pytest.mark.parametrize("dry_run", [False, True], ids=["drain", "dry run"])
def test_rows_that_a_policy_hides_from_the_drains_role_are_an_error_and_not_a_lie(alias, role, dry_run):
    limited = alias("limited", USER=role["user"], PASSWORD=role["password"])
    path = put("docs/a.txt")
    Document.objects.create(file="docs/a.txt")
    let_go("docs/a.txt")
    sql.execute("default", "ALTER TABLE project_document ENABLE ROW LEVEL SECURITY")
    try:
        assert sql.fetch(limited, "SELECT count(*) FROM project_document")[0][0] == 0
        report = drain(using=limited, dry_run=dry_run)
    finally:
        sql.execute("default", "ALTER TABLE project_document DISABLE ROW LEVEL SECURITY")

    assert report.counts == {}
    assert report.exit_code == 1
    assert "row-level security" in report.problems[0]
    assert path.exists()
    assert pending() == ["docs/a.txt"]


@pytest.mark.parametrize("dry_run", [False, True], ids=["drain", "dry run"])
def test_table_that_the_drains_role_may_not_read_is_told_with_the_grant(alias, role, dry_run):
    limited = alias("limited", USER=role["user"], PASSWORD=role["password"])
    path = orphaned("docs/a.txt")
    sql.execute("default", f"REVOKE ALL ON project_attachment, project_page FROM {role['user']}")

    report = drain(using=limited, dry_run=dry_run)

    assert report.counts == {}
    assert report.problems[0].endswith(
        ". As the tables' owner: "
        f'GRANT SELECT ON "public"."project_attachment", "public"."project_page" TO "{role["user"]}";'
    )
    assert path.exists()
    sql.execute("default", report.problems[0].partition("owner: ")[2])
    assert drain(using=limited, dry_run=dry_run).counts == {Outcome.DELETED: 1}


def test_role_that_is_no_superuser_and_owns_nothing_can_drain(alias, role):
    limited = alias("limited", USER=role["user"], PASSWORD=role["password"])
    path = orphaned("docs/a.txt")

    report = drain(using=limited)

    assert report.counts == {Outcome.DELETED: 1}
    assert not path.exists()


def test_locked_users_table_leaves_its_storage_alone_and_is_told(session, monkeypatch):
    monkeypatch.setitem(DRAIN_PARAMETERS, "lock_timeout", "100ms")
    monkeypatch.setattr("pgcleanup.ledger.fence.LOCK_SECONDS", 0.1)
    monkeypatch.setattr("pgcleanup.references.scans.SIZE_LOCK_TIMEOUT", "100ms")
    path = orphaned("docs/a.txt")
    stamped = Stepped()
    stamped.until("stamped")
    locker = session().begin()
    locker.run("LOCK TABLE project_document IN ACCESS EXCLUSIVE MODE")
    report = stamped.finish()
    locker.rollback()

    assert report.counts == {}
    assert "lock timeout" in report.problems[0]
    assert report.exit_code == 1
    assert path.exists()
    assert drain().counts == {Outcome.DELETED: 1}


def test_migration_that_locks_one_table_after_the_other_is_not_ended_by_a_drain(session):
    """It waits for the drain, which waits for it: PostgreSQL would end one of them, after a second."""
    path = orphaned("docs/a.txt")
    run = Stepped()
    run.until("claimed")
    migration, watch = session().begin(), session()
    migration.run("LOCK TABLE project_restaurant IN ACCESS EXCLUSIVE MODE")
    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'project_restaurant'::regclass"
    migrated: list[str] = []

    def migrate() -> None:
        until(lambda: watch.run(waits) == [(1,)])
        for table in ("project_document", "project_place"):
            migration.run(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            migrated.append(table)
        migration.commit()

    migrating = threading.Thread(target=migrate)
    migrating.start()
    report = run.finish()
    migrating.join()

    assert migrated == ["project_document", "project_place"]
    assert report.counts == {Outcome.DELETED: 1}
    assert not path.exists()


def test_locked_users_table_costs_no_attempt(session, monkeypatch):
    monkeypatch.setitem(DRAIN_PARAMETERS, "lock_timeout", "100ms")
    monkeypatch.setattr("pgcleanup.ledger.fence.LOCK_SECONDS", 0.1)
    monkeypatch.setattr("pgcleanup.references.scans.SIZE_LOCK_TIMEOUT", "100ms")
    orphaned("docs/a.txt")
    run = Stepped()
    run.until("stamped")
    session().begin().run("LOCK TABLE project_document IN ACCESS EXCLUSIVE MODE")

    run.finish()

    assert sql.fetch("default", "SELECT attempts, retry_at FROM pending_file_deletion") == [(0, None)]
