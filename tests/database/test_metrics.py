"""What Prometheus is told: gauges of the database, bounded and from indexes; counters of the process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from prometheus_client import CollectorRegistry, generate_latest

from pgcleanup import metrics, sql
from pgcleanup.drain import FileResult, Run
from pgcleanup.ledger import control, gauges, state
from pgcleanup.metrics import Metrics, StateCollector
from pgcleanup.models import Outcome
from tests.drain.support import agree, entries, let_go, orphaned, put
from tests.support import run_sql, session, until

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

HOUR = timedelta(hours=1)


@pytest.fixture
def at_once(settings, media_root: Path) -> None:
    """Let what is let go be due at once."""
    settings.PGCLEANUP_GRACE_PERIOD = settings.PGCLEANUP_UPLOAD_WINDOW = timedelta(0)
    agree()


def gauges_of(registry: CollectorRegistry) -> dict[str, float]:
    """Return the samples of a scrape by name and labels, less that of the database."""
    return {
        sample.name.removeprefix("pgcleanup_")
        + "".join(f" {value}" for name, value in sample.labels.items() if name != "database"): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def scrape() -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(StateCollector("default"))
    return gauges_of(registry)


def measured(made: Metrics) -> dict[str, float]:
    """Drain once for these metrics, and return them."""
    run = Run("default", progress=made.heard, calls=made.calls())
    for _ in run.steps():
        pass
    return gauges_of(made.registry)


def stamp(fence: str = "{}", ago: timedelta = timedelta(0)) -> None:
    """Stamp what is not stamped yet."""
    run_sql(
        "WITH stamp AS (INSERT INTO file_deletion_stamp (fence, stamped_at) "
        "VALUES (%s, clock_timestamp() - %s) RETURNING id) "
        "UPDATE pending_file_deletion SET stamp_id = (SELECT id FROM stamp) WHERE stamp_id IS NULL",
        [fence, ago],
    )


def change(name: str, assignments: str) -> None:
    run_sql(f"UPDATE pending_file_deletion SET {assignments} WHERE name = %s", [name])


@contextmanager
def everything_pending() -> Iterator[dict[str, int]]:
    """Let there be an entry for each reason to wait. Yields their numbers."""
    with session() as other:
        other.execute("BEGIN")
        [(vxid,)] = other.execute("SELECT virtualtransaction FROM pg_locks WHERE pid = pg_backend_pid() LIMIT 1")
        let_go("held")
        stamp(f'{{"{vxid}"}}', 2 * HOUR)
        let_go("due 1", "due 2", "again", "retrying", "failed", "young")
        stamp(ago=2 * HOUR)
        change("again", "retry_at = now() - interval '1 minute', attempts = 2")
        change("retrying", "retry_at = now() + interval '1 minute', attempts = 2")
        change("failed", "retry_at = now() - interval '1 day', attempts = 10, exhausted_at = now()")
        change("young", "retry_at = now() + interval '1 minute', last_error = 'upload_window: too young'")
        let_go("seen 1", "seen 2")
        stamp()
        let_go("new")
        yield {"due": 3, "transaction": 1, "retrying": 1, "failed": 1, "upload_window": 1, "grace_period": 3}
        other.execute("ROLLBACK")


def test_entries_are_counted_by_what_they_wait_for(settings) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = HOUR
    with everything_pending() as expected:
        found = scrape()

    counted = {key.split()[1]: value for key, value in found.items() if key.startswith("pending_entries ")}
    assert counted == expected | {"other_entry": 0}


def test_counts_are_those_of_status(settings) -> None:
    from pgcleanup.columns import find_file_columns

    settings.PGCLEANUP_GRACE_PERIOD = HOUR
    with everything_pending():
        found = gauges.look("default", HOUR)

        assert found.waiting == state.waiting("default", HOUR, find_file_columns("default"))
        assert found.pending == 9
        assert found.complete


def test_next_moment_is_a_retry_or_the_end_of_a_grace_period(settings) -> None:
    let_go("a", "b")
    stamp()
    grace = gauges.look("default", HOUR)
    change("b", "retry_at = clock_timestamp() + interval '1 minute'")
    retry = gauges.look("default", HOUR)

    assert grace.next_due is not None
    assert retry.next_due is not None
    assert timedelta(minutes=59) < grace.next_due - grace.now <= HOUR
    assert timedelta(seconds=50) < retry.next_due - retry.now <= timedelta(minutes=1)


def test_count_that_is_cut_short_says_so_and_reads_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gauges, "COUNTED", 3)
    let_go(*"abcde")

    found = scrape()

    assert found["pending_entries grace_period"] == 3
    assert found["pending_entries_incomplete"] == 1


def test_retries_beyond_those_that_are_read_are_counted_without_their_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gauges, "_READ", 1)
    let_go("failed", "b", "c")
    stamp(ago=2 * HOUR)
    run_sql("UPDATE pending_file_deletion SET retry_at = now() + interval '1 minute', attempts = 1")
    change("failed", "retry_at = now() - interval '1 day', exhausted_at = now()")

    found = scrape()

    assert (found["pending_entries failed"], found["pending_entries retrying"]) == (1, 2)


def test_entries_are_counted_in_indexes_only_and_to_a_limit() -> None:
    let_go(*[str(number) for number in range(2000)])
    stamp(ago=2 * HOUR)
    let_go(*[f"new {number}" for number in range(2000)])
    run_sql("UPDATE pending_file_deletion SET retry_at = now() WHERE id % 10 = 0 AND stamp_id IS NOT NULL")
    run_sql("VACUUM ANALYZE pending_file_deletion")

    rows = sql.fetch("default", f"EXPLAIN {gauges.WAITING}", gauges.parameters(HOUR))

    plan = "\n".join(row[0] for row in rows)
    assert "Index Only Scan using pfd_unstamped" in plan
    assert "Index Only Scan using pfd_ready" in plan
    assert "Index Only Scan using pfd_retry" in plan
    assert "Seq Scan on pending_file_deletion" not in plan
    assert plan.count("Limit") >= 4


def test_gauges_tell_of_age_pause_last_drain_and_triggers(settings) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = HOUR
    let_go("a")
    change("a", "recorded_at = now() - interval '3 hours'")
    control.pause("default", "ann")
    trigger = run_sql("SELECT tgname FROM pg_trigger WHERE tgrelid = 'project_document'::regclass AND NOT tgisinternal")
    run_sql(f"ALTER TABLE project_document DISABLE TRIGGER {trigger[0][0]}")
    try:
        found = scrape()
    finally:
        run_sql(f"ALTER TABLE project_document ENABLE TRIGGER {trigger[0][0]}")

    assert found["oldest_pending_seconds"] == pytest.approx(7200, abs=300)
    assert found["paused"] == 1
    assert found["tables_not_recorded disabled"] == 1
    assert found["tables_not_recorded missing"] == 0


@pytest.mark.usefixtures("at_once")
def test_moment_of_the_last_drain_is_told() -> None:
    measured(Metrics("default", CollectorRegistry()))

    assert scrape()["last_drain_timestamp_seconds"] > 1_700_000_000


def test_scrape_that_takes_too_long_lacks_what_it_could_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "STATEMENT_TIMEOUT", 0.2)
    with session() as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE pending_file_deletion")

        found = scrape()

        other.execute("ROLLBACK")
    assert found["readable backlog"] == 0
    assert found["readable control"] == 1
    assert found["paused"] == 0
    assert "oldest_pending_seconds" not in found


def test_scrape_of_a_database_that_does_not_answer_says_that(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = CollectorRegistry()
    registry.register(StateCollector("other"))
    connections["other"].close()
    with monkeypatch.context() as patch:
        patch.setitem(connections["other"].settings_dict, "PORT", "1")

        found = gauges_of(registry)

    assert found == {"readable backlog": 0, "readable control": 0, "readable coverage": 0}


def test_scrape_in_a_thread_leaves_no_connection_behind() -> None:
    counted = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    before = run_sql(counted)
    threads: list[Any] = []

    def ask() -> None:
        found = scrape()
        threads.append((found["readable backlog"], connections["default"].connection))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()

    assert threads == [(1, None)]
    # The server ends a session a moment after its client has gone.
    until(lambda: run_sql(counted) <= before)


@pytest.mark.usefixtures("at_once")
def test_files_bytes_and_times_are_counted() -> None:
    orphaned("a", b"12345")
    put("b")
    let_go("b", "gone")
    run_sql("UPDATE pending_file_deletion SET recorded_at = clock_timestamp() - interval '100 seconds'")

    found = measured(Metrics("default", CollectorRegistry()))

    assert (found["files_total deleted"], found["files_total absent"], found["files_total kept"]) == (2, 1, 0)
    assert found["bytes_total deleted"] == 5 + len("content")
    assert found["recorded_to_gone_seconds_count"] == 2
    assert 200 <= found["recorded_to_gone_seconds_sum"] < 300
    assert found["storage_call_seconds_count look"] == 3
    assert found["storage_call_seconds_count delete"] == 2
    assert found["storage_errors_total delete"] == 0


@pytest.mark.usefixtures("at_once")
def test_failing_storage_counts_as_errors_and_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str) -> None:
        raise OSError(f"{path} is in use")

    monkeypatch.setattr("pgcleanup.storages.local.os.remove", fail)
    put("another")
    orphaned("a")

    found = measured(Metrics("default", CollectorRegistry()))

    assert found["storage_errors_total delete"] == 1
    assert found["storage_errors_total look"] == 0
    assert found["retries_total"] == found["files_total postponed"] == 1
    assert found["storage_call_seconds_count delete"] == 1
    assert entries("attempts") == [(1,)]


def test_names_that_wait_are_no_outcome() -> None:
    made = Metrics("default", CollectorRegistry())

    made.heard(FileResult("a.b.c", "x", waiting="upload_window"))
    made.heard(FileResult("a.b.c", "x", Outcome.KEPT))

    found = gauges_of(made.registry)
    assert sum(value for key, value in found.items() if key.startswith("files_total")) == 1


def test_text_is_what_prometheus_reads() -> None:
    text = generate_latest(Metrics("default").registry).decode()

    assert "# TYPE pgcleanup_pending_entries gauge" in text
    assert "# TYPE pgcleanup_recorded_to_gone_seconds histogram" in text
    assert 'pgcleanup_files_total{database="default",outcome="deleted"} 0.0' in text
    assert 'pgcleanup_drains_total{database="default",result="refused"} 0.0' in text
