"""Write paths that are easy to miss: each name that goes is recorded once, or is known not to be.

The plain ones are in test_record_sql.py and test_record_orm.py, partitions and the like in test_partitions.py.
"""

from __future__ import annotations

import django
import pytest
from django.db import connection, models
from django.test.utils import isolate_apps

from pgcleanup.triggers import sync
from tests.database.roles import logged_in, make_clerk, make_plain_owner
from tests.project.models import Document, NamedFile, Page
from tests.support import Scratch, ledger, recorded, recorded_names, run_sql, server_version

pytestmark = pytest.mark.django_db

FILE = "project.document.file"


@pytest.fixture
def documents() -> None:
    """Make rows 1 and 2, which name a.txt and b.txt."""
    Document.objects.bulk_create([Document(pk=1, file="a.txt"), Document(pk=2, file="b.txt")])
    connection.check_constraints()


def needs(version: int, what: str) -> None:
    if server_version() < version * 10_000:
        pytest.skip(f"{what} came with PostgreSQL {version}")


class TestStatements:
    """One statement that lets several names go."""

    def test_two_deletes_in_ctes_of_one_statement_record_each_name_once(self, documents: None) -> None:
        run_sql(
            "WITH a AS (DELETE FROM project_document WHERE id = 1), b AS (DELETE FROM project_document WHERE id = 2)"
            " SELECT 1"
        )

        assert recorded() == [(FILE, "a.txt", "DELETE"), (FILE, "b.txt", "DELETE")]

    def test_delete_beside_an_update_in_a_cte_records_each_name_once(self, documents: None) -> None:
        run_sql(
            "WITH a AS (DELETE FROM project_document WHERE id = 1 RETURNING 'x'::text),"
            " b AS (UPDATE project_document SET file = 'new.txt' WHERE id = 2),"
            " c AS (INSERT INTO project_document (id, title, file) VALUES (3, '', 'c.txt'))"
            " SELECT 1"
        )

        assert recorded() == [(FILE, "a.txt", "DELETE"), (FILE, "b.txt", "UPDATE")]

    def test_upsert_of_a_composite_key_records_the_name_it_replaces(self) -> None:
        run_sql("INSERT INTO project_page (book, number, scan) VALUES ('b', 3, 'p.png')")

        run_sql(
            "INSERT INTO project_page (book, number, scan) VALUES ('b', 3, 'q.png'), ('b', 4, 'r.png')"
            " ON CONFLICT (book, number) DO UPDATE SET scan = excluded.scan WHERE project_page.scan <> excluded.scan"
        )

        assert [(entry.name, entry.object_pk) for entry in ledger()] == [("p.png", '["b", "3"]')]

    def test_upsert_whose_condition_is_false_records_nothing(self, documents: None) -> None:
        run_sql(
            "INSERT INTO project_document (id, title, file) VALUES (1, '', 'c.txt')"
            " ON CONFLICT (id) DO UPDATE SET file = excluded.file WHERE false"
        )

        assert ledger() == []

    def test_merge_that_deletes_what_its_source_does_not_name_is_recorded(self, documents: None) -> None:
        needs(17, "WHEN NOT MATCHED BY SOURCE")

        run_sql(
            "MERGE INTO project_document d USING (VALUES (1, 'c.txt')) AS v(id, file) ON v.id = d.id"
            " WHEN MATCHED THEN UPDATE SET file = v.file WHEN NOT MATCHED BY SOURCE THEN DELETE RETURNING d.id"
        )

        assert recorded() == [(FILE, "a.txt", "UPDATE"), (FILE, "b.txt", "DELETE")]

    def test_merge_into_an_updatable_view_is_recorded(self, documents: None) -> None:
        needs(17, "MERGE into a view")
        run_sql("CREATE VIEW paper AS SELECT id, file FROM project_document")

        run_sql(
            "MERGE INTO paper p USING (VALUES (1, 'c.txt'), (2, '')) AS v(id, file) ON v.id = p.id"
            " WHEN MATCHED AND v.file = '' THEN DELETE WHEN MATCHED THEN UPDATE SET file = v.file"
        )

        assert recorded() == [(FILE, "a.txt", "UPDATE"), (FILE, "b.txt", "DELETE")]

    def test_old_and_new_in_returning_change_nothing(self, documents: None) -> None:
        needs(18, "RETURNING OLD and NEW")

        rows = run_sql("UPDATE project_document SET file = 'c.txt' WHERE id = 1 RETURNING old.file, new.file")

        assert rows == [("a.txt", "c.txt")]
        assert recorded() == [(FILE, "a.txt", "UPDATE")]

    def test_update_through_a_cursor_is_recorded(self, documents: None) -> None:
        run_sql("DECLARE c CURSOR FOR SELECT * FROM project_document ORDER BY id FOR UPDATE; FETCH c")

        run_sql("UPDATE project_document SET file = 'c.txt' WHERE CURRENT OF c")

        assert recorded() == [(FILE, "a.txt", "UPDATE")]

    def test_copy_into_the_table_and_out_of_it_records_nothing(self, documents: None) -> None:
        with connection.cursor() as cursor:
            with cursor.copy("COPY project_document (id, title, file) FROM STDIN") as copy:
                copy.write_row((3, "", "a.txt"))
            with cursor.copy("COPY project_document TO STDOUT") as copy:
                assert len(list(copy.rows())) == 3

        assert ledger() == []

    def test_copy_of_a_deleting_statement_is_recorded(self, documents: None) -> None:
        statement = "COPY (DELETE FROM project_document WHERE id = 1 RETURNING file) TO STDOUT"
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            assert list(copy.rows()) == [("a.txt",)]

        assert recorded() == [(FILE, "a.txt", "DELETE")]


