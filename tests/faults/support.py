"""A place where drains are killed: databases, files, processes, and what must hold of them whatever happens."""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.faults.writers import NAMES, Writer
from tests.postgres import OwnServer, own_postgres
from tests.support import CHECKOUT, MANAGE

DRAINS = [sys.executable, "-m", "tests.faults.drains"]
DRAIN = [sys.executable, str(MANAGE), "drain_deletions"]
APPLICATION = "a drain"


@dataclass
class Site:
    """One project under test: its database, its folder of files, and an environment for its processes."""

    url: str
    media: Path
    heard: Path
    environment: dict[str, str]
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @classmethod
    def of(cls, environment: dict[str, str], folder: Path, **more: str) -> Site:
        """Return the site of an environment with DATABASE_URL; what its drains hear goes to a file in `folder`."""
        heard = folder / "heard"
        heard.touch()
        own = {
            **environment,
            "DJANGO_SETTINGS_MODULE": "tests.faults.settings",
            "PGCLEANUP_TEST_HEARD": str(heard),
            "PGAPPNAME": APPLICATION,
            **more,
        }
        return cls(environment["DATABASE_URL"], Path(environment["PGCLEANUP_TEST_MEDIA"]), heard, own)

    def connect(self, **options: str) -> psycopg.Connection:
        """Open a session that commits each statement."""
        return psycopg.connect(self.url, autocommit=True, prepare_threshold=None, **options)  # type: ignore[arg-type]

    def sql(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """Run one statement in a session of its own."""
        with self.connect() as connection:
            cursor = connection.execute(statement, values or None)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def start(self, command: Sequence[str], stdout: int = subprocess.PIPE, **more: str) -> subprocess.Popen[str]:
        """Start a process on this site."""
        process = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env={**self.environment, **more},
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def close(self) -> None:
        """End what a test that failed has left running: its locks would keep the tear-down waiting."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.communicate()

    def manage(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a management command to its end."""
        process = self.start([sys.executable, str(MANAGE), *arguments], **more)
        output, errors = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def let_go(self, count: int, folder: str = "dead") -> list[str]:
        """Store files, and commit rows with their names and the deletion of these rows."""
        names = [f"{folder}/{number:05}.txt" for number in range(count)]
        (self.media / folder).mkdir(exist_ok=True)
        for name in names:
            (self.media / name).write_bytes(b"content")
        with self.connect() as connection:
            insert = "INSERT INTO project_document (title, file) SELECT 'let go', unnest(%s::text[])"
            connection.execute(insert, [names])
            connection.execute("DELETE FROM project_document WHERE title = 'let go'")
        return names

    def stamp(self) -> None:
        """Have the entries stamped as if by a drain when no transaction was open."""
        self.sql(
            "WITH stamp AS (INSERT INTO file_deletion_stamp (fence) VALUES ('{}') RETURNING id) "
            "UPDATE pending_file_deletion SET stamp_id = (SELECT id FROM stamp)"
        )

    def named(self) -> set[str]:
        """Return the names in committed rows."""
        return {str(name) for (name,) in self.sql(NAMES)}

    def stored(self) -> set[str]:
        """Return the names of the files that are there."""
        return {str(path.relative_to(self.media)) for path in self.media.rglob("*") if path.is_file()}

    def pending(self) -> list[tuple[object, ...]]:
        """Return what is left in the ledger."""
        return self.sql("SELECT name, attempts, last_error FROM pending_file_deletion ORDER BY id")

    def signals(self) -> list[tuple[int, str, str]]:
        """Return what the receivers heard: process, signal, name."""
        lines = [line.split(" ", 2) for line in self.heard.read_text().splitlines()]
        return [(int(pid), kind, name) for pid, kind, name in lines]

    def finish(self) -> None:
        """Drain until nothing is left, as the schedule would in the end."""
        for _ in range(5):
            # What was left alone because another entry came, or a lock was held, waits for a moment.
            self.sql("UPDATE pending_file_deletion SET retry_at = clock_timestamp() WHERE retry_at IS NOT NULL")
            done = self.manage("drain_deletions", "--wait", "20", PGCLEANUP_TEST_WINDOW="0")
            assert done.returncode == 0, done.stdout + done.stderr
            if not self.pending():
                return
        raise AssertionError(f"the drains leave {self.pending()[:5]}")

    def assert_nothing_lost(self, *, may_stay: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        """Compare the files with the committed rows. `may_stay` are uploads whose row never came."""
        named, stored = self.named(), self.stored()
        assert not named - stored, f"deleted too early: {sorted(named - stored)[:5]}"
        left = sorted(stored - named - may_stay)
        recorded = "SELECT name, source, operation, outcome, reason FROM settled_file_deletion WHERE name = ANY (%s)"
        assert not left, f"left over: {left[:5]}, recorded: {self.sql(recorded, left)}"

    def assert_told_once(self, killed: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        """Look that only a process that was killed ever told of a name of which another one told later."""
        heard: dict[tuple[str, str], list[int]] = {}
        for pid, kind, name in self.signals():
            heard.setdefault((kind, name), []).append(pid)
        twice = {key: pids for key, pids in heard.items() if not set(pids[:-1]) <= killed or len(set(pids)) < len(pids)}
        assert not twice, f"told twice without a kill: {list(twice.items())[:5]}"


@contextmanager
def own_site(folder: Path, **more: str) -> Iterator[tuple[OwnServer, Site]]:
    """Run a server that a test may crash, with the test project migrated on it."""
    media = folder / "media of its own"
    media.mkdir()
    with own_postgres() as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE other")
        environment = {
            **os.environ,
            "DATABASE_URL": server.url,
            "OTHER_DATABASE_URL": server.url.rpartition("/")[0] + "/other",
            "PGCLEANUP_TEST_MEDIA": str(media),
        }
        site = Site.of(environment, folder, **more)
        done = site.manage("migrate", "-v", "0")
        assert done.returncode == 0, done.stdout + done.stderr
        yield server, site


class Witness(threading.Thread):
    """Looks again and again whether each committed reference has its file, and whether drains wait for each other."""

    def __init__(self, site: Site, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.site = site
        self.stop = stop
        self.looks = 0
        self.missing: list[str] = []
        self.blocked: Counter[tuple[int, int]] = Counter()
        self.crash: BaseException | None = None

    def run(self) -> None:
        """Look until told to stop."""
        try:
            with self.site.connect() as connection:
                while not self.stop.is_set():
                    self.look(connection)
                    self.stop.wait(0.03)
        except BaseException as error:
            self.crash = error

    def look(self, connection: psycopg.Connection) -> None:
        """Compare one snapshot with the disk.

        While its transaction is open, it stands in the fence of whatever is let go after the snapshot: what
        the snapshot names must be there.
        """
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            names = [name for (name,) in connection.execute(NAMES)]
            self.missing += [name for name in names if not (self.site.media / name).exists()]
        self.looks += 1
        for pair in connection.execute(_BLOCKED, [APPLICATION, APPLICATION]):
            self.blocked[pair] += 1


_BLOCKED = """
SELECT one.pid, other.pid
  FROM pg_stat_activity one, unnest(pg_blocking_pids(one.pid)) AS by
  JOIN pg_stat_activity other ON other.pid = by
 WHERE one.application_name = %s AND other.application_name = %s AND one.query_start < now() - interval '1 second'
"""


@dataclass
class Killer:
    """Keeps some drains running, and kills one of them at a random moment, again and again."""

    site: Site
    drains: int = 3
    seed: int = 1
    killed: set[int] = field(default_factory=set)
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        """Kill for so long, then kill what is left."""
        chance = random.Random(self.seed)  # noqa: S311 -- no secret
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                while len(self.running) < self.drains:
                    self.running.append(self.site.start(DRAINS))
                # Once it has told of a name it is in mid-work; how far it gets from there is left to chance.
                victim = self._next_at_work(end)
                if victim is None:
                    break
                time.sleep(chance.uniform(0, 0.4))
                self._kill(victim)
        finally:
            for process in list(self.running):
                self._kill(process)

    def _next_at_work(self, end: float) -> subprocess.Popen[str] | None:
        while time.monotonic() < end:
            at_work = {pid for pid, _, _ in self.site.signals()}
            for process in self.running:
                if process.poll() is not None:
                    raise AssertionError(f"a drain ended by itself: {process.communicate()}")
                if process.pid in at_work:
                    return process
            time.sleep(0.02)
        return None

    def _kill(self, process: subprocess.Popen[str]) -> None:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        self.killed.add(process.pid)
        self.running.remove(process)


@contextmanager
def draining(site: Site, processes: int = 2) -> Iterator[None]:
    """Let some drains run again and again, whatever happens to them, while the block does."""
    running = [site.start([*DRAINS, "--go-on"]) for _ in range(processes)]
    try:
        yield
        for process in running:
            assert process.poll() is None, process.communicate()
    except BaseException:
        for process in running:
            process.kill()
            print(*process.communicate())
        raise
    finally:
        for process in running:
            process.kill()
            process.communicate()


@contextmanager
def pgbouncer(site: Site, folder: Path) -> Iterator[Site]:
    """Put pgbouncer in front of the site's server, in transaction mode and with few connections to it."""
    program = shutil.which("pgbouncer")
    if program is None:
        pytest.skip("pgbouncer is not installed: apt-get install pgbouncer")
    server = conninfo_to_dict(site.url)
    place = Path(tempfile.mkdtemp(prefix="pgcleanup-pgbouncer-", dir="/tmp"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (place / "pgbouncer.ini").write_text(
        f"""
[databases]
* = host={server["host"]} port={server["port"]} user={server["user"]} password={server["password"]}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 10
ignore_startup_parameters = extra_float_digits,options
logfile = {place}/log
"""
    )
    identity: dict[str, Any] = {}
    if os.geteuid() == 0:  # pgbouncer refuses to run as root
        nobody = pwd.getpwnam("nobody")
        identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        for path in (place, place / "pgbouncer.ini"):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
    process = subprocess.Popen(
        [program, "-q", str(place / "pgbouncer.ini")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=place,
        **identity,
    )
    try:
        url = f"postgresql://postgres@127.0.0.1:{port}/{server['dbname']}"
        behind = replace(site, url=url, environment={**site.environment, "DATABASE_URL": url})
        end = time.monotonic() + 30
        while True:
            try:
                behind.sql("SELECT 1")
                break
            except psycopg.OperationalError:
                assert process.poll() is None, (place / "log").read_text()
                assert time.monotonic() < end, (place / "log").read_text()
                time.sleep(0.05)
        yield behind
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(place)


@dataclass
class Aftermath:
    """What a run of kills has left, and what it did."""

    site: Site
    killer: Killer
    witness: Witness
    writers: Sequence[Writer]

    @property
    def done(self) -> Counter[str]:
        """What the writers committed."""
        return sum((writer.done for writer in self.writers), Counter())

    @property
    def errors(self) -> Counter[str]:
        """The writers' errors, by SQLSTATE."""
        return sum((writer.errors for writer in self.writers), Counter())

    def assert_promises_hold(self, *, names_are_used_once: bool = True) -> None:
        """Nothing early, nothing lost, nothing told twice but for a kill, and no drain waited for another."""
        assert self.witness.missing == [], "a committed row named a file that was gone"
        assert self.witness.looks > 0
        assert not self.witness.blocked, "drains waited for each other"
        self.site.assert_nothing_lost(may_stay=set().union(*(writer.never_committed for writer in self.writers)))
        if names_are_used_once:
            self.site.assert_told_once(self.killer.killed)


def kill_drains(site: Site, writers: Sequence[Writer], *, seconds: float, drains: int) -> Aftermath:
    """Kill drains for so long while everybody writes, and let one drain finish what is left."""
    witness, killer = Witness(site, writers[0].stop), Killer(site, drains)
    with going_on(writers[0].stop, witness, *writers):
        killer.run(seconds)
    site.finish()
    return Aftermath(site, killer, witness, writers)


@contextmanager
def going_on(stop: threading.Event, *threads: Writer | Witness) -> Iterator[None]:
    """Let the threads run while the block does, and fail where one of them failed."""
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=60)
    for thread in threads:
        assert not thread.is_alive(), f"{thread.name} hangs"
        if thread.crash is not None:
            raise AssertionError(f"{thread.name} failed") from thread.crash
