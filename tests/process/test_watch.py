"""`drain_deletions --watch`: a service that drains until it is told to stop, whatever the database does meanwhile."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from queue import Empty, Queue
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from django.db import OperationalError

from pgcleanup.drain import Run, run
from pgcleanup.ledger import control, gauges
from pgcleanup.management import watching as watching_module
from pgcleanup.management.output.watched import Journal
from pgcleanup.management.stopping import Stop
from pgcleanup.management.watching import Pace, Watch
from pgcleanup.triggers import sync
from tests.drain.support import agree, let_go, orphaned, pending, put
from tests.faults.support import APPLICATION, DRAIN, Site
from tests.support import run_sql

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

WATCH = [*DRAIN, "--watch"]


class Service:
    """A process that watches, and the lines that it has printed so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._queue: Queue[str | None] = Queue()
        # It would stop at a pipe that is full, and a test at one that is empty.
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def until(self, wanted: Callable[[str], bool]) -> str:
        """Wait for a line, and return it."""
        end = time.monotonic() + 60
        while True:
            try:
                line = self._queue.get(timeout=max(end - time.monotonic(), 0.01))
            except Empty:
                raise AssertionError(f"it never came to that: {self.lines}") from None
            assert line is not None, f"it ended: {self.lines}, {self.process.communicate()}"
            self.lines.append(line)
            if wanted(line):
                return line

    def until_event(self, name: str, **values: Any) -> dict[str, Any]:
        """Wait for an event of a service with `--json` that has these values, and return it."""

        def is_it(line: str) -> bool:
            event = json.loads(line)
            return bool(event["event"] == name and all(event.get(key) == value for key, value in values.items()))

        found: dict[str, Any] = json.loads(self.until(is_it))
        return found

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, read what is still said, and return the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(timeout=60)
        while (line := self._queue.get(timeout=60)) is not None:
            self.lines.append(line)
        return code

    @property
    def events(self) -> list[dict[str, Any]]:
        """What was said, of a service with `--json`."""
        return [json.loads(line) for line in self.lines]


@pytest.fixture
def site(process_env: dict[str, str], tmp_path: Path) -> Site:
    """Return a site whose database knows where its files are."""
    made = Site.of(process_env, tmp_path)
    sync("default", triggers=False)
    return made


@contextmanager
def watching(site: Site, *options: str, **more: str) -> Iterator[Service]:
    """Run a service while the block does."""
    service = Service(site.start([*WATCH, *options], **more))
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.process.kill()
        service.process.wait()
        for pipe in (service.process.stdout, service.process.stderr):
            assert pipe is not None
            pipe.close()


@contextmanager
def database_away(site: Site) -> Iterator[None]:
    """Let nobody new in, and throw out the service."""
    url, _, rest = site.url.rpartition("/")
    name = rest.partition("?")[0]
    with psycopg.connect(f"{url}/postgres", autocommit=True) as server:
        allow = psycopg.sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        server.execute(allow.format(psycopg.sql.Identifier(name), psycopg.sql.SQL("false")))
        try:
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND application_name = %s",
                [name, APPLICATION],
            )
            yield
        finally:
            server.execute(allow.format(psycopg.sql.Identifier(name), psycopg.sql.SQL("true")))


def test_service_deletes_what_is_let_go_while_it_runs_and_says_so_once(site) -> None:
    with watching(site, "--interval", "1") as service:
        service.until(lambda line: " watching " in line)
        site.let_go(3)
        said = service.until(lambda line: " drained " in line)
        code = service.stop()

    assert " drained database=default deleted=3 bytes=21 seconds=" in said
    assert " pending=0 oldest_pending_seconds=0.0 next_seconds=" in said
    assert site.stored() == set()
    assert [line.split()[1] for line in service.lines] == ["watching", "drained", "stopped"]
    assert code == 143