class TestKeys:
    """What happens to the primary key in the same statement."""

    def test_part_of_a_composite_key_changed_together_with_the_name_is_recorded_under_the_old_key(self) -> None:
        Page.objects.create(book="b", number=3, scan="p.png")

        run_sql("UPDATE project_page SET number = 4, scan = 'q.png'")

        assert [(entry.name, entry.object_pk) for entry in ledger()] == [("p.png", '["b", "3"]')]

    def test_key_changed_alone_records_nothing(self, documents: None) -> None:
        run_sql("UPDATE project_document SET id = id + 10")

        assert ledger() == []

    def test_name_that_is_the_key_is_recorded_under_itself(self) -> None:
        NamedFile.objects.create(name="old.png")

        NamedFile.objects.update(name="new.png")

        assert [(entry.name, entry.object_pk) for entry in ledger()] == [("old.png", "old.png")]


class TestForeignKeys:
    """What foreign keys do in the database, without a query of Django's."""

    def test_cascade_within_one_table_records_each_name_once(self, documents: None) -> None:
        run_sql("ALTER TABLE project_document ADD parent bigint REFERENCES project_document ON DELETE CASCADE")
        run_sql(
            "INSERT INTO project_document (id, title, file, parent) VALUES (3, '', 'c.txt', 1), (4, '', 'd.txt', 3)"
        )

        run_sql("DELETE FROM project_document WHERE id = 1")

        assert recorded_names() == ["a.txt", "c.txt", "d.txt"]

    def test_cascade_that_waits_for_the_commit_is_recorded(self, documents: None) -> None:
        run_sql(
            "ALTER TABLE project_attachment ADD parent bigint"
            " REFERENCES project_document ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED"
        )
        run_sql("INSERT INTO project_attachment (parent, file) VALUES (1, 'goes-too.txt')")
        run_sql("DELETE FROM project_document WHERE id = 1")

        run_sql("SET CONSTRAINTS ALL IMMEDIATE")

        assert recorded_names() == ["a.txt", "goes-too.txt"]

    def test_file_column_that_is_set_to_its_default_is_recorded(self) -> None:
        NamedFile.objects.create(name="old.png")
        Document.objects.create(thumb="old.png")
        connection.check_constraints()
        run_sql(
            "ALTER TABLE project_document ADD FOREIGN KEY (thumb) REFERENCES project_namedfile ON DELETE SET DEFAULT"
        )

        run_sql("DELETE FROM project_namedfile")

        assert recorded() == [
            ("project.document.thumb", "old.png", "UPDATE"),
            ("project.namedfile.name", "old.png", "DELETE"),
        ]

    @pytest.mark.skipif(django.VERSION < (6, 1), reason="DB_CASCADE and DB_SET_NULL came with Django 6.1")
    @pytest.mark.parametrize(("on_delete", "names"), [("DB_CASCADE", ["a.txt", "c.txt"]), ("DB_SET_NULL", ["a.txt"])])
    @isolate_apps("tests.project")
    def test_delete_that_django_leaves_to_the_database_is_recorded(
        self, on_delete: str, names: list[str], documents: None
    ) -> None:
        class Parent(models.Model):
            class Meta:
                app_label = "project"
                db_table = "project_document"

        class Before(models.Model):
            document = models.ForeignKey(Parent, models.DO_NOTHING, null=True)
            file = models.FileField()

            class Meta:
                app_label = "project"
                db_table = "project_attachment"

        class After(models.Model):
            document = models.ForeignKey(Parent, getattr(models, on_delete), null=True)
            file = models.FileField()

            class Meta:
                app_label = "project"
                db_table = "project_attachment"

        with connection.schema_editor() as editor:
            editor.alter_field(Before, Before._meta.get_field("document"), After._meta.get_field("document"))
        After.objects.create(document_id=1, file="c.txt")

        Parent.objects.filter(pk=1).delete()

        assert recorded_names() == names
        assert After.objects.count() == (0 if on_delete == "DB_CASCADE" else 1)


