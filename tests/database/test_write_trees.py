"""Partitions and inheritance where it is easy to lose a name: owners, moves, clones that were disabled, busy leaves.

What every tree can do is in test_partitions.py.
"""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest
from pytest_django import Settings

from pgcleanup.triggers import inspect, sync
from tests.database.apps import App
from tests.database.roles import logged_in, make_clerk, make_role, refused
from tests.database.test_partitions import LEAVES, MAKE_ROOM, ROOT, ROWS, SOURCE, entries, triggers_of
from tests.support import Scratch, recorded, run_sql, server_version

MIDDLE = (
    "CREATE TABLE middle PARTITION OF thirdparty_brochure FOR VALUES FROM (300) TO (500) PARTITION BY RANGE (id);"
    "CREATE TABLE leaf PARTITION OF middle FOR VALUES FROM (300) TO (400);"
)
WRITES = {
    "UPDATE": "UPDATE {} SET file = 'x.pdf'",
    "DELETE": "DELETE FROM {}",
    "TRUNCATE": "TRUNCATE {}",
}


@pytest.fixture
def partitioned(db: None) -> None:
    """Make the table of the brochures a partitioned one with two partitions and a row in each."""
    run_sql(MAKE_ROOM + ROOT + LEAVES)
    sync("default")
    run_sql(ROWS)


class TestRows:
    """Where a row is, and where it goes."""

    def test_row_that_moves_to_another_partition_with_another_name_is_recorded_once(self, partitioned: None) -> None:
        run_sql("UPDATE thirdparty_brochure SET id = 150, file = 'new.pdf' WHERE id = 1")

        assert entries() == [("low.pdf", "1")]

    def test_upsert_that_moves_no_row_is_recorded_once(self, partitioned: None) -> None:
        run_sql(
            "INSERT INTO thirdparty_brochure VALUES (1, 'x.pdf'), (101, 'y.pdf'), (102, 'z.pdf')"
            " ON CONFLICT (id) DO UPDATE SET file = excluded.file"
        )

        assert entries() == [("high.pdf", "101"), ("low.pdf", "1")]

    def test_merge_is_recorded_once(self, partitioned: None) -> None:
        if server_version() < 150000:
            pytest.skip("MERGE came with PostgreSQL 15")

        run_sql(
            "MERGE INTO thirdparty_brochure b USING (VALUES (1), (101)) AS v(id) ON v.id = b.id"
            " WHEN MATCHED AND b.id < 100 THEN DELETE WHEN MATCHED THEN UPDATE SET file = 'x.pdf'"
        )

        assert entries() == [("high.pdf", "101"), ("low.pdf", "1")]

    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
    @pytest.mark.parametrize("table", ["turned", "thirdparty_brochure"])
    def test_write_is_recorded_of_a_partition_with_its_columns_in_another_order(
        self, table: str, write: str, partitioned: None
    ) -> None:
        run_sql(
            "CREATE TABLE turned (file varchar(100) NOT NULL, other text, id bigint NOT NULL);"
            "ALTER TABLE turned DROP other;"
            "ALTER TABLE thirdparty_brochure ATTACH PARTITION turned FOR VALUES FROM (200) TO (300)"
        )
        sync("default")
        run_sql(
            "DELETE FROM thirdparty_brochure; DELETE FROM pending_file_deletion; INSERT INTO turned VALUES ('t', 201)"
        )

        run_sql(write.format(table))

        assert entries() == [("t", "201")]

    def test_cascade_to_a_partitioned_table_is_recorded(self, partitioned: None) -> None:
        run_sql(
            "CREATE TABLE parent (id bigint PRIMARY KEY); INSERT INTO parent VALUES (1);"
            "ALTER TABLE thirdparty_brochure ADD parent bigint REFERENCES parent ON DELETE CASCADE;"
            "UPDATE thirdparty_brochure SET parent = 1 WHERE id = 101; SET CONSTRAINTS ALL IMMEDIATE"
        )

        run_sql("DELETE FROM parent")

        assert entries() == [("high.pdf", "101")]


