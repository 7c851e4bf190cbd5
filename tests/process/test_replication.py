"""Logical replication, with a real publication and subscription: the publisher records, the subscriber does not.

Of one server, which has a database for each side.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import psycopg
import pytest
from django.core.management import call_command

from tests import postgres
from tests.support import alias_for, recorded, run_sql

TABLES = "project_document, thirdparty_brochure"


@pytest.fixture(scope="module")
def sides(django_db_setup: None, django_db_blocker) -> Iterator[None]:
    """Publish two tables of the database `publisher`, and subscribe to them in its copy `subscriber`."""
    with django_db_blocker.unblock(), postgres.own_postgres() as server:
        with psycopg.connect(server.url, autocommit=True) as session:
            session.execute("ALTER SYSTEM SET wal_level = logical")
            session.execute("CREATE DATABASE publisher TEMPLATE template0")
        server.stop()
        server.start()
        base = server.url.rpartition("/")[0]
        with alias_for("publisher", f"{base}/publisher"):
            call_command("migrate", database="publisher", verbosity=0)
            run_sql(f"CREATE PUBLICATION files FOR TABLE {TABLES}", using="publisher")
        with psycopg.connect(server.url, autocommit=True) as session:
            session.execute("CREATE DATABASE subscriber TEMPLATE publisher")
        with alias_for("publisher", f"{base}/publisher"), alias_for("subscriber", f"{base}/subscriber"):
            # On one and the same server CREATE SUBSCRIPTION would wait for itself when it makes the slot.
            run_sql("SELECT pg_create_logical_replication_slot('files', 'pgoutput')", using="publisher")
            with psycopg.connect(f"{base}/subscriber", autocommit=True) as session:
                session.execute("DROP PUBLICATION files")
                session.execute(
                    f"CREATE SUBSCRIPTION files CONNECTION '{base}/publisher' PUBLICATION files"
                    " WITH (create_slot = false, slot_name = 'files', copy_data = false)"
                )
            yield
            with psycopg.connect(f"{base}/subscriber", autocommit=True) as session:
                session.execute("DROP SUBSCRIPTION files")


def wait_until_applied() -> None:
    """Return once the subscriber has all that the publisher committed."""
    [[written]] = run_sql("SELECT pg_current_wal_lsn()", using="publisher")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        [[applied]] = run_sql(
            "SELECT coalesce(confirmed_flush_lsn >= %s::pg_lsn, false) FROM pg_replication_slots"
            " WHERE slot_name = 'files'",
            [written],
            using="publisher",
        )
        if applied:
            return
        time.sleep(0.02)
    pytest.fail("the subscriber did not follow")


WRITES = [
    "INSERT INTO project_document (id, title, file) VALUES (1, '', 'a.txt'), (2, '', 'b.txt')",
    "UPDATE project_document SET file = 'c.txt' WHERE id = 1",
    "DELETE FROM project_document WHERE id = 2",
    "INSERT INTO thirdparty_brochure (file) VALUES ('p.pdf')",
    "TRUNCATE thirdparty_brochure",
]


@pytest.fixture
def written(sides: None) -> None:
    """Write on the publisher, and wait until the subscriber has it, too."""
    for using in ("publisher", "subscriber"):
        run_sql("DELETE FROM project_document; DELETE FROM pending_file_deletion", using=using)
    wait_until_applied()
    for using in ("publisher", "subscriber"):
        run_sql("DELETE FROM pending_file_deletion", using=using)
    for statement in WRITES:
        run_sql(statement, using="publisher")
    wait_until_applied()


def test_publisher_records_what_it_lets_go(written: None) -> None:
    assert recorded("publisher") == [
        ("project.document.file", "a.txt", "UPDATE"),
        ("project.document.file", "b.txt", "DELETE"),
        ("thirdparty.brochure.file", "p.pdf", "TRUNCATE"),
    ]


def test_subscriber_follows_and_records_nothing(written: None) -> None:
    assert run_sql("SELECT file FROM project_document", using="subscriber") == [("c.txt",)]
    assert run_sql("SELECT count(*) FROM thirdparty_brochure", using="subscriber") == [(0,)]
    assert recorded("subscriber") == []


@pytest.fixture
def always(sides: None) -> Iterator[None]:
    """Have the subscriber's triggers fire for what is replicated, too."""
    places = [("project_document", "row"), ("project_document", "del"), ("thirdparty_brochure", "trunc")]
    for table, kind in places:
        run_sql(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER pgcleanup_{kind}", using="subscriber")
    yield
    for table, kind in places:
        run_sql(f"ALTER TABLE {table} ENABLE TRIGGER pgcleanup_{kind}", using="subscriber")


def test_subscriber_whose_triggers_always_fire_records_all_but_deletes(always: None, written: None) -> None:
    # The apply worker fires no trigger by statement for a DELETE.
    assert recorded("subscriber") == [
        ("project.document.file", "a.txt", "UPDATE"),
        ("thirdparty.brochure.file", "p.pdf", "TRUNCATE"),
    ]
