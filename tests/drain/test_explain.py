"""`manage.py pgcleanup explain`: why a file is here, or why it went; nothing that is not known."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import FileSystemStorage
from django.core.management import CommandError, call_command
from pytest_django import Settings

import pgcleanup
from pgcleanup.drain import drain
from pgcleanup.ledger import control
from pgcleanup.status import rows
from pgcleanup.status.rights import TABLES
from tests.drain.support import NOW, entries, let_go, orphaned, put
from tests.project.models import Archive, Avatar, Document, Ignored
from tests.support import run_sql, session


@pytest.fixture(autouse=True)
def grace_period(database: None, settings: Settings) -> None:
    """Let files wait, as they do."""
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(hours=1)


@pytest.mark.parametrize("command", [("pgcleanup", "explain", "a.txt"), ("drain_deletions",)], ids=["explain", "drain"])
def test_role_without_rights_on_the_ledger_is_told_the_grant(alias, role, command: tuple[str, ...]) -> None:
    limited = alias("limited", USER=role["user"], PASSWORD=role["password"])
    run_sql(f"REVOKE ALL ON {', '.join(TABLES)} FROM {role['user']}")

    with pytest.raises(CommandError) as caught:
        call_command(*command, database=limited, stdout=StringIO())

    assert (
        f'database "limited" reports: permission denied for table file_deletion_column. As the tables\' owner: '
        f'GRANT SELECT ON {", ".join(TABLES)} TO "{role["user"]}";'
    ) in str(caught.value)


def explain(*arguments: str) -> tuple[int, str]:
    """Return the exit code and the text."""
    out = StringIO()
    try:
        call_command("pgcleanup", "explain", *arguments, stdout=out)
    except CommandError as error:
        return error.returncode, out.getvalue() or str(error)
    return 0, out.getvalue()


def told(*arguments: str) -> Any:
    """Return the JSON."""
    return json.loads(explain(*arguments, "--json")[1])


def verdict(name: str) -> str:
    [place] = told(name)["places"]
    return str(place["verdict"])


def test_file_that_rows_name_says_which() -> None:
    put("a.txt", b"12345")
    keys = [Document.objects.create(file="a.txt").pk for _ in range(2)]

    code, out = explain("a.txt")

    assert code == 0
    assert "  The file is there: 5 bytes, written 1 h 00 min ago.\n" in out
    assert f"  Named by project.document.file: {keys[0]}, {keys[1]}.\n" in out
    assert "  So: It stays as long as a row names it.\n" in out


def test_only_a_few_of_many_rows_are_listed() -> None:
    Document.objects.bulk_create([Document(file="a.txt") for _ in range(10)])

    [named] = told("a.txt")["places"][0]["named"]

    assert (len(named["keys"]), named["more"]) == (3, True)


@pytest.mark.usefixtures("ignored_beside")
def test_row_of_an_ignored_model_counts() -> None:
    Ignored.objects.create(file="a.txt")

    assert told("a.txt")["places"][0]["named"][0]["source"] == "project.ignored.file"


def test_row_in_another_database_counts_and_is_told_apart() -> None:
    row = Document.objects.using("other").create(file="a.txt").pk

    assert f'Named by project.document.file in database "other": {row}.' in explain("a.txt")[1]


def test_pending_entry_says_since_when_why_and_who() -> None:
    put("a.txt")
    row = Document.objects.create(file="a.txt")
    key = row.pk
    with pgcleanup.context(user=7):
        row.delete()

    out = explain("a.txt")[1]

    assert f": project.document {key} (file) was deleted at 20" in out
    assert "That was done by database user " in out
    assert 'context {"user": 7}, transaction ' in out
    assert "No drain has seen it yet; its grace period begins with the first that does." in out


def test_file_in_its_grace_period_says_until_when_and_what_to_type() -> None:
    orphaned("a.txt")
    drain()

    out = explain("a.txt")[1]

    assert "In its grace period until " in out
    assert ", in 1 h 00 min.\n" in out
    assert "  Next: manage.py drain_deletions, after " in out
    assert "  Next: To keep the file: manage.py pgcleanup cancel a.txt\n" in out


def test_file_held_back_by_a_transaction_names_it(settings: Settings) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = NOW
    with session(autocommit=False, application_name="nightly") as holder:
        holder.execute("SELECT 1")
        pid = holder.info.backend_pid
        orphaned("a.txt")
        drain()

        out = explain("a.txt")[1]

    assert f"Waits for an open transaction: pid {pid}, user " in out
    assert 'application "nightly"' in out
    assert f"SELECT * FROM pg_stat_activity WHERE pid IN ({pid});" in out


def test_due_file_goes_with_the_next_drain(settings: Settings) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = NOW
    orphaned("a.txt")
    run_sql("INSERT INTO file_deletion_stamp (fence) VALUES ('{}')")
    run_sql("UPDATE pending_file_deletion SET stamp_id = (SELECT max(id) FROM file_deletion_stamp)")

    out = explain("a.txt")[1]

    assert "it goes with the next drain" in out
    assert "  Next: manage.py drain_deletions\n" in out


FAILING = (
    "UPDATE pending_file_deletion SET attempts = 3, last_error = 'OSError: no', retry_at = now() + interval '1 hour'"
)


def test_file_that_failed_says_the_error_and_what_to_type(settings: Settings) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = NOW
    orphaned("a b.txt")
    run_sql("INSERT INTO file_deletion_stamp (fence) VALUES ('{}')")
    run_sql(f"{FAILING}, stamp_id = (SELECT max(id) FROM file_deletion_stamp)")
    retrying = explain("a b.txt")[1]
    run_sql("UPDATE pending_file_deletion SET exhausted_at = now()")

    failed = explain("a b.txt")[1]

    assert "Failed 3 times, tried again at " in retrying
    assert "The last error: OSError: no" in retrying
    assert "Failed 3 times, and is tried no more. The last error: OSError: no" in failed
    assert "manage.py pgcleanup retry 'a b.txt'" in failed


def test_cancelled_file_stays() -> None:
    orphaned("a.txt")
    call_command("pgcleanup", "cancel", "a.txt", stdout=StringIO())

    assert verdict("a.txt") == "cancelled"
    assert "Somebody cancelled its deletion" in explain("a.txt")[1]


def test_file_let_go_under_keep_stays() -> None:
    put("a.txt")
    with pgcleanup.keep():
        let_go("a.txt")

    assert verdict("a.txt") == "keep"


def test_default_of_a_field_stays() -> None:
    put("avatars/default.png")
    Avatar.objects.create().delete()

    assert verdict("avatars/default.png") == "default"


def test_entry_of_a_field_that_no_model_has_says_so() -> None:
    let_go("a.txt")
    run_sql("UPDATE pending_file_deletion SET source = 'gone.model.file'")

    code, out = explain("a.txt")

    assert code == 0
    assert "No installed model has the field gone.model.file" in out


def test_pause_is_told() -> None:
    orphaned("a.txt")
    control.pause("default", "ann", "an audit")

    out = explain("a.txt")[1]

    assert "are paused since " in out
    assert "manage.py pgcleanup resume" in out


def test_trial_is_told(settings: Settings) -> None:
    settings.PGCLEANUP_DELETE_FILES = False
    orphaned("a.txt")

    assert "PGCLEANUP_DELETE_FILES is False: no file is deleted.\n" in explain("a.txt")[1]


def test_file_that_went_says_when_why_and_who(settings: Settings) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = NOW
    with pgcleanup.context(user=7):
        orphaned("a.txt", b"12345")
    drain()

    code, out = explain("a.txt")

    assert code == 0
    assert "  The file is not there.\n" in out
    assert "  Was deleted (5 bytes) at 20" in out
    assert ", because project.document " in out
    assert 'context {"user": 7}' in out
    assert "  So: It is gone; the history says how.\n" in out


def test_file_that_was_kept_says_by_what(settings: Settings) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = NOW
    put("a.txt")
    keeper = Document.objects.create(file="a.txt")
    let_go("a.txt")
    drain()

    assert "Was kept, still named by project.document.file, at 20" in explain("a.txt")[1]
    assert keeper.pk is not None


def test_file_that_nothing_is_known_of_but_that_it_is_there_says_no_more() -> None:
    put("a.txt")

    code, out = explain("a.txt")

    assert code == 0
    assert (
        "No row names it, and nothing is pending: it stays, since a drain deletes only what a trigger recorded." in out
    )


def test_unknown_name_says_so_and_ends_with_1() -> None:
    code, out = explain("nowhere.txt")

    assert code == 1
    assert out.startswith('Nothing is known of nowhere.txt in database "default":\n')
    assert told("nowhere.txt")["places"] == []


@pytest.mark.parametrize(
    "given", ["/media/docs/a.txt", "https://example.com/media/docs/a.txt?x=1", "./docs//a.txt", "{root}/docs/a.txt"]
)
def test_url_or_path_of_a_known_file_suggests_its_name(given: str, media_root: Path) -> None:
    put("docs/a.txt")

    code, out = explain(given.format(root=media_root))

    assert code == 1
    assert "Did you mean docs/a.txt? Run: manage.py pgcleanup explain docs/a.txt\n" in out


def test_name_that_leads_out_of_the_storage_is_not_looked_at() -> None:
    assert "It cannot be the name of a file in a storage: leads out of the storage." in explain("../a.txt")[1]


def test_same_name_in_two_storages_is_two_files(tmp_path: Path) -> None:
    put("a.txt")
    Document.objects.create(file="a.txt")
    Archive.objects.create(file="a.txt").delete()

    places = told("a.txt")["places"]

    assert [(place["verdict"], "project.archive.file" in place["sources"]) for place in places] == [
        ("named", False),
        ("grace_period", True),
    ]
    [only] = told("a.txt", "--source", "project.archive.file")["places"]
    assert only["verdict"] == "grace_period"


def test_unknown_source_is_wrong_usage() -> None:
    code, out = explain("a.txt", "--source", "no.such.field")

    assert code == 2
    assert out.startswith('there is no file field "no.such.field". There are: ')


def test_storage_that_does_not_answer_is_told_and_nothing_is_claimed_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    orphaned("a.txt")

    def down(self: Any, name: str) -> bool:
        raise OSError("not today")

    monkeypatch.setattr(FileSystemStorage, "exists", down)
    monkeypatch.setattr("pgcleanup.storages.local.LocalAdapter.look", lambda self, name: down(self, name))

    known, unknown = explain("a.txt")[1], explain("b.txt")[1]

    assert "Whether the file is there is not known: OSError: not today." in known
    assert "Nor is it a file" not in unknown
    assert "is not known: OSError: not today.\n" in unknown


def test_table_that_cannot_be_read_is_told_and_no_more_is_said_of_references(monkeypatch: pytest.MonkeyPatch) -> None:
    orphaned("a.txt")
    monkeypatch.setitem(rows._TIMEOUTS, "lock_timeout", "50ms")
    with session(autocommit=False) as other:
        other.execute("LOCK TABLE project_invoice")

        out = explain("a.txt")[1]

    assert "Whether project.invoice.scan names it could not be read: canceling statement due to lock timeout" in out
    assert "No row names it." not in out


def test_explaining_changes_nothing() -> None:
    orphaned("a.txt")
    before = entries("*")

    explain("a.txt")

    assert entries("*") == before


def test_name_that_is_no_text_is_wrong_usage() -> None:
    assert explain("a\udcff") == (2, "a\udcff is no valid UTF-8, so no file or field has it as its name")
