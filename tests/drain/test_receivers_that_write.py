"""A receiver writes a row that names the very file, in whatever way: the file stays."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.http import HttpResponse
from django.test import RequestFactory

from pgcleanup import sql
from pgcleanup.drain import drain
from pgcleanup.middleware import ContextMiddleware
from pgcleanup.models import Outcome
from tests.drain.support import agree, orphaned, pending, put, settled
from tests.project.models import Article, Attachment, Document

NAME = "docs/a.txt"
CHECK = "WITH asked AS MATERIALIZED"

_MAKE = """
CREATE FUNCTION attach(name text) RETURNS void LANGUAGE sql AS 'INSERT INTO project_attachment (file) VALUES (name)';
CREATE TABLE noted (name text);
CREATE FUNCTION attach_noted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO project_attachment (file) VALUES (NEW.name); RETURN NEW; END $$;
CREATE TRIGGER attach_noted AFTER INSERT ON noted FOR EACH ROW EXECUTE FUNCTION attach_noted();
"""
_DROP = "DROP TABLE noted; DROP FUNCTION attach_noted(); DROP FUNCTION attach(text)"


@pytest.fixture(autouse=True)
def in_sql(database: None) -> Iterator[None]:
    """Make a function and a trigger that write to a table with a file column, and a row in it."""
    sql.execute("default", _MAKE)
    Attachment.objects.create(file="other.txt")
    yield
    sql.execute("default", _DROP)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """Take every table with a row for one that is too large to be read for each file."""
    monkeypatch.setattr("pgcleanup.references.scans.LARGE_TABLE_BYTES", 1)
    settings.PGCLEANUP_SCAN_INTERVAL = timedelta(0)


def by_orm(name: str) -> None:
    Attachment.objects.create(file=name)


def by_an_update(name: str) -> None:
    Attachment.objects.update(file=name)


def by_sql_in_capitals(name: str) -> None:
    sql.execute("default", "INSERT INTO PROJECT_ATTACHMENT (FILE) VALUES (%s)", [name])


def by_a_function(name: str) -> None:
    sql.fetch("default", "SELECT attach(%s)", [name])


def by_a_trigger(name: str) -> None:
    sql.execute("default", "INSERT INTO noted VALUES (%s)", [name])


def by_copy(name: str) -> None:
    with connection.cursor() as cursor, cursor.copy("COPY project_attachment (file) FROM STDIN") as copy:
        copy.write_row([name])


def in_another_thread(name: str) -> None:
    def write() -> None:
        try:
            Attachment.objects.create(file=name)
        finally:
            connection.close()

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()


HERE = [by_orm, by_an_update, by_sql_in_capitals, by_a_function, by_a_trigger, by_copy]


def of(function: Callable[..., Any]) -> str:
    return function.__name__.replace("_", " ")


def writing(write: Callable[[str], None], name: str = NAME) -> Callable[..., None]:
    """Return a receiver that does so once, of whatever file it is told first."""
    todo = [name]

    def receiver(**kwargs: Any) -> None:
        if todo:
            write(todo.pop())

    return receiver


@pytest.fixture
def checks() -> Iterator[list[str]]:
    """Return a list that fills with the reference checks."""
    seen: list[str] = []

    def note(execute: Any, statement: Any, *rest: Any) -> Any:
        if CHECK in str(statement):
            seen.append(str(statement))
        return execute(statement, *rest)

    with connection.execute_wrapper(note):
        yield seen


@pytest.mark.parametrize("write", [*HERE, in_another_thread], ids=of)
def test_file_that_a_pre_receiver_names_in_a_row_is_kept(receive, write):
    receive(before=writing(write))
    path = orphaned(NAME)

    report = drain()

    assert report.counts == {Outcome.KEPT: 1}
    assert settled("name, outcome, reason") == [(NAME, "kept", "project.attachment.file")]
    assert path.exists()
    assert Attachment.objects.filter(file=NAME).exists()


@pytest.mark.parametrize("write", HERE, ids=of)
def test_file_that_a_pre_receiver_names_in_a_row_of_a_large_table_is_kept(receive, large, write):
    receive(before=writing(write))
    path = orphaned(NAME)

    assert drain().counts == {Outcome.KEPT: 1}
    assert path.exists()


def test_file_that_a_receiver_names_in_a_large_table_by_another_alias_is_kept(receive, large, alias):
    other = alias("by another name")
    receive(before=writing(lambda name: Attachment.objects.using(other).create(file=name)))
    path = orphaned(NAME)

    assert drain().counts == {Outcome.KEPT: 1}
    assert path.exists()


def test_file_that_a_receiver_names_in_a_partition_of_a_large_table_is_kept(receive, large):
    """Rows of a partitioned table are counted where they lie."""
    path = orphaned(NAME)
    sql.execute(
        "default",
        "ALTER TABLE project_attachment RENAME TO plain;"
        "CREATE TABLE project_attachment (LIKE plain INCLUDING ALL) PARTITION BY RANGE (id);"
        "CREATE TABLE part PARTITION OF project_attachment FOR VALUES FROM (-1) TO (1000);"
        "INSERT INTO part (id, file) VALUES (-1, 'other.txt')",
    )
    agree()
    receive(before=writing(lambda name: sql.execute("default", "INSERT INTO part (id, file) VALUES (0, %s)", [name])))
    try:
        report = drain()
    finally:
        sql.execute("default", "DROP TABLE project_attachment; ALTER TABLE plain RENAME TO project_attachment")
        agree()

    assert report.counts == {Outcome.KEPT: 1}
    assert path.exists()


def test_file_that_a_post_receiver_of_an_earlier_one_names_is_kept(receive):
    receive(after=writing(by_orm, "docs/b.txt"))
    gone, kept = orphaned(NAME), orphaned("docs/b.txt")

    assert drain().counts == {Outcome.DELETED: 1, Outcome.KEPT: 1}
    assert not gone.exists()
    assert kept.exists()


def test_file_that_a_receiver_names_in_another_database_of_the_project_is_kept(receive):
    receive(before=writing(lambda name: Attachment.objects.using("other").create(file=name)))
    path = orphaned(NAME)

    assert drain().counts == {Outcome.KEPT: 1}
    assert path.exists()


def test_file_that_a_pre_receiver_names_after_the_commit_of_a_request_is_kept(receive, settings):
    """The middleware's note stands in front of what the receiver writes."""
    settings.PGCLEANUP_DRAIN_ON_COMMIT = True
    receive(before=writing(by_orm))
    path = put(NAME)
    document = Document.objects.create(file=NAME)

    def view(request: Any) -> HttpResponse:
        document.delete()
        return HttpResponse()

    ContextMiddleware(view)(RequestFactory().get("/"))
    settings.PGCLEANUP_DRAIN_ON_COMMIT = False
    connections["default"].close()

    assert settled() == [(NAME, "kept")]
    assert path.exists()


