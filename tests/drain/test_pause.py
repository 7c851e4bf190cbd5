"""`manage.py pgcleanup pause` and `resume`: a kill switch that every drain obeys, also one that is under way."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import Client
from pytest_django import Settings

from pgcleanup.drain import Run, drain, permission
from pgcleanup.exceptions import DrainRefused
from pgcleanup.ledger import control
from pgcleanup.models import FileDeletionControl, Outcome
from pgcleanup.storages import LocalAdapter
from tests.drain.support import Stepped, let_go, orphaned, pending, put, settled
from tests.support import manage, run_sql, session

PAUSE = "INSERT INTO file_deletion_control (paused_at) VALUES (now()) ON CONFLICT (id) DO UPDATE SET paused_at = now()"


def run(command: str, *arguments: str) -> tuple[int, str]:
    """Run a command in this process; return its exit code and what it says."""
    out = StringIO()
    try:
        call_command(command, *arguments, stdout=out)
    except CommandError as error:
        return error.returncode, out.getvalue() or str(error)
    return 0, out.getvalue()


@pytest.fixture
def paused(database: None) -> Iterator[None]:
    """Pause the drains of this database."""
    run("pgcleanup", "pause", "--reason", "a bad deploy")
    yield
    run("pgcleanup", "resume")


def pause_from_elsewhere() -> None:
    """Pause the drains as another process would."""
    with session() as other:
        other.execute(PAUSE)


# The drain


def test_drain_of_a_paused_database_refuses_and_says_who_when_why_and_how_to_go_on(paused: None) -> None:
    path = orphaned("a.pdf")

    code, out = run("drain_deletions")

    assert code == 3
    assert out.startswith('nothing was deleted: deletions in database "default" are paused since 20')
    assert f"by {permission.person()}: a bad deploy. " in out
    assert out.endswith("To go on: manage.py pgcleanup resume --database default")
    assert path.exists()


def test_resumed_drain_deletes_what_was_let_go_before_and_during_the_pause() -> None:
    before = orphaned("before.pdf")
    run("pgcleanup", "pause")
    during = orphaned("during.pdf")
    run("pgcleanup", "resume")

    drain()

    assert settled() == [("before.pdf", "deleted"), ("during.pdf", "deleted")]
    assert not before.exists()
    assert not during.exists()


def test_recording_goes_on_while_paused(paused: None) -> None:
    let_go("a.pdf")

    assert pending() == ["a.pdf"]


def test_pause_holds_for_other_processes_and_their_exit_code_is_3(paused: None, process_env: dict[str, str]) -> None:
    done = manage(process_env, "drain_deletions", "--json", check=False)

    assert done.returncode == 3
    answer = json.loads(done.stdout)
    assert answer["exit_code"] == 3
    assert "are paused since" in answer["error"]


def test_pause_of_one_database_lets_the_others_drain(paused: None) -> None:
    assert run("drain_deletions", "--database", "other")[0] == 0


def test_dry_run_of_a_paused_database_says_what_would_go_and_ends_as_the_drain_would(paused: None) -> None:
    orphaned("a.pdf")

    code, out = run("drain_deletions", "--dry-run")

    assert code == 3
    assert "would delete 1 file" in out
    assert 'Deletions in database "default" are paused since' in out


def test_trial_drain_of_a_paused_database_refuses_as_well(paused: None, settings: Settings) -> None:
    settings.PGCLEANUP_DELETE_FILES = False

    with pytest.raises(DrainRefused, match="are paused"):
        drain()


def test_drain_inside_a_test_case_obeys_a_pause(paused: None) -> None:
    with pytest.raises(DrainRefused, match="are paused"):
        Run("default", inside_transaction=True)


def test_pause_by_hand_with_sql_is_obeyed() -> None:
    run_sql(PAUSE)

    with pytest.raises(DrainRefused, match=r"are paused since .* UTC\. To go on"):
        drain()


@pytest.fixture
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a running drain look for a pause each time that it could."""
    monkeypatch.setattr(permission, "SECONDS_BETWEEN_LOOKS", 0)


def test_running_drain_stops_after_the_few_files_it_is_at(looks_at_once: None) -> None:
    few = LocalAdapter.at_once
    names = [f"{number:02}.pdf" for number in range(few + 2)]
    paths = [put(name) for name in names]
    let_go(*names)
    under_way = Stepped()
    under_way.until("deleted")

    pause_from_elsewhere()
    report = under_way.finish()

    assert [path.exists() for path in paths] == [False] * few + [True, True]
    assert settled() == [(name, "deleted") for name in names[:few]]
    assert report.counts == {Outcome.DELETED: few}
    assert report.exit_code == 3
    assert "are paused" in report.refused[0]