class TestOthersTriggers:
    """Triggers and rules of another library on the same table."""

    @staticmethod
    def trigger(when: str, body: str, table: str = "project_document") -> None:
        run_sql(
            f"CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;"
            f"CREATE TRIGGER a_theirs {when} ON {table} FOR EACH ROW EXECUTE FUNCTION theirs()"
        )

    def test_soft_delete_instead_of_a_delete_records_nothing(self, documents: None) -> None:
        self.trigger("BEFORE DELETE", "UPDATE project_document SET title = 'gone' WHERE id = OLD.id; RETURN NULL;")

        run_sql("DELETE FROM project_document")

        assert ledger() == []
        assert run_sql("SELECT count(*) FROM project_document WHERE title = 'gone'") == [(2,)]

    def test_change_that_a_before_trigger_takes_back_records_nothing(self, documents: None) -> None:
        self.trigger("BEFORE UPDATE", "NEW.file := OLD.file; RETURN NEW;")

        run_sql("UPDATE project_document SET file = 'c.txt'")

        assert ledger() == []

    def test_second_change_by_an_after_trigger_is_recorded_as_a_change_of_its_own(self, documents: None) -> None:
        self.trigger(
            "AFTER UPDATE",
            "UPDATE project_document SET file = 'd.txt' WHERE id = NEW.id AND file = 'c.txt'; RETURN NULL;",
        )

        run_sql("UPDATE project_document SET file = 'c.txt' WHERE id = 1")

        assert recorded_names() == ["a.txt", "c.txt"]

    def test_write_to_a_view_by_its_instead_of_trigger_is_recorded(self, documents: None) -> None:
        run_sql("CREATE VIEW paper AS SELECT DISTINCT id, file FROM project_document")
        self.trigger("INSTEAD OF DELETE", "DELETE FROM project_document WHERE id = OLD.id; RETURN OLD;", "paper")

        run_sql("DELETE FROM paper WHERE id = 2")

        assert recorded() == [(FILE, "b.txt", "DELETE")]

    def test_delete_that_a_rule_turns_into_an_update_is_recorded_as_that(self, documents: None) -> None:
        run_sql(
            "CREATE RULE soft AS ON DELETE TO project_document DO INSTEAD"
            " UPDATE project_document SET file = '' WHERE id = OLD.id"
        )

        run_sql("DELETE FROM project_document WHERE id = 1")

        assert recorded() == [(FILE, "a.txt", "UPDATE")]


