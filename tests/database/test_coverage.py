"""The column table: the database knows which columns hold file names, and what the names mean."""

from __future__ import annotations

import pytest
from django.core.files.storage import default_storage, storages
from django.core.management import call_command
from pytest_django import Settings

from pgcleanup.models import FileDeletionColumn
from pgcleanup.storage_keys import storage_key
from pgcleanup.triggers import inspect, sync
from pgcleanup.triggers.coverage import KnownColumn, renames
from tests.support import Scratch, ledger, run_sql

ROWS = "SELECT source, table_name::text, attnum, storage_key FROM file_deletion_column"


def row_of(source: str) -> tuple[object, ...] | None:
    """Return table, attribute number and storage key of a source."""
    rows = {name: rest for name, *rest in run_sql(ROWS)}
    return tuple(rows[source]) if source in rows else None


def pend(source: str, name: str) -> None:
    run_sql(
        "INSERT INTO pending_file_deletion (source, name, operation, transaction_id, db_user, application_name)"
        " VALUES (%s, %s, 'UPDATE', 1, '', '')",
        [source, name],
    )


@pytest.mark.django_db
class TestRows:
    """What a sync writes."""

    def test_column_has_its_table_its_number_and_its_storage(self) -> None:
        sync("default")

        [[number]] = run_sql(
            "SELECT attnum FROM pg_attribute WHERE attrelid = 'project_document'::regclass AND attname = 'thumb'"
        )
        assert row_of("project.document.thumb") == ("project_document", number, storage_key(default_storage))

    def test_column_of_a_second_storage_has_that_ones_key(self) -> None:
        sync("default")

        found = row_of("project.archive.file")
        assert found is not None
        assert found[2] == storage_key(storages["archive"]) != storage_key(default_storage)

    def test_quoted_names_lead_to_their_table(self) -> None:
        sync("default")

        assert [
            row_of(source) is not None and row_of(source)[:2] for source in ("project.odd.file", "project.percent.file")
        ] == [
            ('"Odd ""table"" name"', 2),
            ('"legacy 100%s"', 2),
        ]

    @pytest.mark.parametrize("source", ["project.ignored.file", "project.proof.file", "project.manual.pdf"])
    def test_column_that_is_ignored_or_unmanaged_or_auto_created_is_there_too(self, source: str) -> None:
        sync("default")

        assert row_of(source) is not None

    def test_extra_reference_is_there_and_may_name_a_file_of_any_storage(self, settings: Settings) -> None:
        settings.PGCLEANUP_EXTRA_REFERENCES = ["project.Article.picture"]

        sync("default")

        assert row_of("project.article.picture") == ("project_article", 2, None)

    def test_column_in_ignore_references_is_not_there(self, settings: Settings) -> None:
        settings.PGCLEANUP_IGNORE_REFERENCES = ["project.Document.thumb"]

        sync("default")

        assert row_of("project.document.thumb") is None
        assert row_of("project.document.file") is not None

    def test_column_that_two_models_share_is_there_once(self) -> None:
        sync("default")

        assert row_of("project.document.file") is not None
        assert row_of("project.documenttwin.file") is None

    def test_column_without_a_table_has_no_table_and_no_number(self) -> None:
        run_sql("DROP TABLE thirdparty_brochure")

        sync("default")

        assert row_of("thirdparty.brochure.file") == (None, None, storage_key(default_storage))

    def test_column_that_its_table_does_not_have_yet_has_no_table_and_no_number(self) -> None:
        run_sql("ALTER TABLE project_document DROP thumb")

        sync("default")

        assert row_of("project.document.thumb") == (None, None, storage_key(default_storage))

    def test_storage_that_cannot_be_made_breaks_nothing(self, settings: Settings) -> None:
        settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": "there.is.no.Such"}}

        report = sync("default")

        assert report is not None
        assert report.failed == []
        found = row_of("project.document.file")
        assert found is not None
        assert str(found[2]).startswith("unusable")

    def test_rows_can_be_read_through_the_model(self) -> None:
        sync("default")

        column = FileDeletionColumn.objects.get(source="project.archive.file")
        assert column.storage_key == storage_key(storages["archive"])

    def test_other_settings_change_the_rows_and_nothing_else(self, settings: Settings, tmp_path) -> None:
        sync("default")
        settings.MEDIA_ROOT = tmp_path / "moved"

        report = sync("default")

        assert report is not None
        assert report.changed == ["file_deletion_column"]

    def test_inspection_tells_whether_the_rows_are_current(self, settings: Settings, tmp_path) -> None:
        sync("default")
        before = inspect("default")
        settings.MEDIA_ROOT = tmp_path / "moved"

        after = inspect("default")

        assert before is not None
        assert after is not None
        assert (before.columns_current, after.columns_current) == (True, False)

    def test_table_that_went_is_made_again(self) -> None:
        sync("default")
        run_sql("DROP TABLE file_deletion_column")

        report = sync("default")

        assert report is not None
        assert report.changed == ["file_deletion_column"]
        assert row_of("project.document.file") is not None


