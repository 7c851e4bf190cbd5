"""Models and settings in, file columns out: no database is asked."""

from __future__ import annotations

import pytest
from django.core.files.storage import default_storage, storages
from django.db import models
from pytest_django import Settings

from pgcleanup.apps import CleanupSelectedConfig
from pgcleanup.columns import FileColumn, default_names, file_fields, find_file_columns, ignored_sources
from pgcleanup.labels import label_problems, label_warnings
from pgcleanup.storage_keys import storage_key
from tests.project.models import Article, Document, DocumentTwin, Restaurant, Selected


def columns() -> dict[str, FileColumn]:
    return find_file_columns("default").by_source


def recorded_sources() -> set[str]:
    return {column.source for column in find_file_columns("default") if column.recorded}


class Router:
    """Keeps the project's models out of the database `default`."""

    def allow_migrate(self, db, app_label, **hints):
        return False if app_label == "project" else None


@pytest.mark.parametrize(
    ("source", "table", "column", "primary_key"),
    [
        ("project.document.file", '"project_document"', "file", ("id",)),
        ("project.document.thumb", '"project_document"', "thumb", ("id",)),
        ("project.invoice.scan", '"project_invoice"', "scan", ("id",)),
        ("project.place.photo", '"project_place"', "photo", ("id",)),
        ("project.restaurant.menu", '"project_restaurant"', "menu", ("place_ptr_id",)),
        ("project.namedfile.name", '"project_namedfile"', "name", ("name",)),
        ("project.page.scan", '"project_page"', "scan", ("book", "number")),
        ("project.manual.pdf", '"legacy_manual"', "pdf", ("id",)),
        ("project.odd.file", '"Odd ""table"" name"', 'fi"le $pgcleanup$ \\ Name', ('The " Key',)),
        ("project.percent.file", '"legacy 100%s"', "file %s %% 100%", ("id",)),
        ("project.proof.file", '"project_proof"', "file", ("id",)),
        ("thirdparty.brochure.file", '"thirdparty_brochure"', "file", ("id",)),
    ],
)
def test_column_is_found_with_its_table_and_primary_key(
    source: str, table: str, column: str, primary_key: tuple[str, ...]
) -> None:
    found = columns()[source]

    assert (found.table, found.column, found.primary_key) == (table, column, primary_key)


def test_table_without_a_file_field_has_no_column() -> None:
    assert [source for source in columns() if source.startswith(("auth.", "project.article"))] == []


def test_inherited_field_belongs_to_the_table_that_has_it() -> None:
    assert [field.name for field in file_fields(Restaurant)] == ["menu"]
    assert "project.restaurant.photo" not in columns()


def test_column_that_two_models_share_belongs_to_the_managed_one() -> None:
    assert columns()["project.document.file"].model is Document
    assert "project.documenttwin.file" not in columns()


def test_columns_come_in_the_order_of_the_models_definition() -> None:
    sources = [column.source for column in find_file_columns("default")]

    assert sources[:3] == ["project.document.file", "project.document.thumb", "project.attachment.file"]


def test_column_knows_its_storage() -> None:
    assert columns()["project.archive.file"].storage.location == storages["archive"].location  # type: ignore[attr-defined]
    assert columns()["project.archive.file"].storage_key == storage_key(storages["archive"])
    assert columns()["project.document.file"].storage_key == storage_key(default_storage)