class TestTruncate:
    """A TRUNCATE fires the trigger of every table that it reaches: each name is recorded by one of them."""

    @pytest.mark.parametrize(
        "tables",
        [
            "thirdparty_brochure",
            "thirdparty_brochure, middle, leaf, late",
            "middle, late, thirdparty_brochure",
            "low, high, middle",
        ],
    )
    def test_names_of_a_tree_with_a_leaf_that_was_added_since_are_recorded_once_by(
        self, tables: str, partitioned: None
    ) -> None:
        run_sql(MIDDLE)
        sync("default")
        run_sql(
            "CREATE TABLE late PARTITION OF middle FOR VALUES FROM (400) TO (500);"
            "INSERT INTO thirdparty_brochure VALUES (301, 'leaf.pdf'), (401, 'late.pdf')"
        )

        run_sql(f"TRUNCATE {tables}")

        assert entries() == [("high.pdf", "101"), ("late.pdf", "401"), ("leaf.pdf", "301"), ("low.pdf", "1")]

    @pytest.mark.parametrize(
        "tables", ["ONLY thirdparty_brochure", "thirdparty_brochure", "thirdparty_brochure, child"]
    )
    @pytest.mark.django_db
    def test_names_of_an_inheritance_tree_are_recorded_once_by(self, tables: str) -> None:
        run_sql("CREATE TABLE child () INHERITS (thirdparty_brochure)")
        sync("default")
        run_sql(
            "CREATE TABLE late () INHERITS (child); INSERT INTO thirdparty_brochure (id, file) VALUES (1, 'own.pdf');"
            "INSERT INTO child (id, file) VALUES (2, 'child.pdf'); INSERT INTO late (id, file) VALUES (3, 'late.pdf')"
        )

        run_sql(f"TRUNCATE {tables}")

        below = [] if tables.startswith("ONLY") else [("child.pdf", "2"), ("late.pdf", "3")]
        assert entries() == [*below, ("own.pdf", "1")]


class TestModelOfItsOwn:
    """A partition that has a model itself, with a file column that the root's model has not."""

    @pytest.mark.parametrize("statement", [*WRITES.values(), "TRUNCATE thirdparty_brochure"])
    def test_names_of_its_own_column_are_recorded_beside_those_of_the_root(
        self, statement: str, shop: App, scratch: Scratch
    ) -> None:
        scratch.sql(MAKE_ROOM + ROOT + LEAVES + "ALTER TABLE thirdparty_brochure ADD scan varchar(100)")
        shop.models(
            """
            class Low(models.Model):
                file = models.FileField()
                scan = models.FileField()

                class Meta:
                    managed = False
                    db_table = "low"
            """
        )
        report = sync("scratch")
        assert report is not None
        assert report.failed == []
        scratch.sql("INSERT INTO thirdparty_brochure VALUES (1, 'a.pdf', 'scan.pdf'), (101, 'b.pdf', 'no-file')")

        scratch.sql(statement.format("low").replace("file = 'x.pdf'", "file = 'x.pdf', scan = ''"))

        found = {(source, name) for source, name, _ in recorded("scratch")}
        low = {(SOURCE, "a.pdf"), ("shop.low.scan", "scan.pdf")}
        assert found == (low if "low" in statement.format("low") else {*low, (SOURCE, "b.pdf")})
        assert len(recorded("scratch")) == len(found)
        again = sync("scratch")
        assert again is not None
        assert again.changed == []

    def test_column_that_was_renamed_a_moment_ago_is_found_in_the_root(self, shop: App, scratch: Scratch) -> None:
        scratch.sql(MAKE_ROOM + ROOT + LEAVES + "ALTER TABLE thirdparty_brochure ADD note text, ADD scan varchar(100)")
        shop.models(
            """
            class High(models.Model):
                scan = models.FileField()

                class Meta:
                    managed = False
                    db_table = "high"
            """
        )
        sync("scratch")
        scratch.sql("INSERT INTO thirdparty_brochure VALUES (101, 'b.pdf', 'a note', 'scan.pdf')")
        scratch.sql("ALTER TABLE thirdparty_brochure RENAME scan TO paper")

        scratch.sql("DELETE FROM high")

        assert {(source, name) for source, name, _ in recorded("scratch")} == {
            (SOURCE, "b.pdf"),
            ("shop.high.scan", "scan.pdf"),
        }

    def test_partitioned_partition_may_have_a_model_too(self, shop: App, scratch: Scratch) -> None:
        scratch.sql(MAKE_ROOM + ROOT + MIDDLE + "ALTER TABLE thirdparty_brochure ADD scan varchar(100)")
        shop.models(
            """
            class Middle(models.Model):
                scan = models.FileField()

                class Meta:
                    managed = False
                    db_table = "middle"
            """
        )
        sync("scratch")
        scratch.sql("INSERT INTO leaf VALUES (301, 'a.pdf', 'scan.pdf')")

        scratch.sql("DELETE FROM thirdparty_brochure")

        assert {name for _, name, _ in recorded("scratch")} == {"a.pdf", "scan.pdf"}