def test_service_told_to_stop_in_the_midst_of_a_drain_settles_what_it_did(site) -> None:
    names = site.let_go(150)
    with watching(site, PGCLEANUP_TEST_PAUSE="0.05") as service:
        while len(site.signals()) < 5:
            assert service.process.poll() is None
            time.sleep(0.02)
        code = service.stop()

    gone = {name for name in names if not (site.media / name).exists()}
    history = {(name, outcome) for name, outcome in run_sql("SELECT name, outcome FROM settled_file_deletion")}
    assert code == 143
    assert 0 < len(gone) < 150
    assert history == {(name, "deleted") for name in gone}
    assert any(f" drained database=default deleted={len(gone)} " in line for line in service.lines)
    assert service.lines[-1].endswith(" stopped database=default signal=SIGTERM")


def test_service_outlives_a_database_that_goes_away(site) -> None:
    """`make test-faults` restarts a server under one."""
    with watching(site, "--interval", "1", "--json") as service:
        service.until_event("watching")
        with database_away(site):
            lost = service.until_event("error")
        service.until_event("reached")
        site.let_go(3)
        service.until_event("drained", deleted=3)
        code = service.stop()

    assert lost["next_seconds"] <= 1
    assert site.stored() == set()
    assert code == 143


def test_metrics_are_served_while_it_watches(site) -> None:
    site.let_go(3)
    with watching(site, "--json", "--metrics", "0") as service:
        address = service.until_event("metrics")["address"]
        service.until_event("drained")
        with urllib.request.urlopen(address) as answer:  # noqa: S310 -- our own
            text = answer.read().decode()
        service.stop()

    assert address.startswith("http://127.0.0.1:")
    assert 'pgcleanup_files_total{database="default",outcome="deleted"} 3.0' in text
    assert 'pgcleanup_bytes_total{database="default",outcome="deleted"} 21.0' in text
    assert 'pgcleanup_storage_call_seconds_count{call="delete",database="default"} 3.0' in text
    assert 'pgcleanup_pending_entries{database="default",waiting="due"} 0.0' in text
    assert 'pgcleanup_readable{database="default",part="backlog"} 1.0' in text
    assert 'pgcleanup_drains_total{database="default",result="done"}' in text
    # Before the main thread is done with it, another connection has answered: none is left of it.
    assert run_sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'a drain'") == [(0,)]


class Pauses(Stop):
    """Says stop after some pauses, and takes none: what a signal would do, without the waiting."""

    def __init__(self, number: int, between: Callable[[], Any] = lambda: None) -> None:
        super().__init__(enabled=False)
        self.left = number
        self.between = between

    def wait(self, seconds: float) -> None:
        """Let something happen meanwhile."""
        self.left -= 1
        if self.left:
            self.between()
        else:
            self.received = signal.SIGTERM


def events_of(drains: int, between: Callable[[], Any] = lambda: None, **options: Any) -> list[dict[str, Any]]:
    """Watch in this process for some drains, and return what was told."""
    lines: list[str] = []
    journal = Journal(lines.append, "default", as_objects=True)
    Watch("default", pace=Pace(60), stop=Pauses(drains, between), journal=journal, **options).run()
    return [json.loads(line) for line in lines]


@pytest.fixture
def at_once(settings, media_root: Path) -> None:
    """Let what is let go be due at once."""
    settings.PGCLEANUP_GRACE_PERIOD = settings.PGCLEANUP_UPLOAD_WINDOW = timedelta(0)
    agree()


@pytest.mark.usefixtures("at_once")
def test_lines_of_a_long_drain_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "BATCH_SIZE", 10)
    monkeypatch.setattr(watching_module, "SECONDS_BETWEEN_LINES", 0.0)
    for number in range(35):
        put(f"{number}.txt", b"1234")
    let_go(*[f"{number}.txt" for number in range(35)])

    drained = [event for event in events_of(1) if event["event"] == "drained"]

    assert [event["deleted"] for event in drained] == [10, 10, 10, 5, 0]
    assert sum(event["bytes"] for event in drained) == 35 * 4
    assert [event.get("pending") for event in drained] == [None, None, None, None, 0]


@pytest.mark.usefixtures("at_once")
def test_drain_that_finds_nothing_says_nothing() -> None:
    assert [event["event"] for event in events_of(3)] == ["watching", "stopped"]