def test_running_drain_that_was_paused_begins_no_other_batch(
    looks_at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgcleanup.drain.run.BATCH_SIZE", 1)
    paths = [orphaned(f"{number}.pdf") for number in range(3)]
    under_way = Stepped()
    under_way.until("committed")

    pause_from_elsewhere()
    under_way.finish()

    assert [path.exists() for path in paths] == [False, True, True]


def test_drain_that_waits_for_a_transaction_stops_waiting_when_it_is_paused(looks_at_once: None) -> None:
    with session(autocommit=False) as holding:
        holding.execute("SELECT 1")
        orphaned("a.pdf")
        under_way = Stepped(wait=timedelta(hours=1))
        under_way.until("waited")

        pause_from_elsewhere()
        report = under_way.finish()

    assert report.exit_code == 3
    assert pending() == ["a.pdf"]


def test_running_drain_asks_once_a_second_and_not_for_each_file() -> None:
    watch = permission.PauseWatch("default")
    run_sql(PAUSE)

    assert watch() is None
    assert permission.SECONDS_BETWEEN_LOOKS == 1
    watch._looked = time.monotonic() - 1
    assert watch() is not None


# The commands


def test_pause_says_how_to_resume() -> None:
    code, out = run("pgcleanup", "pause")

    assert code == 0
    assert "deletes a file until somebody runs: manage.py pgcleanup resume --database default" in out


def test_pausing_again_takes_the_place_of_the_first_pause_and_tells_of_it(paused: None) -> None:
    code, out = run("pgcleanup", "pause", "--reason", "still looking")

    assert code == 0
    assert "It was paused already, since " in out
    assert "a bad deploy" in out
    assert FileDeletionControl.objects.get().pause_reason == "still looking"


def test_resume_tells_of_the_pause(paused: None) -> None:
    code, out = run("pgcleanup", "resume")

    assert code == 0
    assert out.startswith('Resumed: the next drain of database "default" deletes again. It was paused since ')
    assert "(a bad deploy)" in out


def test_resume_of_what_is_not_paused_ends_with_0() -> None:
    assert run("pgcleanup", "resume") == (0, 'Deletions in database "default" were not paused.\n')


def test_pause_leaves_what_the_drains_know_of_the_database_as_it_is() -> None:
    drain()
    before = control.read("default").identity

    run("pgcleanup", "pause")
    run("pgcleanup", "resume")

    assert before is not None
    assert control.read("default").identity == before


def test_pause_is_durable_where_the_project_does_not_wait_for_the_disk(alias) -> None:
    lazy = alias("lazy", OPTIONS={"options": "-c synchronous_commit=off"})
    seen: list[str] = []

    def look(execute, statement, parameters, many, context):
        if "INSERT INTO file_deletion_control" in statement:
            seen.append(connections[lazy].connection.execute("SHOW synchronous_commit").fetchone()[0])
        return execute(statement, parameters, many, context)

    with connections[lazy].execute_wrapper(look):
        control.pause(lazy, "somebody")

    assert seen == ["on"]


# Where it shows


def test_status_of_a_paused_database_is_broken_and_says_how_to_go_on(paused: None) -> None:
    code, out = run("pgcleanup", "status")

    assert code == 3
    assert 'Deletions in database "default" are paused since' in out
    assert "a bad deploy. To go on: manage.py pgcleanup resume --database default" in out


def test_status_for_machines_has_who_when_and_why(paused: None) -> None:
    code, out = run("pgcleanup", "status", "--json")

    answer = json.loads(out)
    assert code == answer["exit_code"] == 3
    assert answer["paused"]["reason"] == "a bad deploy"
    assert answer["paused"]["by"] == permission.person()
    assert answer["paused"]["at"].startswith("20")


def test_status_for_machines_of_a_database_that_is_not_paused_says_so() -> None:
    assert json.loads(run("pgcleanup", "status", "--json")[1])["paused"] is None


@pytest.fixture
def browser(database: None) -> Iterator[Client]:
    """Log a superuser in."""
    user = User.objects.create_superuser("of_test_pause")
    client = Client()
    client.force_login(user)
    yield client
    client.logout()
    user.delete()


@pytest.mark.parametrize("model", ["pendingfiledeletion", "settledfiledeletion"])
def test_admin_lists_say_that_deletions_are_paused(paused: None, browser: Client, model: str) -> None:
    content = browser.get(f"/admin/pgcleanup/{model}/").content.decode()

    assert "are paused since" in content
    assert "manage.py pgcleanup resume" in content


def test_check_of_a_paused_database_warns(paused: None) -> None:
    out = StringIO()

    call_command("check", databases=["default"], tags=["pgcleanup"], stderr=out)

    assert "pgcleanup.W017" in out.getvalue()


# Without its table, that somebody dropped. `migrate` alone would find nothing to do.

MAKES_IT_ANEW = (
    "Run: manage.py migrate pgcleanup 0003 --database default, then: manage.py migrate pgcleanup --database default"
)


def test_drain_without_the_table_refuses_and_says_what_to_run(database: None) -> None:
    run_sql("ALTER TABLE file_deletion_control RENAME TO hidden")

    try:
        code, out = run("drain_deletions")
    finally:
        run_sql("ALTER TABLE hidden RENAME TO file_deletion_control")

    assert code == 3
    assert MAKES_IT_ANEW in out


@pytest.mark.parametrize("command", [["pause"], ["resume"], ["adopt"]])
def test_command_without_the_table_says_what_to_run(command: list[str]) -> None:
    run_sql("ALTER TABLE file_deletion_control RENAME TO hidden")

    try:
        code, out = run("pgcleanup", *command)
    finally:
        run_sql("ALTER TABLE hidden RENAME TO file_deletion_control")

    assert code == 1
    assert MAKES_IT_ANEW in out


def test_status_without_the_table_works() -> None:
    run_sql("ALTER TABLE file_deletion_control RENAME TO hidden")

    try:
        code, _ = run("pgcleanup", "status", "--json")
    finally:
        run_sql("ALTER TABLE hidden RENAME TO file_deletion_control")

    assert code == 0