class TestNoGap:
    """There is no moment in which neither the old trigger of a table nor the new one stands."""

    @pytest.mark.parametrize("write", [WRITES["UPDATE"], WRITES["DELETE"]], ids=["UPDATE", "DELETE"])
    def test_write_in_the_transaction_that_attaches_a_table_is_recorded(self, write: str, partitioned: None) -> None:
        run_sql(
            "CREATE TABLE new (id bigint NOT NULL, file varchar(100) NOT NULL); INSERT INTO new VALUES (201, 'n.pdf')"
        )
        run_sql("ALTER TABLE thirdparty_brochure ATTACH PARTITION new FOR VALUES FROM (200) TO (300)")

        run_sql(write.format("new"))

        assert entries() == [("n.pdf", "201")]

    @pytest.fixture
    def moved_in(self, scratch: Scratch, settings: Settings) -> Scratch:
        """Make the plain table, triggers and all, a partition of a new root that has none yet; a leaf beside it."""
        settings.PGCLEANUP_LOCK_TIMEOUT = timedelta(milliseconds=20)
        scratch.sql(
            MAKE_ROOM
            + "ALTER TABLE plain RENAME CONSTRAINT thirdparty_brochure_pkey TO plain_pkey;"
            + ROOT
            + "ALTER TABLE thirdparty_brochure ATTACH PARTITION plain FOR VALUES FROM (0) TO (100);"
            + "CREATE TABLE beside PARTITION OF thirdparty_brochure FOR VALUES FROM (100) TO (200)"
        )
        return scratch

    def test_own_triggers_of_a_partition_stay_while_its_root_could_get_none(self, moved_in: Scratch) -> None:
        with moved_in.session(autocommit=False) as writer:
            writer.execute("INSERT INTO beside VALUES (101, 'b.pdf')")

            report = sync("scratch")

        assert report is not None
        assert [table for table, _ in report.failed] == ["public.beside", "public.thirdparty_brochure"]
        moved_in.sql("INSERT INTO plain (id, file) VALUES (1, 'a.pdf'), (2, 'b.pdf')")
        moved_in.sql("UPDATE plain SET file = 'x.pdf' WHERE id = 1; DELETE FROM plain WHERE id = 2")
        assert entries("scratch") == [("a.pdf", "1"), ("b.pdf", "2")]

    def test_next_sync_completes_it(self, moved_in: Scratch) -> None:
        with moved_in.session(autocommit=False) as writer:
            writer.execute("INSERT INTO beside VALUES (101, 'b.pdf')")
            sync("scratch")

        sync("scratch")

        found = inspect("scratch")
        assert found is not None
        assert found.problems() == []
        assert found.plan.stray_triggers == ()

    def test_trigger_by_statement_stays_while_the_one_by_row_could_not_take_over(
        self, scratch: Scratch, settings: Settings
    ) -> None:
        settings.PGCLEANUP_LOCK_TIMEOUT = timedelta(milliseconds=20)
        scratch.sql("CREATE TABLE child () INHERITS (thirdparty_brochure)")
        # The lock for CREATE TRIGGER conflicts with a writer's; as soon as it is gone, so does nothing.
        with scratch.session(autocommit=False) as writer:
            writer.execute("INSERT INTO thirdparty_brochure (file) VALUES ('a.pdf')")

            sync("scratch")

        assert "pgcleanup_del" in [
            name
            for (name,) in scratch.sql("SELECT tgname FROM pg_trigger WHERE tgrelid = 'thirdparty_brochure'::regclass")
        ]


