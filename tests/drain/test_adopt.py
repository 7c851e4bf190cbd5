"""A drain knows its database from a copy of it, and `manage.py pgcleanup adopt` tells it that a copy is none."""

from __future__ import annotations

import logging
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from pytest_django import Settings

from pgcleanup.drain import Run, drain, permission
from pgcleanup.exceptions import DrainRefused
from pgcleanup.ledger import control, identity
from pgcleanup.ledger.identity import Identity, present_identity
from pgcleanup.models import FileDeletionControl
from tests.drain.support import entries, let_go, orphaned, settled
from tests.project.models import Archive
from tests.support import run_sql

ANOTHER_SERVER = "UPDATE file_deletion_control SET system_identifier = 1, addresses = '{db.production:5432/app}'"
ANOTHER_DATABASE = "UPDATE file_deletion_control SET database_oid = 1, database_name = 'app'"
ANOTHER_NAME = "UPDATE file_deletion_control SET database_name = 'before'"
ANOTHER_ADDRESS = "UPDATE file_deletion_control SET addresses = '{db.production:5432/app}'"


def run(command: str, *arguments: str) -> tuple[int, str]:
    """Run a command in this process; return its exit code and what it says."""
    out = StringIO()
    try:
        call_command(command, *arguments, stdout=out)
    except CommandError as error:
        return error.returncode, out.getvalue() or str(error)
    return 0, out.getvalue()


def adopt(*arguments: str) -> tuple[int, str]:
    """Run it, saying yes."""
    return run("pgcleanup", "adopt", "--yes", *arguments)


def copied(change: str = ANOTHER_SERVER) -> None:
    """Let this database be a copy of one that was drained: what is written down is the other one's."""
    drain()
    run_sql(change)


@pytest.fixture
def outside_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run as on a machine of its own."""
    monkeypatch.setattr(identity, "_in_container", lambda: False)


@pytest.fixture
def in_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run as in a container, where the name of the machine means nothing."""
    monkeypatch.setattr(identity, "_in_container", lambda: True)


# The drain


def test_first_drain_notes_which_database_it_is() -> None:
    drain()

    assert control.read("default").identity == present_identity("default")


def test_migrate_does_not_note_it_so_that_clones_of_a_migrated_database_are_free() -> None:
    call_command("migrate", verbosity=0)

    assert not FileDeletionControl.objects.exists()


def test_next_drains_of_the_same_database_go_on() -> None:
    drain()
    path = orphaned("a.pdf")

    drain()

    assert not path.exists()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (ANOTHER_SERVER, "it is on another server and it is reached at another address"),
        (ANOTHER_DATABASE, "it is another database"),
        (ANOTHER_NAME, "it has another name"),
        (ANOTHER_ADDRESS, "it is reached at another address"),
    ],
)
def test_drain_of_a_copy_refuses_and_says_what_differs(change: str, what: str) -> None:
    copied(change)
    path = orphaned("a.pdf")

    code, out = run("drain_deletions")

    assert code == 3
    assert f'nothing was deleted: database "default" is not the one that was drained before: {what}. It was "' in out
    assert path.exists()
    assert entries("stamp_id") == [(None,)]


def test_refusal_names_both_databases_and_both_ways_to_go_on() -> None:
    copied()
    now = present_identity("default")

    _, out = run("drain_deletions")

    assert (
        f'It was "{now.name}" (oid {now.oid}) of server 1, reached at db.production:5432/app, last drained at 20' in out
    )
    assert f"; now it is {now}." in out
    assert "set PGCLEANUP_DELETE_FILES = False here" in out
    assert out.endswith("manage.py pgcleanup adopt --database default")


def test_dry_run_of_a_copy_says_what_would_go_and_ends_as_the_drain_would() -> None:
    copied()
    orphaned("a.pdf")

    code, out = run("drain_deletions", "--dry-run")

    assert code == 3
    assert "would delete 1 file" in out
    assert "is not the one that was drained before" in out


def test_copy_that_deletes_nothing_may_be_drained_and_stays_known_as_a_copy(settings: Settings) -> None:
    copied()
    before = control.read("default").identity
    orphaned("a.pdf")
    settings.PGCLEANUP_DELETE_FILES = False

    report = drain()

    assert report.exit_code == 0
    assert control.read("default").identity == before


def test_trial_notes_which_database_it_is_for_a_copy_of_it_that_deletes(settings: Settings) -> None:
    settings.PGCLEANUP_DELETE_FILES = False

    drain()

    assert control.read("default").identity == present_identity("default")