@pytest.mark.usefixtures("at_once")
def test_paused_service_says_so_once_and_goes_on_when_it_is_resumed() -> None:
    orphaned("a.txt")
    control.pause("default", "ann", "we look into it")
    stored: list[str] = []
    steps = iter([lambda: None, lambda: stored.extend(pending()), lambda: control.resume("default")])

    events = events_of(4, lambda: next(steps)())

    assert [event["event"] for event in events] == ["watching", "refused", "drained", "mended", "stopped"]
    assert "we look into it" in events[1]["what"]
    assert stored == ["a.txt"]


@pytest.mark.usefixtures("at_once")
def test_service_that_may_delete_nothing_claims_no_deletion(settings) -> None:
    settings.PGCLEANUP_DELETE_FILES = False
    path = orphaned("a.txt")

    events = events_of(3)

    assert [event["event"] for event in events] == ["watching", "stopped"]
    assert events[0]["delete_files"] is False
    assert path.exists()


@pytest.mark.usefixtures("at_once")
def test_trouble_that_stays_is_told_once_and_its_end_as_well() -> None:
    trigger = run_sql("SELECT tgname FROM pg_trigger WHERE tgrelid = 'project_document'::regclass AND NOT tgisinternal")
    run_sql(f"ALTER TABLE project_document DISABLE TRIGGER {trigger[0][0]}")
    steps = iter(
        [lambda: None, lambda: run_sql(f"ALTER TABLE project_document ENABLE TRIGGER {trigger[0][0]}"), lambda: None]
    )

    events = events_of(4, lambda: next(steps)())

    assert [event["event"] for event in events] == ["watching", "problem", "mended", "stopped"]
    assert "project_document" in events[1]["what"]
    assert events[2]["what"] == events[1]["what"]