class TestOwners:
    """Tables of one tree that belong to several roles."""

    @pytest.fixture(autouse=True)
    def _tree(self, partitioned: None) -> None:
        run_sql(MIDDLE)
        sync("default")

    @pytest.mark.parametrize("operation", WRITES)
    def test_owner_of_a_leaf_writes_it_and_is_recorded(self, operation: str) -> None:
        clerk = make_clerk()
        run_sql(f"ALTER TABLE low OWNER TO {clerk}")

        with logged_in(clerk):
            run_sql(WRITES[operation].format("low"))

        assert recorded() == [("thirdparty.brochure.file", "low.pdf", operation)]

    def test_owner_of_a_partition_can_add_partitions_to_it(self) -> None:
        clerk = make_clerk()
        run_sql(f"ALTER TABLE middle OWNER TO {clerk}")
        sync("default")

        with logged_in(clerk):
            run_sql("CREATE TABLE more PARTITION OF middle FOR VALUES FROM (400) TO (500)")
            run_sql("INSERT INTO more VALUES (401, 'm.pdf'); DELETE FROM more")

        assert entries() == [("m.pdf", "401")]

    def test_new_owner_of_the_root_can_add_partitions_after_a_grant_that_the_next_sync_keeps(self) -> None:
        clerk = make_clerk()
        add = "CREATE TABLE more PARTITION OF thirdparty_brochure FOR VALUES FROM (600) TO (700)"
        run_sql(f"ALTER TABLE thirdparty_brochure OWNER TO {clerk}")
        with logged_in(clerk):
            before = refused(add)

        # As docs/coverage.md has it.
        [(grant,)] = run_sql(
            "SELECT format('GRANT EXECUTE ON FUNCTION %s TO %s', tgfoid::regprocedure, relowner::regrole)"
            "  FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid"
            " WHERE c.oid = 'thirdparty_brochure'::regclass AND starts_with(tgname, 'pgcleanup_row_')"
        )
        run_sql(grant)

        assert before.startswith("permission denied for function")
        with logged_in(clerk):
            run_sql(add)
        rights = "SELECT proacl::text FROM pg_proc WHERE proname LIKE 'pgcleanup_row_thirdparty%'"
        granted = run_sql(rights)
        sync("default")
        assert run_sql(rights) == granted

    def test_owner_of_a_partition_no_more_has_no_rights_on_the_function(self) -> None:
        clerk = make_clerk()
        run_sql(f"ALTER TABLE middle OWNER TO {clerk}")
        sync("default")
        run_sql("ALTER TABLE middle OWNER TO CURRENT_USER")

        sync("default")

        assert run_sql(
            "SELECT has_function_privilege(%s, oid, 'EXECUTE') FROM pg_proc"
            " WHERE proname LIKE 'pgcleanup_row_thirdparty%%'",
            [clerk.strip('"')],
        ) == [(False,)]

    def test_sync_by_who_owns_the_root_but_not_each_leaf_reports_that(self) -> None:
        owner, other = make_role("root"), make_role("leaf")
        run_sql(f"GRANT CREATE, USAGE ON SCHEMA public TO {owner}")
        for kind, name in run_sql(
            "SELECT 'TABLE', oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace ="
            " 'public'::regnamespace UNION ALL SELECT 'FUNCTION', oid::regprocedure::text FROM pg_proc"
            " WHERE proname LIKE 'pgcleanup%'"
        ):
            run_sql(f"ALTER {kind} {name} OWNER TO {owner}")
        [root_trigger] = triggers_of("thirdparty_brochure")[:1]
        run_sql(f"DROP TRIGGER {root_trigger} ON thirdparty_brochure; ALTER TABLE low OWNER TO {other}")

        with logged_in(owner):
            report = sync("default")

        assert report is not None
        assert [table for table, _ in report.failed] == ["public.thirdparty_brochure"]
        run_sql("UPDATE low SET file = 'x.pdf'")