@pytest.mark.django_db
class TestRename:
    """Pending entries follow a column whose label changed."""

    def test_pending_entries_follow_a_renamed_field(self) -> None:
        sync("default")
        run_sql(
            "UPDATE file_deletion_column SET source = 'project.document.paper' WHERE source = 'project.document.file'"
        )
        pend("project.document.paper", "a.txt")
        pend("project.document.thumb", "a.png")

        sync("default")

        assert [entry.source for entry in ledger()] == ["project.document.file", "project.document.thumb"]

    def test_entries_of_a_column_that_no_model_has_any_more_stay_under_its_name(self) -> None:
        sync("default")
        run_sql("INSERT INTO file_deletion_column VALUES ('project.gone.file', 'project_article', 2, 'somewhere')")
        pend("project.gone.file", "a.txt")

        sync("default")

        assert [entry.source for entry in ledger()] == ["project.gone.file"]
        assert row_of("project.gone.file") is None

    def test_entries_stay_where_a_new_column_took_the_number_after_dump_and_restore(self) -> None:
        sync("default")
        pend("project.document.file", "a.txt")
        run_sql("UPDATE file_deletion_column SET attnum = attnum + 1 WHERE source = 'project.document.file'")
        run_sql("DELETE FROM file_deletion_column WHERE source = 'project.document.thumb'")

        sync("default")

        assert [entry.source for entry in ledger()] == ["project.document.file"]


def test_rename_is_the_same_place_under_another_label() -> None:
    before = [KnownColumn("a.doc.file", 1, 2, "k"), KnownColumn("a.doc.thumb", 1, 3, "k")]
    after = [KnownColumn("a.doc.scan", 1, 2, "k"), KnownColumn("a.doc.thumb", 1, 3, "k")]

    assert renames(before, after) == [("a.doc.file", "a.doc.scan")]


def test_chain_of_renames_is_one_step_for_each_column() -> None:
    before = [KnownColumn("a.doc.file", 1, 2, "k"), KnownColumn("a.doc.thumb", 1, 3, "k")]
    after = [KnownColumn("a.doc.thumb", 1, 2, "k"), KnownColumn("a.doc.scan", 1, 3, "k")]

    assert renames(before, after) == [("a.doc.file", "a.doc.thumb"), ("a.doc.thumb", "a.doc.scan")]


def test_chain_that_ends_with_a_label_that_was_there_is_no_rename() -> None:
    before = [KnownColumn("a.doc.file", 1, 2, "k"), KnownColumn("a.doc.thumb", 1, 3, "k")]
    after = [KnownColumn("a.doc.thumb", 1, 2, "k")]

    assert renames(before, after) == []


def test_label_of_a_column_that_was_dropped_can_be_taken_over() -> None:
    before = [KnownColumn("a.doc.file", 1, 2, "k"), KnownColumn("a.doc.thumb", 1, 3, "k")]
    after = [KnownColumn("a.doc.thumb", 1, 2, "k")]

    assert renames(before, after, {"a.doc.thumb"}) == [("a.doc.file", "a.doc.thumb")]