@pytest.fixture
def hour(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let an hour go by at once."""
    passed = [0.0]
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + passed[0])
    monkeypatch.setattr(watching_module, "time", clock)

    def let_it_pass() -> None:
        passed[0] += 3601

    return let_it_pass


@pytest.mark.usefixtures("at_once")
def test_database_that_is_away_is_told_once_and_again_after_an_hour(
    monkeypatch: pytest.MonkeyPatch, hour: Callable[[], None]
) -> None:
    errors = iter(["refused", "refused", "starting up", "refused", "refused", "refused", None, "refused"])

    def run_or_fail(*arguments: Any, **options: Any) -> Run:
        if error := next(errors):
            raise OperationalError(error)
        return Run(*arguments, **options)

    monkeypatch.setattr(watching_module, "Run", run_or_fail)
    steps = iter([*[lambda: None] * 4, hour, *[lambda: None] * 2])

    events = events_of(8, lambda: next(steps)())

    assert [(event["event"], event.get("what")) for event in events[1:-1]] == [
        ("error", "OperationalError: refused"),
        ("error", "OperationalError: starting up"),
        ("error", "OperationalError: refused"),
        ("reached", None),
        ("error", "OperationalError: refused"),
    ]


def test_each_trouble_is_mended_in_the_words_it_was_told_in(hour: Callable[[], None]) -> None:
    lines: list[str] = []
    journal = Journal(lines.append, "default", as_objects=True)
    watch = Watch("default", pace=Pace(60), stop=Pauses(1), journal=journal)

    def told(*sentences: str) -> list[tuple[str, str]]:
        lines.clear()
        watch._say_trouble("problem", list(sentences))
        return [(event["event"], event["what"]) for event in map(json.loads, lines)]

    assert told("a", "b") == [("problem", "a"), ("problem", "b")]
    assert told("a", "b") == []
    assert told("b") == [("mended", "a")]
    assert told("b", "c") == [("problem", "c")]
    hour()
    assert told("b", "c") == [("problem", "b"), ("problem", "c")]
    assert told() == [("mended", "b"), ("mended", "c")]
    assert told() == []


def test_trouble_in_other_words_is_not_mended() -> None:
    lines: list[str] = []
    journal = Journal(lines.append, "default", as_objects=True)
    watch = Watch("default", pace=Pace(60), stop=Pauses(1), journal=journal)

    for number in (1, 2):
        watch._say_trouble("problem", [f"does not answer (request {number})"])

    assert [json.loads(line)["event"] for line in lines] == ["problem", "problem"]


@pytest.mark.usefixtures("at_once")
def test_look_that_takes_too_long_costs_the_line_its_numbers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching_module, "_LOOK_TIMEOUT", "200ms")
    monkeypatch.setattr(gauges, "WAITING", f"SELECT pg_sleep(30), %(grace)s, 0 {gauges.WAITING[:0]}")
    orphaned("a.txt")

    events = events_of(1)

    assert [event["event"] for event in events] == ["watching", "drained", "stopped"]
    assert events[1]["deleted"] == 1
    assert "pending" not in events[1]


@pytest.mark.usefixtures("at_once")
def test_limit_is_that_of_each_drain_and_the_next_follows_soon() -> None:
    for name in "abc":
        put(name)
    let_go("a", "b", "c")

    events = [event for event in events_of(3, limit=1) if event["event"] == "drained"]

    assert [(event["deleted"], event["pending"]) for event in events] == [(1, 2), (1, 1), (1, 0)]
    assert all(event["next_seconds"] <= 1 for event in events)


def test_journal_logs_where_there_is_a_handler(caplog: pytest.LogCaptureFixture) -> None:
    written: list[str] = []
    journal = Journal(written.append, "default")

    with caplog.at_level("INFO", "pgcleanup.watch"):
        journal.tell("drained", deleted=2)
        journal.tell("problem", problem=True, what='storage "x"\ndoes not answer')

    assert written == []
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "drained database=default deleted=2"),
        ("WARNING", 'problem database=default what="storage \\"x\\"\\ndoes not answer"'),
    ]
    assert caplog.records[0].pgcleanup == {"event": "drained", "database": "default", "deleted": 2}


def test_journal_of_problems_says_nothing_else() -> None:
    written: list[str] = []
    journal = Journal(written.append, "default", as_objects=True, problems_only=True)

    journal.tell("drained", deleted=2)
    journal.tell("error", problem=True, what="gone")

    assert [json.loads(line)["event"] for line in written] == ["error"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--interval", "5"], "--interval goes with --watch"),
        (["--metrics", "9187"], "--metrics goes with --watch"),
        (["--watch", "--dry-run"], "--dry-run is for a single drain"),
        (["--watch", "--accept-absent"], "--accept-absent is for a single drain"),
        (["--watch", "--interval", "0"], "--interval takes a number of seconds from 1 to a day"),
        (["--watch", "--interval", "nan"], "--interval takes a number of seconds from 1 to a day"),
        (["--watch", "--metrics", "here"], "--metrics takes a port"),
    ],
    ids=" ".join,
)
def test_options_that_make_no_sense_are_refused(options: list[str], said: str) -> None:
    from django.core.management import CommandError, call_command

    with pytest.raises(CommandError, match=said) as raised:
        call_command("drain_deletions", *options)

    assert raised.value.returncode == 2


def test_metrics_without_prometheus_client_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.core.management import CommandError, call_command

    monkeypatch.delitem(sys.modules, "pgcleanup.metrics", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)

    with pytest.raises(CommandError, match=r'pip install "django-pgcleanup\[prometheus\]"') as raised:
        call_command("drain_deletions", "--watch", "--metrics", "0")

    assert raised.value.returncode == 2


def test_pauses_grow_while_there_is_nothing_to_do_and_are_short_again_after_work() -> None:
    pace = Pace(20)

    pauses = [pace.after_drain(busy=False, next_due=None) for _ in range(6)]

    for pause, limit in zip(pauses, [2, 4, 8, 16, 20, 20], strict=True):
        assert 0.9 * limit <= pause <= limit
    assert pace.after_drain(busy=True, next_due=None) <= 1


def test_pause_ends_when_something_is_due_and_not_before() -> None:
    pace = Pace(60, idle=60)

    pause = pace.after_drain(busy=False, next_due=7.5)

    assert 7.5 < pause < 8


def test_pause_after_errors_grows_to_a_minute() -> None:
    pace = Pace(5)

    pauses = [pace.after_error(number) for number in range(1, 12)]

    assert pauses[0] <= 1
    assert 30 <= pauses[-1] <= 60
