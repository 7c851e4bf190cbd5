"""`manage.py pgcleanup export`: file X went at T, by Y, because of Z, for machines and for people."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

import pgcleanup
from pgcleanup.drain import drain
from pgcleanup.ledger import history
from tests.database.test_append_only import settle
from tests.drain.support import let_go, orphaned, put
from tests.project.models import Document, Page, Restaurant
from tests.support import rewrite_history, run_sql


def export(*arguments: str) -> str:
    out = StringIO()
    call_command("pgcleanup", "export", *arguments, stdout=out)
    return out.getvalue()


def exported(*arguments: str) -> Any:
    return json.loads(export(*arguments))


def refused(*arguments: str) -> str:
    with pytest.raises(CommandError) as error:
        export(*arguments)
    assert error.value.returncode == 2
    return str(error.value)


def names(*arguments: str) -> list[str]:
    return [event["name"] for event in exported(*arguments)]


def test_export_says_which_file_went_when_by_whom_and_why() -> None:
    put("a.txt", b"12345")
    row = Document.objects.create(file="a.txt")
    key = row.pk
    with pgcleanup.context(user=7):
        row.delete()
    drain()

    [event] = exported("--object", f"project.Document:{key}")

    assert {
        name: event[name] for name in ("name", "outcome", "bytes", "source", "object_pk", "operation", "context")
    } == {
        "name": "a.txt",
        "outcome": "deleted",
        "bytes": 5,
        "source": "project.document.file",
        "object_pk": str(key),
        "operation": "DELETE",
        "context": {"user": 7},
    }
    assert event["settled_at"] > event["recorded_at"] > "2026"
    assert event["sentence"].startswith("a.txt was deleted (5 bytes) at 20")
    assert f", because project.document {key} (file) was deleted at 20" in event["sentence"]
    assert " That was done by database user " in event["sentence"]
    assert 'context {"user": 7}, transaction ' in event["sentence"]


def test_export_of_an_object_has_all_its_files_and_no_other_objects() -> None:
    mine = Document.objects.create(file="first.txt", thumb="thumb.png")
    other = Document.objects.create(file="other.txt")
    Document.objects.filter(pk=mine.pk).update(file="second.txt")
    Document.objects.filter(pk__in=[mine.pk, other.pk]).delete()

    assert sorted(names("--object", f"project.Document:{mine.pk}")) == ["first.txt", "second.txt", "thumb.png"]


def test_export_of_a_child_has_the_files_of_its_parents_table() -> None:
    place = Restaurant.objects.create(photo="photo.png", menu="menu.pdf")
    key = place.pk
    place.delete()

    assert sorted(names("--object", f"project.Restaurant:{key}")) == ["menu.pdf", "photo.png"]


def test_export_of_an_object_with_a_composite_key_takes_it_as_json() -> None:
    Page.objects.create(book="war & peace", number=3, scan="p3.png").delete()
    Page.objects.create(book="war & peace", number=4, scan="p4.png").delete()

    assert names("--object", 'project.Page:["war & peace", 3]') == ["p3.png"]
    assert 'Write it as JSON, for example \'project.Page:["1", "1"]\'' in refused("--object", "project.Page:3")


def test_export_of_an_object_whose_model_is_gone_finds_its_entries() -> None:
    let_go("a.txt")
    run_sql("UPDATE pending_file_deletion SET source = 'old.thing.file', object_pk = '5'")

    assert names("--object", "old.Thing:5") == ["a.txt"]


def test_what_is_pending_is_there_too_and_says_so() -> None:
    let_go("a.txt")

    [event] = exported()

    assert (event["outcome"], event["settled_at"]) == ("pending", None)
    assert event["sentence"].startswith("a.txt is pending, since 20")


def test_entry_that_a_drain_settles_meanwhile_comes_once() -> None:
    orphaned("a.txt")
    events = history.events("default", history.Asked())

    first = next(events)
    drain()

    assert [first.name, *(event.name for event in events)] == ["a.txt"]


def test_names_and_sources_restrict_what_comes() -> None:
    let_go("a.txt", "b.txt")
    let_go("a.txt", field="thumb")

    assert names("--name", "a.txt") == ["a.txt", "a.txt"]
    assert names("--name", "a.txt", "--source", "project.Document.thumb") == ["a.txt"]
    assert names("--source", "project.document.file") == ["a.txt", "b.txt"]


def test_times_restrict_what_was_settled() -> None:
    settle(1, 2, 3, 4)
    rewrite_history(
        "UPDATE settled_file_deletion SET settled_at = make_timestamptz(2026, 1, 10 + id::int, 12, 0, 0, 'UTC')"
    )

    assert names("--since", "2026-01-12", "--before", "2026-01-14") == ["docs/2", "docs/3"]
    assert names("--since", "2026-01-13T12:00:00+00:00") == ["docs/3", "docs/4"]


def test_what_is_pending_is_left_out_before_a_time() -> None:
    let_go("a.txt")

    assert exported("--before", "2100-01-01") == []


def test_csv_has_the_same_fields_in_one_line_each() -> None:
    with pgcleanup.context(user=7):
        orphaned('a, "b"\n.txt')
    drain()

    [row] = csv.DictReader(StringIO(export("--format", "csv")))

    assert (row["name"], row["outcome"], row["context"]) == ('a, "b"\n.txt', "deleted", '{"user": 7}')
    assert set(row) == set(exported()[0])


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1", "@a", "\ta", "\ra"])
def test_csv_has_no_formula(name: str) -> None:
    let_go(name)

    [row] = csv.DictReader(StringIO(export("--format", "csv"), newline=""))

    assert row["name"] == f"'{name}"
    assert [event["name"] for event in exported()] == [name]


def test_entry_that_is_cancelled_is_not_only_said_to_be_pending() -> None:
    let_go("a.txt")
    call_command("pgcleanup", "cancel", "a.txt", verbosity=0)

    [event] = exported()

    assert event["outcome"] == "pending"
    assert event["sentence"].startswith("a.txt was cancelled at 20")


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_number_that_json_has_not_makes_a_context_come_as_text(value: float) -> None:
    row = Document.objects.create(file="a.txt")
    with pgcleanup.context(price=value):
        row.delete()

    found = json.loads(export(), parse_constant=pytest.fail)

    assert [event["context"] for event in found] == [json.dumps({"price": value})]


@pytest.mark.parametrize("arguments", [["--name", "a\udcff"], ["--source", "\udcff"], ["--object", "a.B:\udcff"]])
def test_argument_that_is_no_text_is_wrong_usage(arguments: list[str]) -> None:
    assert "is no valid UTF-8" in refused(*arguments)


def test_context_that_is_no_json_comes_as_text() -> None:
    let_go("a.txt")
    run_sql("UPDATE pending_file_deletion SET context = 'not JSON'")

    assert exported()[0]["context"] == "not JSON"


def test_nothing_found_is_an_empty_array_or_a_header() -> None:
    assert export() == "[]\n"
    assert export("--format", "csv").startswith("id,source,name,")
    assert export("--format", "csv").count("\n") == 1


def test_key_is_found_however_it_is_written() -> None:
    let_go("a.txt")
    run_sql("UPDATE pending_file_deletion SET object_pk = '17'")

    assert names("--object", "project.Document:017") == ["a.txt"]


def test_object_that_nothing_is_known_of_is_nothing() -> None:
    assert exported("--object", "project.Document:4711") == []


@pytest.mark.parametrize("format_", ["json", "csv"])
@pytest.mark.parametrize(
    ("filters", "sentence"),
    [
        (("--object", "project.Document:4711"), "Nothing was found for --object project.Document:4711."),
        (
            ("--source", "project.Document.thumb", "--name", "a.txt", "--since", "2026-01-01"),
            "Nothing was found for --name a.txt --source project.Document.thumb --since 2026-01-01.",
        ),
        (("--before", "2026-01-01"), "Nothing was found for --before 2026-01-01."),
    ],
)
def test_filters_that_match_nothing_are_said_on_stderr(filters: tuple[str, ...], sentence: str, format_: str) -> None:
    let_go("a.txt")
    out, error = StringIO(), StringIO()

    call_command("pgcleanup", "export", *filters, "--format", format_, stdout=out, stderr=error, no_color=True)

    assert error.getvalue() == f"{sentence}\n"
    assert "Nothing" not in out.getvalue()


def test_empty_ledger_is_said_on_stderr() -> None:
    error = StringIO()

    call_command("pgcleanup", "export", stdout=StringIO(), stderr=error, no_color=True)

    assert error.getvalue() == "Nothing was found: nothing is pending, and the history is empty.\n"


def test_filter_that_matches_nothing_beside_one_that_does_is_said_on_stderr() -> None:
    let_go("a.txt")
    run_sql("UPDATE pending_file_deletion SET object_pk = '17'")
    error = StringIO()
    objects = ("--object", "project.Document:17", "--object", "project.Document:4711")
    others = ("--name", "a.txt", "--name", "b.txt", "--source", "project.Document.file")

    call_command("pgcleanup", "export", *objects, *others, stdout=StringIO(), stderr=error, no_color=True)

    assert error.getvalue().splitlines() == [
        "Nothing was found for --object project.Document:4711.",
        "Nothing was found for --name b.txt.",
    ]


def test_long_history_comes_in_short_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_RANGE", 2)
    settle(*range(1, 8))

    assert names() == [f"docs/{number}" for number in range(1, 8)]


def test_output_is_written_while_it_is_read() -> None:
    settle(1, 2)
    written: list[str] = []

    class Reader(StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

    call_command("pgcleanup", "export", stdout=Reader())

    assert len(written) == 3
    assert isinstance(history.events("default", history.Asked()), Iterator)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--object", "project.Document"), '--object project.Document: an object is "app.Model:primary key"'),
        (("--object", "Document:5"), '--object Document:5: an object is "app.Model:primary key"'),
        (("--since", "yesterday"), "--since yesterday: give a date, 2026-11-22, or a time"),
        (("--before", "2026-13-01"), "--before 2026-13-01: give a date"),
        (("--object", "project.Docment:5"), "--object project.Docment:5: there is no such model with a file field."),
        (("--object", "auth.User:5"), "--object auth.User:5: there is no such model with a file field. There are: "),
        (("--object", "project.Document:x"), "--object project.Document:x: x is no primary key of project.Document"),
        (("--source", "project.document.fil"), '--source project.document.fil: there is no file field "'),
    ],
)
def test_wrong_usage_says_what_is_right(arguments: tuple[str, ...], sentence: str) -> None:
    assert refused(*arguments).startswith(sentence)
