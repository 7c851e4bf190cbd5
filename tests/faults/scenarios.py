"""Faults of the database, one function each. They assert what must hold, and return what a caller may count."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from django.db import connections

from pgcleanup.drain import drain
from pgcleanup.models import Outcome
from tests.drain.support import Session, Stepped, let_go, pending, put
from tests.faults.support import APPLICATION, DRAIN, Site, Witness, draining, going_on
from tests.faults.writers import SqlWriter
from tests.postgres import OwnServer
from tests.support import server_version, until

LAZY = "-c synchronous_commit=off"
_NAMES = [f"docs/{number}.txt" for number in range(3)]

_TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE application_name = %s AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1
"""


def terminate_a_drain(killer: psycopg.Connection) -> int:
    """Kill the connection of one of the drains, and return how many that were."""
    return len(killer.execute(_TERMINATE, [APPLICATION]).fetchall())


@dataclass
class Crashed:
    """What is left after some crashes of a server."""

    crashes: int = 0
    undone: int = 0
    """Uploads whose commit was answered with success, and of which the crashed server knows nothing."""
    missing: list[str] = field(default_factory=list)
    """Names in committed rows without a file."""
    left: set[str] = field(default_factory=set)
    """Files that a committed row let go, and that are still there."""


def crash_server(server: OwnServer, site: Site, *, crashes: int) -> Crashed:
    """Crash the server in mid-drain, again and again, while writers commit without waiting for the disk."""
    # What they commit stays in memory until somebody commits synchronously, as drains do.
    site.sql("ALTER SYSTEM SET wal_writer_delay = '10s'")
    site.sql("SELECT pg_reload_conf()")
    stop = threading.Event()
    writers = [SqlWriter(site.media, seed, stop, site.url, reconnect=True, parameters=LAZY) for seed in range(3)]
    witness, crashed = Witness(site, stop), Crashed()
    with draining(site), going_on(stop, *writers):
        for _ in range(crashes):
            before = len(site.signals())
            until(lambda: len(site.signals()) >= before + 20)  # noqa: B023 -- called in this round
            server.stop("immediate")
            server.start()
            crashed.crashes += 1
            with site.connect() as connection:
                for _ in range(10):
                    witness.look(connection)
    site.finish()
    named, stored = site.named(), site.stored()
    traced = {str(name) for (name,) in site.sql("SELECT name FROM settled_file_deletion")}
    crashed.undone = len(set().union(*(writer.committed for writer in writers)) - named - traced)
    crashed.missing = [*witness.missing, *(named - stored)]
    crashed.left = (stored - named) & traced
    return crashed


def deadlock() -> None:
    """Let a drain wait for a table whose holder waits for an entry that the drain has claimed."""
    for name in _NAMES:
        put(name)
    let_go(*_NAMES)
    holder = Session()
    with connections["default"].cursor() as cursor:
        # So short that the check sets itself no shorter lock_timeout, with which it would give way before that.
        cursor.execute("SET deadlock_timeout = '1ms'")
    waiting = threading.Thread(target=holder.run, args=["SELECT 1 FROM pending_file_deletion FOR UPDATE"])
    try:
        run = Stepped()
        run.until("claimed")
        # Who looks for the deadlock first is the one that gives way.
        holder.begin().run("SET LOCAL deadlock_timeout = '1h'")
        holder.run("LOCK TABLE project_document IN ACCESS EXCLUSIVE MODE")
        waiting.start()
        until(lambda: _waits(holder.pid))
        report = run.finish()
        waiting.join()
        # Not left to close(), which does not wait until the server has ended the transaction.
        holder.rollback()
    finally:
        holder.raw.close()
        connections["default"].close()

    assert "deadlock detected" in report.problems[0]
    assert report.exit_code == 1
    assert report.counts == {}
    assert drain().counts == {Outcome.DELETED: 3}
    assert pending() == []


def _waits(pid: int) -> bool:
    """Whether a server process waits for a lock."""
    looker = Session()
    rows = looker.run("SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'", pid)
    looker.raw.close()
    return bool(rows)


def settlement_fails(state: str) -> None:
    """Let the statement that settles a batch fail with an SQLSTATE, after the files went."""
    for name in _NAMES:
        put(name)
    let_go(*_NAMES)
    other = Session()
    other.run(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION 'in the midst' USING ERRCODE = '{state}'; END $$"
    )
    other.run("CREATE TRIGGER fail BEFORE INSERT ON settled_file_deletion EXECUTE FUNCTION fail()")
    try:
        report = drain()
    finally:
        other.run("DROP FUNCTION fail() CASCADE")
        other.raw.close()

    assert report.exit_code == 1
    assert "in the midst" in report.problems[0]
    assert pending() == _NAMES
    assert sum(drain().counts.values()) == 3
    assert pending() == []


def role_timeouts() -> list[str]:
    """Return the parameters that a role may have set, each much shorter than a batch."""
    timeouts = ["idle_in_transaction_session_timeout=100ms", "statement_timeout=100ms", "lock_timeout=100ms"]
    # transaction_timeout came with PostgreSQL 17.
    return [*timeouts, *(["transaction_timeout=200ms"] if server_version() >= 170000 else [])]


def drain_in_spite_of(site: Site, setting: str) -> None:
    """Drain with a receiver and a lock that both take longer than the role's timeouts allow."""
    names = site.let_go(4)
    # Before the holder's transaction begins: it stands in no fence.
    site.stamp()
    with site.connect() as holder, holder.transaction():
        holder.execute("LOCK TABLE project_attachment IN ACCESS EXCLUSIVE MODE")
        process = site.start(DRAIN, PGCLEANUP_TEST_PAUSE="0.3", PGOPTIONS=f"-c {setting}")
        until(lambda: _somebody_waits(site) or process.poll() is not None)
        time.sleep(0.4)
    output, errors = process.communicate(timeout=60)

    assert process.returncode == 0, f"{setting}: {output}{errors}"
    assert site.pending() == []
    assert not site.stored() & set(names)


def _somebody_waits(site: Site) -> bool:
    waits = "SELECT 1 FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'"
    return bool(site.sql(waits, APPLICATION))


def change_tables_during_a_call(site: Site, folder: Path) -> int:
    """Change the users' tables while a storage call hangs, and return in how many ways."""
    hanging = folder / "hanging"
    hanging.touch()
    environment = {"PGCLEANUP_TEST_HANG": str(hanging)}
    assert site.manage("pgcleanup", "sync", **environment).returncode == 0
    site.let_go(2)
    (site.media / "kept.txt").write_bytes(b"content")
    site.sql("INSERT INTO project_document (title, file) VALUES ('', 'kept.txt')")
    changes = [
        "ALTER TABLE project_document ADD COLUMN extra int",
        "ALTER TABLE project_document DROP COLUMN extra",
        "LOCK TABLE project_document IN ACCESS EXCLUSIVE MODE",
        "TRUNCATE project_invoice",
        "TRUNCATE project_document CASCADE",
    ]
    process = site.start(DRAIN, **environment)
    until(lambda: Path(f"{hanging}.reached").exists() or process.poll() is not None)
    with site.connect(options="-c lock_timeout=1s") as user:
        for change in changes:
            with user.transaction():
                user.execute(change)  # type: ignore[arg-type]
    assert process.poll() is None, process.communicate()
    hanging.unlink()
    output, errors = process.communicate(timeout=60)

    assert process.returncode == 0, output + errors
    assert site.manage("drain_deletions", **environment).returncode == 0
    assert site.pending() == []
    assert site.stored() == set()
    return len(changes)
