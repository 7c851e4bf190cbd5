"""Partitions, inheritance, foreign tables and views: whatever form a table has, its names are recorded once."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest
from django.core.files.storage import default_storage

from pgcleanup.columns import find_file_columns
from pgcleanup.references import check
from pgcleanup.storage_keys import storage_key
from pgcleanup.triggers import inspect, sync
from tests.support import Scratch, ledger, run_sql, server_version

SOURCE = "thirdparty.brochure.file"

MAKE_ROOM = "ALTER TABLE thirdparty_brochure RENAME TO plain; ALTER TABLE plain ALTER id DROP IDENTITY;"
ROOT = (
    "CREATE TABLE thirdparty_brochure (id bigint NOT NULL, file varchar(100) NOT NULL, PRIMARY KEY (id))"
    " PARTITION BY RANGE (id);"
)
LEAVES = (
    "CREATE TABLE low PARTITION OF thirdparty_brochure FOR VALUES FROM (0) TO (100);"
    # Where the root has its file column, this one has its key.
    "CREATE TABLE high (gone int, id bigint NOT NULL, file varchar(100) NOT NULL);"
    "ALTER TABLE high DROP gone;"
    "ALTER TABLE thirdparty_brochure ATTACH PARTITION high FOR VALUES FROM (100) TO (200);"
)
ROWS = "INSERT INTO thirdparty_brochure (id, file) VALUES (1, 'low.pdf'), (101, 'high.pdf')"
BOTH = [("high.pdf", "101"), ("low.pdf", "1")]


def entries(using: str = "default") -> list[tuple[str, str | None]]:
    """Return name and primary key of the entries, sorted."""
    assert {entry.source for entry in ledger(using)} <= {SOURCE}
    return sorted((entry.name, entry.object_pk) for entry in ledger(using))


def triggers_of(table: str) -> list[str]:
    return [
        name
        for (name,) in run_sql(
            "SELECT tgname::text FROM pg_trigger"
            " WHERE tgrelid = to_regclass(%s) AND tgname LIKE 'pgcleanup%%' ORDER BY 1",
            [table],
        )
    ]


def changed(report) -> list[str]:
    assert report is not None
    assert report.failed == []
    return [name for name in report.changed if name != "file_deletion_column"]


@pytest.fixture
def partitioned(db: None) -> None:
    """Make the table of the brochures a partitioned one with two partitions and a row in each."""
    run_sql(MAKE_ROOM + ROOT + LEAVES)
    sync("default")
    run_sql(ROWS)


class TestPartitioned:
    """A partitioned table."""

    @pytest.mark.parametrize("table", ["thirdparty_brochure", "low"])
    def test_second_sync_changes_nothing(self, partitioned: None, table: str) -> None:
        before = triggers_of(table)

        assert changed(sync("default")) == []
        assert triggers_of(table) == before

    def test_nothing_is_left_to_report(self, partitioned: None) -> None:
        found = inspect("default")

        assert found is not None
        assert found.problems() == []

    @pytest.mark.parametrize("statement", ["UPDATE {} SET file = 'x.pdf'", "DELETE FROM {}"])
    def test_write_to_the_root_is_recorded(self, partitioned: None, statement: str) -> None:
        run_sql(statement.format("thirdparty_brochure"))

        assert entries() == BOTH

    @pytest.mark.parametrize(("leaf", "expected"), [("low", BOTH[1:]), ("high", BOTH[:1])])
    @pytest.mark.parametrize("statement", ["UPDATE {} SET file = 'x.pdf'", "DELETE FROM {}", "TRUNCATE {}"])
    def test_write_to_a_partition_is_recorded(
        self, partitioned: None, statement: str, leaf: str, expected: list[tuple[str, str]]
    ) -> None:
        run_sql(statement.format(leaf))

        assert entries() == expected

    def test_truncate_of_the_root_records_each_name_once(self, partitioned: None) -> None:
        run_sql("TRUNCATE thirdparty_brochure")

        assert entries() == BOTH

    def test_truncate_of_the_root_records_the_names_of_a_partition_that_was_added_since(
        self, partitioned: None
    ) -> None:
        run_sql("CREATE TABLE new PARTITION OF thirdparty_brochure FOR VALUES FROM (200) TO (300)")
        run_sql("INSERT INTO thirdparty_brochure VALUES (201, 'new.pdf')")

        run_sql("TRUNCATE thirdparty_brochure")

        assert entries() == [*BOTH, ("new.pdf", "201")]

    def test_truncate_of_the_root_records_the_names_of_a_partition_whose_trigger_is_disabled(
        self, partitioned: None
    ) -> None:
        run_sql("ALTER TABLE low DISABLE TRIGGER pgcleanup_trunc")

        run_sql("TRUNCATE thirdparty_brochure")

        assert entries() == BOTH

    @pytest.mark.parametrize("statement", ["UPDATE {} SET file = 'x.pdf'", "DELETE FROM {}"])
    def test_write_to_a_partition_that_was_added_since_is_recorded(self, partitioned: None, statement: str) -> None:
        run_sql("CREATE TABLE new PARTITION OF thirdparty_brochure FOR VALUES FROM (200) TO (300)")
        run_sql("INSERT INTO new VALUES (201, 'new.pdf')")

        run_sql(statement.format("new"))

        assert entries() == [("new.pdf", "201")]

    def test_truncate_of_a_partition_that_was_added_is_recorded_after_the_next_sync(self, partitioned: None) -> None:
        run_sql("CREATE TABLE new PARTITION OF thirdparty_brochure FOR VALUES FROM (200) TO (300)")

        assert changed(sync("default")) == ["public.new"]

        run_sql("INSERT INTO new VALUES (201, 'new.pdf'); TRUNCATE new")
        assert entries() == [("new.pdf", "201")]

    def test_row_that_moves_to_another_partition_is_no_more_than_a_candidate(self, partitioned: None) -> None:
        run_sql("UPDATE thirdparty_brochure SET id = 150 WHERE id = 1")

        assert entries() == [("low.pdf", "1")]
        assert run_sql("SELECT file FROM high WHERE id = 150") == [("low.pdf",)]

    def test_upsert_that_replaces_a_name_is_recorded(self, partitioned: None) -> None:
        run_sql(
            "INSERT INTO thirdparty_brochure (id, file) VALUES (1, 'x.pdf')"
            " ON CONFLICT (id) DO UPDATE SET file = excluded.file"
        )

        assert entries() == [("low.pdf", "1")]

    @pytest.mark.parametrize("table", ["thirdparty_brochure", "low", "high"])
    @pytest.mark.parametrize("statement", ["UPDATE {} SET scan = 'x.pdf'", "DELETE FROM {}", "TRUNCATE {}"])
    def test_write_goes_on_and_is_recorded_after_the_column_was_renamed(
        self, partitioned: None, statement: str, table: str
    ) -> None:
        run_sql("UPDATE thirdparty_brochure SET file = file || '' ")
        run_sql("ALTER TABLE thirdparty_brochure RENAME file TO scan")

        run_sql(statement.format(table))

        assert entries() == {"low": BOTH[1:], "high": BOTH[:1]}.get(table, BOTH)

    def test_partition_that_was_detached_keeps_no_trigger_of_ours(self, partitioned: None) -> None:
        run_sql("ALTER TABLE thirdparty_brochure DETACH PARTITION low")

        sync("default")

        assert triggers_of("low") == []
        assert triggers_of("high") != []

    def test_partitions_of_partitions_are_recorded(self, partitioned: None) -> None:
        run_sql(
            "CREATE TABLE middle PARTITION OF thirdparty_brochure FOR VALUES FROM (300) TO (500)"
            " PARTITION BY RANGE (id);"
            "CREATE TABLE leaf PARTITION OF middle FOR VALUES FROM (300) TO (400)"
        )
        sync("default")
        run_sql("INSERT INTO leaf VALUES (301, 'a.pdf'), (302, 'b.pdf'), (303, 'c.pdf')")

        run_sql("UPDATE leaf SET file = 'x.pdf' WHERE id = 301; DELETE FROM middle WHERE id = 302; TRUNCATE middle")

        assert entries() == [("a.pdf", "301"), ("b.pdf", "302"), ("c.pdf", "303"), ("x.pdf", "301")]

    def test_dropping_a_partition_goes_on(self, partitioned: None) -> None:
        run_sql("DROP TABLE low")

        assert changed(sync("default")) == []


@pytest.mark.django_db
class TestBecoming:
    """A plain table that becomes a partition, or stops being one."""

    @pytest.fixture
    def moved_in(self) -> None:
        """Make the plain table, triggers and all, the first partition of a new one under its name."""
        sync("default")
        run_sql("INSERT INTO thirdparty_brochure (id, file) VALUES (1, 'low.pdf')")
        run_sql(
            MAKE_ROOM
            + "ALTER TABLE plain RENAME CONSTRAINT thirdparty_brochure_pkey TO plain_pkey;"
            + ROOT
            + "ALTER TABLE thirdparty_brochure ATTACH PARTITION plain FOR VALUES FROM (0) TO (100)"
        )

    def test_plain_table_with_its_triggers_can_be_attached(self, moved_in: None) -> None:
        assert triggers_of("plain") == ["pgcleanup_del", "pgcleanup_row", "pgcleanup_trunc"]

    def test_direct_writes_to_it_are_recorded_before_the_next_sync(self, moved_in: None) -> None:
        run_sql("UPDATE plain SET file = 'x.pdf'; DELETE FROM plain")

        assert entries() == [("low.pdf", "1"), ("x.pdf", "1")]

    @pytest.mark.parametrize("table", ["plain", "thirdparty_brochure"])
    def test_each_write_is_recorded_once_after_the_next_sync(self, moved_in: None, table: str) -> None:
        sync("default")

        run_sql(f"UPDATE {table} SET file = 'x.pdf'; DELETE FROM {table}")
        run_sql("INSERT INTO plain (id, file) VALUES (2, 'y.pdf')")
        run_sql(f"TRUNCATE {table}")

        assert entries() == [("low.pdf", "1"), ("x.pdf", "1"), ("y.pdf", "2")]

    def test_sync_puts_the_roots_trigger_in_the_place_of_its_own(self, moved_in: None) -> None:
        sync("default")

        [[root]] = [[name] for name in triggers_of("thirdparty_brochure") if name.startswith("pgcleanup_row_")]
        assert triggers_of("plain") == sorted([root, "pgcleanup_trunc"])

    def test_sync_after_that_changes_nothing(self, moved_in: None) -> None:
        sync("default")

        assert changed(sync("default")) == []

    def test_table_is_plain_again_after_it_was_detached_and_took_its_name_back(self, moved_in: None) -> None:
        sync("default")
        run_sql(
            "ALTER TABLE thirdparty_brochure DETACH PARTITION plain;"
            "DROP TABLE thirdparty_brochure; ALTER TABLE plain RENAME TO thirdparty_brochure"
        )

        sync("default")

        assert triggers_of("thirdparty_brochure") == ["pgcleanup_del", "pgcleanup_row", "pgcleanup_trunc"]
        run_sql("DELETE FROM thirdparty_brochure")
        assert entries() == [("low.pdf", "1")]


@pytest.fixture
def inherited(db: None) -> None:
    """Give the table of the brochures an inheritance child, and a row to each."""
    run_sql("CREATE TABLE special (extra int) INHERITS (thirdparty_brochure)")
    sync("default")
    run_sql("INSERT INTO thirdparty_brochure (id, file) VALUES (1, 'low.pdf')")
    run_sql("INSERT INTO special (id, file) VALUES (101, 'high.pdf')")


class TestInherits:
    """PostgreSQL's own table inheritance."""

    @pytest.mark.parametrize("statement", ["UPDATE {} SET file = 'x.pdf'", "DELETE FROM {}", "TRUNCATE {}"])
    @pytest.mark.parametrize(
        ("table", "expected"),
        [("thirdparty_brochure", BOTH), ("ONLY thirdparty_brochure", BOTH[1:]), ("special", BOTH[:1])],
    )
    def test_write_is_recorded_once(
        self, inherited: None, statement: str, table: str, expected: list[tuple[str, str]]
    ) -> None:
        run_sql(statement.format(table))

        assert entries() == expected

    def test_second_sync_changes_nothing(self, inherited: None) -> None:
        assert changed(sync("default")) == []

    @pytest.mark.parametrize("statement", ["UPDATE {} SET file = 'x.pdf'", "DELETE FROM {}", "TRUNCATE {}"])
    def test_write_to_a_child_that_was_made_since_is_recorded_after_the_next_sync(
        self, inherited: None, statement: str
    ) -> None:
        run_sql("CREATE TABLE late () INHERITS (thirdparty_brochure)")
        run_sql("INSERT INTO late (id, file) VALUES (201, 'early.pdf')")
        run_sql(statement.format("late"))
        unseen = entries()
        sync("default")
        run_sql("DELETE FROM late; DELETE FROM pending_file_deletion")
        run_sql("INSERT INTO late (id, file) VALUES (202, 'late.pdf')")

        run_sql(statement.format("late"))

        assert unseen == []
        assert entries() == [("late.pdf", "202")]

    def test_child_that_left_loses_the_triggers(self, inherited: None) -> None:
        run_sql("ALTER TABLE special NO INHERIT thirdparty_brochure")

        sync("default")

        assert triggers_of("special") == []
        assert triggers_of("thirdparty_brochure") == ["pgcleanup_del", "pgcleanup_row", "pgcleanup_trunc"]


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED VIEW"])
class TestViews:
    """A model on a view."""

    @pytest.fixture(autouse=True)
    def _view(self, kind: str) -> None:
        run_sql("INSERT INTO thirdparty_brochure (file) VALUES ('a.pdf')")
        run_sql(
            f"ALTER TABLE thirdparty_brochure RENAME TO t; CREATE {kind} thirdparty_brochure AS SELECT id, file FROM t"
        )

    def test_has_no_trigger_and_is_no_problem(self, kind: str) -> None:
        report = sync("default")

        found = inspect("default")
        assert report is not None
        assert found is not None
        assert report.failed == []
        assert found.problems() == []
        assert triggers_of("thirdparty_brochure") == []

    def test_still_counts_as_a_reference(self, kind: str) -> None:
        answer = check(
            "default", find_file_columns("default"), storage_key(default_storage), ["a.pdf", "b.pdf"], [], timedelta(0)
        )

        assert answer.references == {"a.pdf": SOURCE}