class TestColumns:
    """What stands beside the file column, and what it is made of."""

    @pytest.mark.parametrize("kind", ["STORED", "VIRTUAL"])
    def test_generated_column_beside_it_changes_nothing(self, kind: str, documents: None) -> None:
        if kind == "VIRTUAL":
            needs(18, "virtual generated columns")
        run_sql(f"ALTER TABLE project_document ADD extension text GENERATED ALWAYS AS (right(file, 3)) {kind}")

        run_sql("UPDATE project_document SET file = 'c.pdf' WHERE id = 1; DELETE FROM project_document WHERE id = 2")

        assert recorded() == [(FILE, "a.txt", "UPDATE"), (FILE, "b.txt", "DELETE")]

    @pytest.mark.parametrize("kind", ["STORED", "VIRTUAL"])
    def test_file_column_that_the_database_computes_and_stores_is_recorded(self, kind: str, documents: None) -> None:
        if kind == "VIRTUAL":
            needs(18, "virtual generated columns")
        run_sql(
            "ALTER TABLE project_document DROP thumb;"
            f"ALTER TABLE project_document ADD thumb varchar(100) GENERATED ALWAYS AS (file || '.png') {kind}"
        )
        sync("default")

        run_sql("UPDATE project_document SET file = 'c.txt' WHERE id = 1; DELETE FROM project_document WHERE id = 2")

        # PostgreSQL shows triggers no value of a virtual column.
        computed = ["a.txt.png", "b.txt.png"] if kind == "STORED" else []
        assert recorded_names() == sorted(["a.txt", "b.txt", *computed])

    @pytest.mark.parametrize(
        "make",
        [
            "CREATE DOMAIN filename AS varchar(200) CHECK (VALUE !~ '^/')",
            "CREATE DOMAIN name200 AS varchar(200); CREATE DOMAIN filename AS name200",
            "CREATE TYPE filename AS ENUM ('a.txt', 'b.txt')",
        ],
        ids=["a domain", "a domain of a domain", "an enum"],
    )
    @pytest.mark.parametrize("write", ["UPDATE project_document SET file = NULL", "DELETE FROM project_document"])
    def test_name_is_recorded_from_a_column_of(self, make: str, write: str, documents: None) -> None:
        run_sql(f"{make}; ALTER TABLE project_document ALTER file DROP NOT NULL")
        run_sql("ALTER TABLE project_document ALTER file TYPE filename USING file::filename")
        sync("default")

        run_sql(write)

        assert recorded_names() == ["a.txt", "b.txt"]


class TestRowSecurity:
    """Row level security on the user's table."""

    @pytest.fixture(autouse=True)
    def _policy(self, documents: None) -> None:
        run_sql(
            "CREATE POLICY mine ON project_document USING (id = current_setting('app.row')::bigint);"
            "ALTER TABLE project_document ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
        )

    @pytest.mark.parametrize("write", ["UPDATE project_document SET file = ''", "DELETE FROM project_document"])
    def test_what_a_role_may_change_is_recorded_and_no_more(self, write: str) -> None:
        clerk = make_clerk()
        with logged_in(clerk):
            run_sql("SET LOCAL app.row = 1")
            run_sql(write)

        assert recorded_names() == ["a.txt"]

    def test_truncate_records_the_rows_that_the_owner_may_see(self) -> None:
        self.truncate_as_the_owner("SET LOCAL app.row = 1")

        assert recorded_names() == ["a.txt"]

    @pytest.mark.parametrize(
        "setting", ["RESET app.row", "SET LOCAL row_security = off"], ids=["a policy that fails", "row_security = off"]
    )
    def test_truncate_goes_on_with(self, setting: str) -> None:
        self.truncate_as_the_owner(setting)

        assert run_sql("SELECT count(*) FROM project_document") == [(0,)]
        assert ledger() == []

    def test_delete_instead_of_the_truncate_is_recorded(self) -> None:
        run_sql("DELETE FROM project_document")  # as a superuser: no policy holds

        assert recorded_names() == ["a.txt", "b.txt"]

    @staticmethod
    def truncate_as_the_owner(setting: str) -> None:
        owner = make_plain_owner()
        run_sql("ALTER TABLE project_attachment DROP document_id")
        run_sql(f"ALTER TABLE project_document OWNER TO {owner}")
        with logged_in(owner):
            run_sql(setting)
            run_sql("TRUNCATE project_document")