class TestChoice:
    """Which columns are recorded, which only count, and which do not even count."""

    def test_every_column_is_recorded_but_those_of_ignored_models(self) -> None:
        assert set(columns()) - recorded_sources() == {"project.ignored.file"}

    @pytest.mark.parametrize("label", ["project.Document", "project.document", "PROJECT.DOCUMENT"])
    def test_excluded_model_still_counts(self, settings: Settings, label: str) -> None:
        settings.PGCLEANUP_EXCLUDE = [label]

        assert columns()["project.document.file"].excluded
        assert not columns()["project.document.file"].recorded
        assert columns()["project.attachment.file"].recorded

    @pytest.mark.parametrize("label", ["project.Document.thumb", "project.document.Thumb"])
    def test_excluded_field_leaves_its_neighbour_recorded(self, settings: Settings, label: str) -> None:
        settings.PGCLEANUP_EXCLUDE = [label]

        assert not columns()["project.document.thumb"].recorded
        assert columns()["project.document.file"].recorded

    def test_select_mode_records_only_what_was_selected(self, settings: Settings) -> None:
        settings.PGCLEANUP_COLUMNS = "selected"
        settings.PGCLEANUP_INCLUDE = ["project.Document.file", "thirdparty.Brochure"]

        assert recorded_sources() == {"project.selected.file", "project.document.file", "thirdparty.brochure.file"}
        assert "project.attachment.file" in columns()

    def test_exclusion_outweighs_selection(self, settings: Settings) -> None:
        settings.PGCLEANUP_COLUMNS = "selected"
        settings.PGCLEANUP_EXCLUDE = ["project.Selected"]

        assert recorded_sources() == set()

    def test_inclusion_does_not_bring_an_ignored_model_back(self, settings: Settings) -> None:
        settings.PGCLEANUP_COLUMNS = "selected"
        settings.PGCLEANUP_INCLUDE = ["project.Ignored"]

        assert "project.ignored.file" not in recorded_sources()

    def test_decorator_holds_for_the_decorated_class_alone(self) -> None:
        from pgcleanup.cleanup import ignore, is_ignored

        @ignore
        class Base:
            pass

        class Derived(Base):
            pass

        assert is_ignored(Base)  # type: ignore[arg-type]
        assert not is_ignored(Derived)  # type: ignore[arg-type]

    def test_column_in_ignore_references_does_not_count(self, settings: Settings) -> None:
        settings.PGCLEANUP_IGNORE_REFERENCES = ["project.Document.thumb", "thirdparty.Brochure"]

        assert {"project.document.thumb", "thirdparty.brochure.file"}.isdisjoint(columns())
        assert ignored_sources() == ["project.document.thumb", "thirdparty.brochure.file"]

    def test_column_in_ignore_references_is_not_taken_over_by_another_model_on_its_table(
        self, settings: Settings
    ) -> None:
        settings.PGCLEANUP_IGNORE_REFERENCES = ["project.Document"]

        assert "project.documenttwin.file" not in columns()

    def test_extra_reference_counts_in_every_storage_and_is_not_recorded(self, settings: Settings) -> None:
        settings.PGCLEANUP_EXTRA_REFERENCES = ["project.Article.picture"]

        found = columns()["project.article.picture"]
        assert (found.storage_key, found.recorded, found.column) == (None, False, "picture")
        assert found not in find_file_columns("default").stored
        assert found in find_file_columns("default").naming("any key")

    def test_generated_file_column_counts_and_is_not_recorded(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        computed = models.GeneratedField(expression=models.F("title"), output_field=models.FileField(), db_persist=True)
        computed.set_attributes_from_name("preview")
        computed.model = Article
        monkeypatch.setattr(Article._meta, "local_concrete_fields", [computed])

        found = columns()["project.article.preview"]
        assert (found.storage_key, found.recorded, found.column) == (None, False, "preview")
        assert default_names([found]) == set()

        settings.PGCLEANUP_IGNORE_REFERENCES = ["project.Article"]
        assert "project.article.preview" not in columns()

    def test_model_that_a_router_keeps_out_counts_but_is_not_recorded(self, settings: Settings) -> None:
        settings.DATABASE_ROUTERS = [f"{__name__}.Router"]

        assert recorded_sources() == {"thirdparty.brochure.file"}
        assert "project.document.file" in columns()

    def test_storage_that_cannot_be_made_leaves_its_column_with_a_key_that_no_storage_has(
        self, settings: Settings
    ) -> None:
        settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": "there.is.no.Such"}}

        assert columns()["project.document.file"].storage_key == "unusable: InvalidStorageError"

    def test_column_of_two_models_counts_for_the_storages_of_both(self, monkeypatch: pytest.MonkeyPatch) -> None:
        archive = storages["archive"]
        monkeypatch.setattr(DocumentTwin._meta.get_field("file"), "storage", archive)

        column = columns()["project.document.file"]

        assert column.storage_key == storage_key(default_storage)
        assert column.also == {storage_key(archive)}
        assert column in find_file_columns("default").naming(storage_key(archive))
        assert column in find_file_columns("default").naming(storage_key(default_storage))

    def test_columns_of_a_storage_are_those_with_its_key(self) -> None:
        found = find_file_columns("default").naming(storage_key(storages["archive"]))

        assert [column.source for column in found] == ["project.archive.file", "project.ignored.file"]

    def test_selected_config_sets_select_mode(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        import pgcleanup
        from pgcleanup.apps import CleanupConfig

        monkeypatch.setattr(CleanupConfig, "ready", lambda self: None)
        # Restored by the fixture, together with what ready() is going to set.
        settings.PGCLEANUP_COLUMNS = "all"
        del settings.PGCLEANUP_COLUMNS

        CleanupSelectedConfig("pgcleanup", pgcleanup).ready()

        assert recorded_sources() == {"project.selected.file"}


class TestLabels:
    """Labels that name nothing are told, and break nothing."""

    @pytest.mark.parametrize(
        ("setting", "label"),
        [
            ("PGCLEANUP_EXCLUDE", "project.Nothing"),
            ("PGCLEANUP_INCLUDE", "nowhere.Document"),
            ("PGCLEANUP_IGNORE_REFERENCES", "project.Document.nothing"),
            ("PGCLEANUP_EXTRA_REFERENCES", "project.Article.nothing"),
        ],
    )
    def test_label_of_nothing_is_a_problem(self, settings: Settings, setting: str, label: str) -> None:
        setattr(settings, setting, [label])

        assert list(label_problems()) == [f"{setting} names {label!r}, but there is no such model or field"]
        assert "project.document.file" in recorded_sources()

    @pytest.mark.parametrize("label", ["project.Document.id", "project.Page.number", "project.Proof.release"])
    def test_extra_reference_that_holds_no_text_is_a_problem(self, settings: Settings, label: str) -> None:
        settings.PGCLEANUP_EXTRA_REFERENCES = [label]

        [problem] = label_problems()
        assert problem.startswith(f"PGCLEANUP_EXTRA_REFERENCES names {label!r}, a ")
        assert problem.endswith("only text fields hold file names")

    @pytest.mark.parametrize("setting", ["PGCLEANUP_INCLUDE", "PGCLEANUP_EXCLUDE", "PGCLEANUP_IGNORE_REFERENCES"])
    def test_label_of_a_field_without_files_is_a_problem(self, settings: Settings, setting: str) -> None:
        setattr(settings, setting, ["project.Document.title"])

        assert list(label_problems()) == [
            f"{setting} names 'project.Document.title', a CharField: it is about file fields"
        ]

    @pytest.mark.parametrize("setting", ["PGCLEANUP_INCLUDE", "PGCLEANUP_EXCLUDE", "PGCLEANUP_IGNORE_REFERENCES"])
    def test_label_of_a_model_without_file_fields_is_a_warning(self, settings: Settings, setting: str) -> None:
        settings.PGCLEANUP_COLUMNS = "selected"
        setattr(settings, setting, ["project.Article"])

        [(sentence, _)] = label_warnings()
        assert sentence.startswith(f"{setting} names 'project.Article', whose table has no file field")

    def test_inclusion_where_everything_is_included_is_a_warning(self, settings: Settings) -> None:
        settings.PGCLEANUP_INCLUDE = ["project.Document"]

        [(sentence, _)] = label_warnings()
        assert sentence.startswith('PGCLEANUP_INCLUDE has no effect without PGCLEANUP_COLUMNS = "selected"')

    def test_selection_that_selects_nothing_is_a_warning(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.PGCLEANUP_COLUMNS = "selected"
        monkeypatch.delattr(Selected, "_pgcleanup_selected")

        [(sentence, _)] = label_warnings()
        assert sentence == 'PGCLEANUP_COLUMNS is "selected", and no file field is: no file is ever deleted'

    def test_choices_that_choose_something_are_no_warnings(self, settings: Settings) -> None:
        settings.PGCLEANUP_COLUMNS = "selected"
        settings.PGCLEANUP_INCLUDE = ["project.Document"]
        settings.PGCLEANUP_EXCLUDE = ["project.Restaurant"]
        settings.PGCLEANUP_IGNORE_REFERENCES = ["project.Place.photo"]

        assert list(label_warnings()) == []

    def test_labels_of_models_and_fields_are_none(self, settings: Settings) -> None:
        settings.PGCLEANUP_EXCLUDE = ["project.Document", "project.document.thumb"]
        settings.PGCLEANUP_EXTRA_REFERENCES = ["project.Article.picture"]

        assert list(label_problems()) == []


class TestDefaults:
    """Names that new rows will have again."""

    def test_plain_callable_and_database_defaults_are_found(self) -> None:
        assert default_names(find_file_columns("default")) == {
            "avatars/default.png",
            "covers/default.png",
            "covers/back.png",
        }

    @pytest.mark.parametrize(
        "field",
        [
            models.FileField(),
            models.FileField(default=""),
            models.FileField(default=None, null=True),
            models.FileField(default=lambda: ""),
            models.FileField(db_default=models.functions.Lower(models.Value("A"))),
        ],
        ids=["none", "empty", "NULL", "a callable that gives an empty one", "an expression"],
    )
    def test_field_has_no_default_name_with(self, field: models.FileField) -> None:
        column = columns()["project.document.file"]
        changed = FileColumn(**{name: getattr(column, name) for name in FileColumn.__slots__} | {"field": field})

        assert default_names([changed]) == set()