class TestClones:
    """The triggers that PostgreSQL makes on partitions: they are what fires."""

    def test_one_that_was_disabled_on_its_partition_alone_is_reported(self, partitioned: None) -> None:
        [root_trigger] = [name for name in triggers_of("low") if name.startswith("pgcleanup_row_")]
        run_sql(f"ALTER TABLE low DISABLE TRIGGER {root_trigger}")

        report = sync("default")

        found = inspect("default")
        assert report is not None
        assert found is not None
        assert report.disabled == ["public.low"]
        assert found.problems() == ["public.low: trigger disabled"]

    def test_all_of_them_disabled_by_their_root_are_reported_as_one(self, partitioned: None) -> None:
        [root_trigger] = triggers_of("thirdparty_brochure")[:1]
        run_sql(f"ALTER TABLE thirdparty_brochure DISABLE TRIGGER {root_trigger}")

        found = inspect("default")

        assert found is not None
        assert found.problems() == ["public.thirdparty_brochure: trigger disabled"]

    def test_function_of_a_tree_is_replaced_once(self, partitioned: None) -> None:
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        run_sql("ALTER TABLE thirdparty_brochure ALTER file TYPE text")

        with CaptureQueriesContext(connection) as queries:
            sync("default")

        made = [query["sql"] for query in queries if "CREATE OR REPLACE FUNCTION" in query["sql"]]
        assert len(made) == 2  # by row, and for TRUNCATE


class TestInheriting:
    """Children of PostgreSQL's INHERITS that have columns of their own, or other numbers for the inherited ones."""

    @pytest.fixture
    def child(self, db: None) -> None:
        """Make a table that has a model of its own the child of the brochures' table."""
        run_sql("ALTER TABLE project_place ADD file varchar(100) NOT NULL DEFAULT ''")
        run_sql("ALTER TABLE project_place INHERIT thirdparty_brochure")
        sync("default")
        run_sql("INSERT INTO project_place (id, photo, file) VALUES (1, 'p.png', 'f.pdf')")

    @pytest.mark.parametrize("operation", WRITES)
    def test_own_column_and_inherited_one_are_both_recorded(self, operation: str, child: None) -> None:
        statement = WRITES[operation].format("project_place")

        run_sql("SET CONSTRAINTS ALL IMMEDIATE")
        run_sql(statement.replace("'x.pdf'", "'', photo = ''") + (" CASCADE" if operation == "TRUNCATE" else ""))

        assert recorded() == [
            ("project.place.photo", "p.png", operation),
            ("thirdparty.brochure.file", "f.pdf", operation),
        ]

    def test_inherited_column_under_another_number_is_recorded_after_it_was_renamed(self, child: None) -> None:
        run_sql("UPDATE thirdparty_brochure SET file = file || ''; ALTER TABLE thirdparty_brochure RENAME file TO scan")

        run_sql("DELETE FROM thirdparty_brochure")

        assert recorded() == [
            ("project.place.photo", "p.png", "DELETE"),
            ("thirdparty.brochure.file", "f.pdf", "DELETE"),
        ]

    def test_second_sync_changes_nothing(self, child: None) -> None:
        report = sync("default")

        assert report is not None
        assert (report.changed, report.failed) == ([], [])

    def test_child_made_since_the_last_sync_is_recorded_after_the_next(self, db: None) -> None:
        run_sql("CREATE TABLE later () INHERITS (thirdparty_brochure)")
        run_sql("INSERT INTO later (id, file) VALUES (1, 'unseen.pdf'); DELETE FROM later")
        sync("default")

        run_sql("INSERT INTO later (id, file) VALUES (2, 'seen.pdf'); DELETE FROM later")

        assert entries() == [("seen.pdf", "2")]