class TestSwitchedOff:
    """Whoever may switch triggers off can do so; nothing is recorded, and a drain says it."""

    WRITES = "UPDATE project_document SET file = '' WHERE id = 1; DELETE FROM project_document WHERE id = 2"

    @pytest.mark.parametrize("which", ["USER", "ALL"])
    def test_disabled_triggers_record_nothing_and_are_reported(self, which: str, documents: None) -> None:
        run_sql(f"ALTER TABLE project_document DISABLE TRIGGER {which}")

        run_sql(self.WRITES)

        report = sync("default")
        assert ledger() == []
        assert report is not None
        assert set(report.disabled) == {"public.project_document"}

    def test_replica_role_records_nothing(self, documents: None) -> None:
        run_sql("SET LOCAL session_replication_role = replica")

        run_sql(f"{self.WRITES}; TRUNCATE project_attachment")

        assert ledger() == []

    def test_triggers_enabled_always_record_for_the_replica_role_too(self, documents: None) -> None:
        run_sql(
            "ALTER TABLE project_document ENABLE ALWAYS TRIGGER pgcleanup_row;"
            "ALTER TABLE project_document ENABLE ALWAYS TRIGGER pgcleanup_del;"
            "SET LOCAL session_replication_role = replica"
        )

        run_sql(self.WRITES)

        assert recorded_names() == ["a.txt", "b.txt"]

    @pytest.mark.parametrize(("how", "state"), [("ENABLE ALWAYS", "A"), ("ENABLE REPLICA", "R"), ("DISABLE", "D")])
    def test_trigger_that_is_made_anew_stays(self, how: str, state: str) -> None:
        run_sql(f"ALTER TABLE thirdparty_brochure {how} TRIGGER pgcleanup_row")
        run_sql("CREATE TABLE child () INHERITS (thirdparty_brochure)")

        sync("default")

        assert run_sql(
            "SELECT tgenabled::text, tgtype FROM pg_trigger"
            " WHERE tgname = 'pgcleanup_row' AND tgrelid = 'thirdparty_brochure'::regclass"
        ) == [(state, 25)]


class TestImpossible:
    """No trigger can see these. What to do before is recorded."""

    def test_names_that_a_change_of_type_rewrites_are_not_recorded(self, documents: None) -> None:
        run_sql("ALTER TABLE project_document ALTER file TYPE text USING 'moved/' || file")

        assert ledger() == []

    def test_names_that_an_update_rewrites_before_a_change_of_type_are_recorded(self, documents: None) -> None:
        run_sql("UPDATE project_document SET file = 'moved/' || file")

        run_sql("ALTER TABLE project_document ALTER file TYPE text")

        assert recorded_names() == ["a.txt", "b.txt"]

    def test_dropped_table_is_not_recorded_but_its_truncate_before_is(self, documents: None) -> None:
        run_sql("TRUNCATE project_document CASCADE")

        run_sql("DROP TABLE project_document CASCADE")

        assert recorded_names() == ["a.txt", "b.txt"]

    def test_truncate_under_an_older_snapshot_misses_what_was_committed_since(self, scratch: Scratch) -> None:
        insert = "INSERT INTO project_page (book, number, scan) VALUES ('b', {0}, '{0}.png')"
        with scratch.session(autocommit=False) as truncating:
            truncating.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            truncating.execute(insert.format(1))
            scratch.sql(insert.format(2))

            truncating.execute("TRUNCATE project_page")
            truncating.commit()

        assert recorded_names("scratch") == ["1.png"]
        assert scratch.sql("SELECT count(*) FROM project_page") == [(0,)]