@pytest.mark.django_db
def test_names_with_percent_signs_count_as_references() -> None:
    run_sql("""INSERT INTO "legacy 100%s" ("file %s %% 100%") VALUES ('100%s.pdf')""")
    run_sql("""INSERT INTO "Odd ""table"" name" ("fi""le $pgcleanup$ \\ Name") VALUES ('odd.pdf')""")

    names = ["100%s.pdf", "odd.pdf", "nowhere.pdf"]
    answer = check("default", find_file_columns("default"), storage_key(default_storage), names, [], timedelta(0))

    assert answer.references == {"100%s.pdf": "project.percent.file", "odd.pdf": "project.odd.file"}


class TestForeign:
    """A foreign table, on a server that another database plays."""

    @pytest.fixture(autouse=True)
    def _foreign(self, scratch: Scratch) -> None:
        if not scratch.sql("SELECT name FROM pg_available_extensions WHERE name = 'postgres_fdw'"):
            pytest.skip("this server has no postgres_fdw")
        target = scratch.seen_from_the_server()
        scratch.sql(
            "CREATE EXTENSION postgres_fdw; CREATE SCHEMA far;"
            "ALTER TABLE thirdparty_brochure SET SCHEMA far; DROP TRIGGER pgcleanup_row ON far.thirdparty_brochure;"
            "DROP TRIGGER pgcleanup_del ON far.thirdparty_brochure;"
            "DROP TRIGGER pgcleanup_trunc ON far.thirdparty_brochure"
        )
        with scratch.session() as session:
            session.execute(
                psycopg.sql.SQL(
                    "CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host {}, port {}, dbname {});"
                    "CREATE USER MAPPING FOR CURRENT_USER SERVER far OPTIONS (user {}, password {});"
                    "CREATE FOREIGN TABLE thirdparty_brochure (id bigint NOT NULL, file varchar(100) NOT NULL)"
                    " SERVER far OPTIONS (schema_name 'far')"
                ).format(
                    *(
                        psycopg.sql.Literal(target.get(key, ""))
                        for key in ("host", "port", "dbname", "user", "password")
                    )
                )
            )

    @pytest.mark.parametrize(
        "statement", ["UPDATE thirdparty_brochure SET file = 'x.pdf'", "DELETE FROM thirdparty_brochure"]
    )
    def test_write_through_it_is_recorded(self, scratch: Scratch, statement: str) -> None:
        report = sync("scratch")
        scratch.sql("INSERT INTO thirdparty_brochure (id, file) VALUES (1, 'low.pdf')")

        scratch.sql(statement)

        assert report is not None
        assert report.failed == []
        assert entries("scratch") == [("low.pdf", "1")]

    def test_truncate_of_it_is_recorded_where_postgresql_can(self, scratch: Scratch) -> None:
        sync("scratch")
        scratch.sql("INSERT INTO thirdparty_brochure (id, file) VALUES (1, 'low.pdf')")

        scratch.sql("TRUNCATE thirdparty_brochure")

        assert entries("scratch") == ([("low.pdf", "1")] if server_version() >= 160000 else [])

    def test_second_sync_changes_nothing(self, scratch: Scratch) -> None:
        sync("scratch")

        assert changed(sync("scratch")) == []