def test_two_labels_of_one_place_are_no_circle() -> None:
    before = [KnownColumn(f"a.{name}.file", 1, 2, "k") for name in ("one", "two", "three")]
    after = [KnownColumn(f"a.{name}.file", 1, 2, "k") for name in ("two", "three")]

    assert renames(before, after) == []


def test_note_of_a_column_that_was_dropped_is_renamed_by_nothing() -> None:
    before = [KnownColumn("a.doc.file", None, 0, "k"), KnownColumn("a.doc.scan", 1, 2, "k")]
    after = [KnownColumn("a.doc.file", 1, 2, "k")]

    assert renames(before, after) == [("a.doc.scan", "a.doc.file")]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("file@2", "scan@2 file@5", "file>scan"),
        ("file@2 thumb@3", "scan@2 thumb@3 file@4", "file>scan"),
        ("file@2 thumb@3", "thumb@2 file@3", "file>thumb thumb>file"),
        ("a@2 b@3 c@4", "b@2 c@3 a@4", "a>b b>c c>a"),
        ("file@2 thumb@3", "thumb@2 scan@3 file@4", "file>thumb thumb>scan"),
        # A dump and restore gives lower numbers, in the same order.
        ("file@3 thumb@4", "file@2 thumb@3", ""),
        ("file@4 thumb@5 scan@6", "file@2 thumb@4 scan@5", ""),
    ],
    ids=[
        "a renamed one",
        "a renamed one with a neighbour",
        "another, which took its name",
        "another two in a circle",
        "one that moved on",
        "a restored one",
        "a restored one with gaps",
    ],
)
def test_entries_of_a_name_that_is_another_columns_now_follow(before: str, after: str, expected: str) -> None:
    def rows(text: str) -> list[KnownColumn]:
        parts = (part.split("@") for part in text.split())
        return [KnownColumn(name, 1, int(number), "k") for name, number in parts]

    assert renames(rows(before), rows(after)) == [tuple(pair.split(">")) for pair in expected.split()]


def test_entries_follow_a_renamed_model_whose_name_a_new_one_took() -> None:
    after = [KnownColumn("a.paper.file", 1, 2, "k"), KnownColumn("a.doc.file", 9, 2, "k")]

    assert renames([KnownColumn("a.doc.file", 1, 2, "k")], after) == [("a.doc.file", "a.paper.file")]


@pytest.mark.parametrize(
    "after",
    [
        KnownColumn("a.doc.scan", 1, 9, "k"),
        KnownColumn("a.doc.scan", 2, 2, "k"),
        KnownColumn("a.doc.scan", None, None, "k"),
    ],
    ids=["another number", "another table", "no table"],
)
def test_column_in_another_place_is_no_rename(after: KnownColumn) -> None:
    assert renames([KnownColumn("a.doc.file", 1, 2, "k")], [after]) == []


def test_column_whose_label_is_still_there_is_no_rename_although_a_new_one_took_its_number() -> None:
    before = [KnownColumn("a.doc.file", 1, 2, "k")]
    after = [KnownColumn("a.doc.file", 1, 1, "k"), KnownColumn("a.doc.scan", 1, 2, "k")]

    assert renames(before, after) == []


def test_columns_without_a_table_are_no_rename_of_each_other() -> None:
    before, after = KnownColumn("a.doc.file", None, None, "k"), KnownColumn("a.doc.scan", None, None, "k")

    assert renames([before], [after]) == []


def test_flush_empties_the_ledger_and_leaves_the_column_table_alone(scratch: Scratch) -> None:
    sync("scratch")
    before = scratch.sql(ROWS)
    scratch.sql("INSERT INTO project_document (title, file) VALUES ('', 'a.txt'), ('', 'b.txt')")
    scratch.sql("UPDATE project_document SET file = 'c.txt'")

    call_command("flush", database="scratch", interactive=False, verbosity=0)

    assert ledger("scratch") == []
    assert sorted(scratch.sql(ROWS)) == sorted(before)


def test_migrate_writes_the_rows_of_all_apps(scratch: Scratch) -> None:
    sources = {source for (source,) in scratch.sql("SELECT source FROM file_deletion_column")}

    assert {"project.document.file", "thirdparty.brochure.file", "project.ignored.file"} <= sources