def test_nothing_is_asked_again_where_nothing_was_written(heard, checks, quiet):
    for number in range(3):
        orphaned(f"docs/{number}.txt")

    assert drain().counts == {Outcome.DELETED: 3}
    assert len(checks) == 1


def test_large_table_is_not_read_again_for_what_is_written_elsewhere(receive, large, checks):
    receive(before=lambda file_name, **kwargs: Article.objects.create(picture=file_name))
    orphaned(NAME)

    assert drain().counts == {Outcome.DELETED: 1}
    assert len(checks) == 2
    assert ["project_attachment" in check for check in checks] == [True, False]


def test_name_whose_rows_cannot_be_asked_again_is_tried_later_and_the_others_settle(receive, session):
    """A migration locks a table while a receiver works: what is done by then is not undone."""
    locker = session()

    def lock(file_name: str, **kwargs: Any) -> None:
        if file_name == "docs/b.txt":
            Article.objects.create(picture="written")
            locker.begin()
            locker.run("LOCK TABLE project_attachment IN ACCESS EXCLUSIVE MODE")

    receive(before=lock)
    gone, stays = orphaned(NAME), orphaned("docs/b.txt")

    report = drain()

    assert report.counts == {Outcome.DELETED: 1, Outcome.POSTPONED: 1}
    assert not gone.exists()
    assert stays.exists()
    assert pending() == ["docs/b.txt"]