def test_drain_inside_a_test_case_is_no_matter_of_copies() -> None:
    copied()
    before = control.read("default").identity

    Run("default", inside_transaction=True)

    assert control.read("default").identity == before


def test_database_that_was_flushed_is_noted_anew_by_its_next_drain() -> None:
    copied()
    FileDeletionControl.objects.all().delete()

    drain()

    assert control.read("default").identity == present_identity("default")


def test_start_of_a_drain_is_noted_once_a_minute_at_most() -> None:
    drain()
    run_sql("UPDATE file_deletion_control SET drained_at = '2020-01-01 00:00+00'")
    drain()
    first = control.read("default").drained_at

    drain()

    assert first is not None
    assert first.year > 2020
    assert control.read("default").drained_at == first


def test_drain_does_not_wait_for_another_one_that_notes_its_start(session) -> None:
    drain()
    run_sql("UPDATE file_deletion_control SET drained_at = NULL")
    other = session().begin()
    other.run("UPDATE file_deletion_control SET drained_at = NULL")
    orphaned("a.pdf")

    report = drain()

    other.rollback()
    assert report.waiting == {"transaction": 1}
    assert control.read("default").drained_at is None


def test_role_that_may_not_ask_for_the_server_can_drain_and_tells_databases_apart(role, alias) -> None:
    plain = alias("plain", USER=role["user"], PASSWORD=role["password"])
    run_sql("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    try:
        drain(using=plain)
        known = control.read("default").identity
        run_sql(ANOTHER_DATABASE)
        with pytest.raises(DrainRefused, match="it is another database"):
            drain(using=plain)
    finally:
        run_sql("GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC")

    assert known is not None
    assert known.system_identifier is None


def test_plain_role_may_ask_for_the_server(role, alias) -> None:
    plain = alias("plain", USER=role["user"], PASSWORD=role["password"])

    assert present_identity(plain).system_identifier is not None


# Addresses


def test_address_is_that_of_the_settings_whatever_server_answers(in_container: None, alias) -> None:
    port = connections["default"].settings_dict["PORT"]
    both = alias("both", HOST="127.0.0.1,localhost", PORT=f"1,{port}")
    name = connections["default"].settings_dict["NAME"]

    found = present_identity(both).addresses

    assert found == (f"127.0.0.1:1/{name}", f"localhost:{port}/{name}")


def test_one_known_host_of_several_is_enough_and_makes_the_others_known(in_container: None, alias) -> None:
    drain()
    port = connections["default"].settings_dict["PORT"]
    both = alias("both", HOST="127.0.0.1,localhost", PORT=f"{port},{port}")
    only_the_other = alias("only_the_other", HOST="localhost")

    drain(using=both)

    assert drain(using=only_the_other).exit_code == 0


def test_localhost_is_another_address_on_each_machine(
    outside_containers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not run_sql("SELECT 1 WHERE inet_server_addr() << '127.0.0.0/8' OR inet_server_addr() IS NULL"):
        pytest.skip("the server of these tests is on another machine, or in a container")
    drain()
    monkeypatch.setattr("socket.gethostname", lambda: "clone-of-the-machine.example.com")

    with pytest.raises(DrainRefused, match="reached at clone-of-the-machine:"):
        drain()


def test_localhost_of_a_container_is_a_proxy_and_stays_the_same_when_it_restarts(
    in_container: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    drain()
    monkeypatch.setattr("socket.gethostname", lambda: "app-7f9c-x2x1")

    assert drain().exit_code == 0


@pytest.mark.parametrize(
    ("host", "server_is_local", "expected"),
    [
        ("DB.example.com.", False, "db.example.com"),
        ("10.0.0.5", True, "10.0.0.5"),
        ("localhost", False, "localhost"),
        ("localhost", True, "web1"),
        ("127.0.0.1", True, "web1"),
        ("::1", True, "web1"),
        ("", True, "web1"),
        ("/var/run/postgresql", True, "web1"),
        ("/var/run/postgresql", False, "/var/run/postgresql"),
        ("/cloudsql/shop:europe-west1:main", True, "/cloudsql/shop:europe-west1:main"),
    ],
)
def test_host_is_named_as_others_would(
    outside_containers: None, monkeypatch: pytest.MonkeyPatch, host: str, server_is_local: bool, expected: str
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Web1.example.com")

    assert identity._host(host, server_is_local) == expected


# adopt


def test_adopted_copy_is_drained() -> None:
    copied()
    path = orphaned("a.pdf")

    code, out = adopt()

    assert code == 0
    assert out.endswith(f'Adopted: drains of database "default" know it as {present_identity("default")}.\n')
    drain()
    assert settled() == [("a.pdf", "deleted")]
    assert not path.exists()


def test_adopt_says_what_changed_and_which_storages_files_would_go_from() -> None:
    copied()
    let_go("a.pdf", "b.pdf", "a.pdf")
    let_go("c.pdf", model=Archive)

    _, out = adopt()

    assert "of server 1, reached at db.production:5432/app.\n" in out
    assert "Now it is on another server and it is reached at another address: it is " in out
    assert "media): 2 files pending\n" in out
    assert "-archive): 1 file pending\n" in out


def test_adopt_without_yes_and_without_anybody_to_ask_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    copied()
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    before = control.read("default")

    code, out = run("pgcleanup", "adopt")

    assert code == 2
    assert "files in:" in out
    assert control.read("default") == before


def test_adopt_answered_with_no_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    copied()
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: "no")
    before = control.read("default")

    code, _ = run("pgcleanup", "adopt")

    assert code == 1
    assert control.read("default") == before


def test_adopt_of_another_address_keeps_the_known_ones() -> None:
    copied(ANOTHER_ADDRESS)

    code, _ = adopt()

    assert code == 0
    known = control.read("default").identity
    assert known is not None
    assert set(known.addresses) == {"db.production:5432/app", *present_identity("default").addresses}


def test_adopt_of_another_server_forgets_the_addresses_of_the_one_before() -> None:
    copied()

    adopt()

    assert control.read("default").identity == present_identity("default")


def test_adopt_of_the_database_that_is_known_does_nothing() -> None:
    drain()
    before = control.read("default")

    code, out = run("pgcleanup", "adopt")

    assert code == 0
    assert out.startswith('Nothing to adopt: database "default" is known to its drains as "')
    assert control.read("default") == before


def test_adopt_before_the_first_drain_notes_which_database_it_is() -> None:
    code, out = adopt()

    assert code == 0
    assert out.startswith('No drain has run in database "default" yet.')
    assert control.read("default").identity == present_identity("default")
    assert control.read("default").drained_at is None


def test_adoption_is_logged_with_who_and_what(caplog: pytest.LogCaptureFixture) -> None:
    copied()

    with caplog.at_level(logging.WARNING, logger="pgcleanup.control"):
        adopt()

    assert caplog.messages[0].startswith(f"{permission.person()} adopted database default: it was ")


def test_adopt_keeps_a_pause() -> None:
    copied()
    run("pgcleanup", "pause")

    adopt()

    assert control.paused("default") is not None


# Where it shows


def test_status_of_a_copy_is_broken_and_says_what_to_do() -> None:
    copied()

    code, out = run("pgcleanup", "status")

    assert code == 3
    assert 'Database "default" is not the one that was drained before' in out
    assert "manage.py pgcleanup adopt --database default" in out


def test_status_at_another_address_is_broken_since_a_drain_there_would_refuse() -> None:
    copied(ANOTHER_ADDRESS)

    assert run("pgcleanup", "status")[0] == 3


@pytest.mark.parametrize(("change", "warns"), [(ANOTHER_SERVER, True), (ANOTHER_ADDRESS, False)])
def test_check_warns_of_a_copy_but_not_of_the_address_of_this_process(change: str, warns: bool) -> None:
    copied(change)
    out = StringIO()

    call_command("check", databases=["default"], tags=["pgcleanup"], stderr=out)

    assert ("pgcleanup.W018" in out.getvalue()) is warns


def test_two_identities_are_of_one_server_as_far_as_either_can_tell() -> None:
    known = Identity(system_identifier=None, oid=1, name="app", addresses=("db:5432/app",))
    now = Identity(system_identifier=7, oid=1, name="app", addresses=("db:5432/app",))

    assert list(known.differences(now)) == []


def test_hosts_of_a_service_file_are_all_known(in_container: None, alias, monkeypatch, tmp_path) -> None:
    """Else a standby that takes over would look like a copy."""
    known = connections["default"].get_connection_params()
    service = tmp_path / "pg_service.conf"
    service.write_text(
        f"[app]\nhost={known['host']},db2.example.com\nport={known['port']},5432\nuser={known['user']}\n"
        f"password={known.get('password', '')}\ndbname={known['dbname']}\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(service))
    app = alias("app", HOST="", PORT="", USER="", PASSWORD="", OPTIONS={"service": "app"})

    addresses = present_identity(app).addresses

    name = known["dbname"]
    assert addresses == (f"{known['host']}:{known['port']}/{name}", f"db2.example.com:5432/{name}")
