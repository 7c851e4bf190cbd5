"""A file stays as long as any row names it, whatever the table, the column, or who looks after it."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.files.storage import FileSystemStorage
from django.db import connection

from pgcleanup import sql
from pgcleanup.drain import drain
from pgcleanup.models import Outcome
from tests.drain.support import agree, let_go, orphaned, pending, plans_of, put, settled
from tests.project.models import Archive, Article, Attachment, Document, Ignored, NamedFile, Odd, Page, Restaurant
from tests.storages import OtherClassOfFiles

NAME = "docs/a.txt"
KEPT_BY = "name, outcome, reason"


@pytest.mark.parametrize(
    ("make", "source"),
    [
        pytest.param(lambda: Document.objects.create(file=NAME), "project.document.file", id="another row"),
        pytest.param(lambda: Document.objects.create(thumb=NAME), "project.document.thumb", id="another column"),
        pytest.param(lambda: Attachment.objects.create(file=NAME), "project.attachment.file", id="another model"),
        pytest.param(lambda: Ignored.objects.create(file=NAME), "project.ignored.file", id="a model that is ignored"),
        pytest.param(lambda: NamedFile.objects.create(name=NAME), "project.namedfile.name", id="a primary key"),
        pytest.param(lambda: Restaurant.objects.create(menu=NAME), "project.restaurant.menu", id="a child's table"),
        pytest.param(lambda: Restaurant.objects.create(photo=NAME), "project.place.photo", id="a parent's table"),
        pytest.param(lambda: Odd.objects.create(file=NAME), "project.odd.file", id="a table with quotes in its name"),
        pytest.param(
            lambda: Page.objects.create(book="b", number=1, scan=NAME), "project.page.scan", id="a composite key"
        ),
    ],
)
@pytest.mark.usefixtures("ignored_beside")
def test_file_is_kept_while_it_is_named_by(make, source):
    path = put(NAME)
    let_go(NAME)
    make()

    report = drain()

    assert report.counts == {Outcome.KEPT: 1}
    assert settled(KEPT_BY) == [(NAME, "kept", source)]
    assert path.exists()


@pytest.mark.usefixtures("ignored_beside")
def test_file_goes_when_the_last_of_several_rows_goes():
    path = put(NAME)
    rows = [Document.objects.create(file=NAME), Attachment.objects.create(file=NAME), Ignored.objects.create(file=NAME)]
    outcomes = []

    for row in reversed(rows):
        row.delete()
        outcomes.append((drain().counts, path.exists()))

    # Ignored rows are not recorded; Attachment's is kept for Document's.
    assert outcomes == [({}, True), ({Outcome.KEPT: 1}, True), ({Outcome.DELETED: 1}, False)]


def test_model_excluded_by_the_settings_counts(settings):
    path = put(NAME)
    let_go(NAME)
    Attachment.objects.create(file=NAME)
    settings.PGCLEANUP_EXCLUDE = ["project.Attachment"]
    agree()

    assert drain().counts == {Outcome.KEPT: 1}
    assert path.exists()


def test_text_column_counts_where_it_is_named_as_an_extra_reference(settings):
    path = put(NAME)
    let_go(NAME)
    Article.objects.create(picture=NAME)
    settings.PGCLEANUP_EXTRA_REFERENCES = ["project.Article.picture"]
    agree()

    drain()

    assert settled(KEPT_BY) == [(NAME, "kept", "project.article.picture")]
    assert path.exists()


def test_text_column_does_not_count_by_itself():
    path = put(NAME)
    let_go(NAME)
    Article.objects.create(picture=NAME)

    assert drain().counts == {Outcome.DELETED: 1}
    assert not path.exists()


def test_extra_reference_counts_for_every_storage(settings, store, tmp_path):
    store(FileSystemStorage(tmp_path / "archive"), Archive)
    path = put(NAME, root=tmp_path / "archive")
    let_go(NAME, model=Archive)
    Article.objects.create(picture=NAME)
    settings.PGCLEANUP_EXTRA_REFERENCES = ["project.Article.picture"]
    agree()

    assert drain().counts == {Outcome.KEPT: 1}
    assert path.exists()


def test_column_that_is_ignored_as_a_reference_does_not_count(settings):
    path = put(NAME)
    let_go(NAME)
    Attachment.objects.create(file=NAME)
    settings.PGCLEANUP_IGNORE_REFERENCES = ["project.Attachment.file"]
    agree()

    assert drain().counts == {Outcome.DELETED: 1}
    assert not path.exists()


def test_same_name_in_two_storages_is_two_files(store, tmp_path):
    store(FileSystemStorage(tmp_path / "archive"), Archive)
    in_default, in_archive = put(NAME), put(NAME, root=tmp_path / "archive")
    Archive.objects.create(file=NAME)
    let_go(NAME)

    report = drain()

    assert report.counts == {Outcome.DELETED: 1}
    assert not in_default.exists()
    assert in_archive.exists()


def test_entries_of_one_name_in_two_storages_settle_apart(store, tmp_path):
    store(FileSystemStorage(tmp_path / "archive"), Archive)
    put(NAME, b"1")
    put(NAME, b"22", root=tmp_path / "archive")
    let_go(NAME)
    let_go(NAME, model=Archive)
    Attachment.objects.create(file=NAME)

    report = drain()

    assert report.counts == {Outcome.KEPT: 1, Outcome.DELETED: 1}
    assert settled("source, outcome, bytes") == [
        ("project.document.file", "kept", None),
        ("project.archive.file", "deleted", 2),
    ]


@pytest.mark.parametrize("kind", [FileSystemStorage, OtherClassOfFiles], ids=["another instance", "another class"])
@pytest.mark.parametrize("way", ["straight", "through a link"])
def test_two_storages_with_one_place_are_one_storage(store, kind, way, media_root: Path, tmp_path):
    place = media_root
    if way == "through a link":
        place = tmp_path / "link"
        place.symlink_to(media_root)
    store(kind(location=place), Archive)
    path = put(NAME)
    Archive.objects.create(file=NAME)
    let_go(NAME)

    drain()

    assert settled(KEPT_BY) == [(NAME, "kept", "project.archive.file")]
    assert path.exists()


def test_column_whose_table_was_never_there_is_passed_over():
    path = orphaned(NAME)
    sql.execute("default", "ALTER TABLE project_invoice RENAME TO elsewhere")
    sql.execute("default", "DELETE FROM file_deletion_column WHERE table_name = 'elsewhere'::regclass")
    agree()
    try:
        report = drain()
    finally:
        sql.execute("default", "ALTER TABLE elsewhere RENAME TO project_invoice")

    assert report.counts == {Outcome.DELETED: 1}
    assert not path.exists()


def test_view_counts_as_the_table_of_a_model():
    path = put(NAME)
    let_go(NAME)
    sql.execute(
        "default",
        "ALTER TABLE project_invoice RENAME TO elsewhere;"
        f"CREATE VIEW project_invoice AS SELECT 1::bigint AS id, '{NAME}'::text AS scan",
    )
    agree()
    try:
        report = drain()
    finally:
        sql.execute("default", "DROP VIEW project_invoice; ALTER TABLE elsewhere RENAME TO project_invoice")

    assert report.counts == {Outcome.KEPT: 1}
    assert path.exists()


def test_check_uses_the_index_of_a_column_for_a_batch_of_names():
    """One look-up for each name. With `= ANY` a generic plan reads the array row by row."""
    Document.objects.bulk_create([Document(file=f"x/{number}", thumb=f"x/{number}") for number in range(5_000)])
    let_go(*[f"docs/{number}.txt" for number in range(1_200)])

    report = drain(accept_absent=True)

    assert report.counts == {Outcome.ABSENT: 1_200}
    assert report.seconds < 10
    assert pending() == []


def test_check_goes_through_the_claimed_entries_once_however_stale_the_statistics_are():
    """By the statistics of an empty ledger, a join would go through all of them for each name: four seconds a batch."""
    let_go(*[f"docs/{number}.txt" for number in range(50)])

    plans = plans_of_the_checks_of_a_drain()

    assert plans
    assert all(plan.count("hashed SubPlan") == 2 for plan in plans), plans[0]


def test_check_hashes_the_claimed_entries_however_many_they_are_and_little_memory_a_query_has():
    """A name can be let go any number of times while a transaction holds it up. Unhashed, 400,000 took hours."""
    with connection.cursor() as cursor:
        cursor.execute("SET work_mem = '64kB'")
    try:
        for _ in range(20):
            let_go(*[f"docs/{number}.txt" for number in range(500)])

        plans = plans_of_the_checks_of_a_drain()

        with connection.cursor() as cursor:
            cursor.execute("SHOW work_mem")
            assert cursor.fetchone() == ("64kB",), "the setting is back where it was"
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET work_mem")
    assert plans
    assert all(plan.count("hashed SubPlan") == 2 for plan in plans), plans[0]


def plans_of_the_checks_of_a_drain():
    with plans_of("WITH asked AS", "pending_file_deletion") as plans:
        drain()
    return plans


def test_names_that_differ_only_in_case_or_by_a_prefix_are_different_names():
    path = put("docs/A.txt")
    let_go("docs/A.txt")
    Document.objects.create(file="docs/a.txt")
    Document.objects.create(file="docs/A.txt.gz")

    assert drain().counts == {Outcome.DELETED: 1}
    assert not path.exists()


@pytest.fixture
def padded():
    sql.execute("default", "ALTER TABLE project_attachment ALTER file TYPE char(30)")
    yield
    sql.execute("default", "ALTER TABLE project_attachment ALTER file TYPE varchar(100)")


@pytest.mark.usefixtures("padded")
@pytest.mark.parametrize("name", [NAME, NAME.ljust(30)], ids=["as it was written", "with its blanks"])
def test_file_is_kept_while_a_column_that_pads_with_blanks_names_it(name):
    path = put(name)
    let_go(name)
    Attachment.objects.create(file=NAME)

    drain()

    assert settled(KEPT_BY) == [(name, "kept", "project.attachment.file")]
    assert path.exists()