class TestForeignLeaf:
    """A partition that is a foreign table."""

    @pytest.fixture
    def tree(self, scratch: Scratch) -> Scratch:
        """Make a partitioned table with a partition here and one on another server, which is this database, too."""
        if not scratch.sql("SELECT name FROM pg_available_extensions WHERE name = 'postgres_fdw'"):
            pytest.skip("this server has no postgres_fdw")
        target = scratch.seen_from_the_server()
        scratch.sql(
            "CREATE EXTENSION postgres_fdw; ALTER TABLE thirdparty_brochure RENAME TO plain;"
            "CREATE TABLE far (id bigint NOT NULL, file varchar(100) NOT NULL);"
            "CREATE TABLE thirdparty_brochure (id bigint NOT NULL, file varchar(100) NOT NULL) PARTITION BY RANGE (id);"
            "CREATE TABLE near PARTITION OF thirdparty_brochure FOR VALUES FROM (0) TO (100)"
        )
        with scratch.session() as session:
            session.execute(
                psycopg.sql.SQL(
                    "CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host {}, port {}, dbname {});"
                    "CREATE USER MAPPING FOR CURRENT_USER SERVER far OPTIONS (user {}, password {});"
                    "CREATE FOREIGN TABLE there PARTITION OF thirdparty_brochure FOR VALUES FROM (100) TO (200)"
                    " SERVER far OPTIONS (table_name 'far')"
                ).format(
                    *(
                        psycopg.sql.Literal(target.get(key, ""))
                        for key in ("host", "port", "dbname", "user", "password")
                    )
                )
            )
        sync("scratch")
        scratch.sql("INSERT INTO thirdparty_brochure VALUES (1, 'low.pdf'), (101, 'high.pdf')")
        return scratch

    @pytest.mark.parametrize("operation", ["UPDATE", "TRUNCATE"])
    def test_write_to_the_root_is_recorded_once(self, operation: str, tree: Scratch) -> None:
        tree.sql(WRITES[operation].format("thirdparty_brochure"))

        assert entries("scratch") == [("high.pdf", "101"), ("low.pdf", "1")]

    def test_write_to_the_foreign_leaf_is_recorded_once(self, tree: Scratch) -> None:
        tree.sql("DELETE FROM there")

        assert entries("scratch") == [("high.pdf", "101")]

    def test_truncate_goes_on_where_the_functions_owner_cannot_reach_the_server(self, tree: Scratch) -> None:
        [[options]] = tree.sql("SELECT umoptions FROM pg_user_mappings WHERE srvname = 'far'")
        given = dict(option.split("=", 1) for option in options)
        with tree.session(autocommit=False) as session:
            said: list[str] = []
            session.add_notice_handler(lambda diagnostic: said.append(str(diagnostic.message_primary)))
            session.execute(
                psycopg.sql.SQL(
                    "CREATE ROLE {role}; GRANT USAGE ON FOREIGN SERVER far TO {role};"
                    "DROP USER MAPPING FOR CURRENT_USER SERVER far;"
                    "CREATE USER MAPPING FOR {role} SERVER far"
                    " OPTIONS (user {user}, password {password}, password_required 'false');"
                    "GRANT ALL ON thirdparty_brochure, near, there TO {role}; SET SESSION AUTHORIZATION {role}"
                ).format(
                    role=psycopg.sql.Identifier(f"reaches {session.info.dbname}"),
                    user=psycopg.sql.Literal(given["user"]),
                    password=psycopg.sql.Literal(given["password"]),
                )
            )

            session.execute("TRUNCATE thirdparty_brochure")

            assert session.execute("SELECT count(*) FROM near").fetchone() == (0,)
        assert any(
            "old file names of public.thirdparty_brochure are not recorded: user mapping not found" in line
            for line in said
        )
