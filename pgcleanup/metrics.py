"""Metrics for Prometheus, of a process that drains for long: `drain_deletions --watch --metrics PORT`.

Needs the extra `prometheus` (prometheus_client). Counters and histograms are of this process; gauges are
of the database, asked at each scrape and bounded. Those that `pgcleanup status --format prometheus` prints
as well have the same names.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from threading import Lock
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connections
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, start_http_server
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pgcleanup import sql
from pgcleanup.conf import settings
from pgcleanup.drain import FileResult
from pgcleanup.ledger import control, gauges
from pgcleanup.models import Outcome
from pgcleanup.status import Coverage, coverage_of
from pgcleanup.storages import Call, Calls
from pgcleanup.triggers import inspect

__all__ = ["Metrics", "StateCollector", "serve"]

STATEMENT_TIMEOUT = 0.5
"""Seconds that one query of a scrape may take. What takes longer is missing from that scrape."""
_COVERAGE_SECONDS = 60.0

_REASONS = ("due", "grace_period", "transaction", "retrying", "failed", "upload_window", "other_entry")
# From "right after the commit" to "the outage is over": the default grace period is an hour.
_GONE_BUCKETS = (1, 10, 60, 300, 900, 1800, 3600, 3900, 4500, 7200, 14400, 43200, 86400, 604800)
_CALL_BUCKETS = (0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """What one process has done, in a registry of its own unless it is given one."""

    def __init__(self, using: str, registry: CollectorRegistry | None = None) -> None:
        if registry is None:
            registry = CollectorRegistry()
            ProcessCollector(registry=registry)
        self.registry = registry
        files = Counter("pgcleanup_files", "Files that a drain dealt with.", ["database", "outcome"], registry=registry)
        self._files = {outcome: files.labels(using, outcome.value) for outcome in Outcome}
        bytes_ = Counter("pgcleanup_bytes", "Bytes of these files.", ["database", "outcome"], registry=registry)
        self._bytes = bytes_.labels(using, Outcome.DELETED.value)
        retries = Counter("pgcleanup_retries", "Files put off for another attempt.", ["database"], registry=registry)
        self._retries = retries.labels(using)
        runs = Counter("pgcleanup_drains", "Drains, by how they ended.", ["database", "result"], registry=registry)
        self._runs = {result: runs.labels(using, result) for result in ("done", "refused", "error")}
        self._errors = Counter(
            "pgcleanup_storage_errors",
            "Storage calls that failed, by what was asked.",
            ["database", "call"],
            registry=registry,
        )
        gone = Histogram(
            "pgcleanup_recorded_to_gone_seconds",
            "From the record of a file name to the deletion of its file.",
            ["database"],
            buckets=_GONE_BUCKETS,
            registry=registry,
        )
        self._gone = gone.labels(using)
        self._seconds = Histogram(
            "pgcleanup_storage_call_seconds",
            "How long storage calls take.",
            ["database", "call"],
            buckets=_CALL_BUCKETS,
            registry=registry,
        )
        self._using = using
        for call in ("look", "delete"):
            self._errors.labels(using, call)
            self._seconds.labels(using, call)
        registry.register(StateCollector(using))

    def heard(self, result: FileResult) -> None:
        """Count one name: the `progress` of a drain."""
        if result.outcome is None:
            return
        self._files[result.outcome].inc()
        if result.outcome is Outcome.DELETED:
            self._bytes.inc(result.bytes)
            if result.pending_seconds is not None:
                self._gone.observe(result.pending_seconds)
        elif result.outcome is Outcome.POSTPONED:
            self._retries.inc()

    def ended(self, result: str) -> None:
        """Count a drain: `done`, `refused` or `error`."""
        self._runs[result].inc()

    def calls(self) -> Calls:
        """Return what measures the storage calls of one run."""
        return _MeasuredCalls(self._call_took, self._call_failed)

    def _call_took(self, call: str, seconds: float) -> None:
        self._seconds.labels(self._using, call).observe(seconds)

    def _call_failed(self, call: str) -> None:
        self._errors.labels(self._using, call).inc()


class _MeasuredCalls(Calls):
    """Takes the time from the note of a call to the next one, or to its removal."""

    def __init__(self, took: Any, failed: Any) -> None:
        self._told, self._failed = took, failed
        self._call: Call | None = None
        self._began = 0.0
        super().__init__()

    # An attribute there: it must cost nothing where nobody measures.
    @property
    def current(self) -> Call | None:
        """What is asked at the moment."""
        return self._call

    @current.setter
    def current(self, call: Call | None) -> None:
        now = time.monotonic()
        if self._call is not None:
            self.took(self._call[0], now - self._began)
        self._call, self._began = call, now

    def took(self, what: str, seconds: float) -> None:
        """Measure a call."""
        self._told(_label(what), seconds)

    def failed(self, what: str) -> None:
        """Count an error."""
        self._failed(_label(what))


def _label(what: str) -> str:
    return what.split()[0]


class StateCollector(Collector):
    """The gauges of one database. Raises nothing: what cannot be read in time is missing, and `readable` says so."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._lock = Lock()
        self._coverage: Coverage | None = None
        self._coverage_until = 0.0

    def collect(self) -> Iterator[Metric]:
        """Ask the database. Each thread has a connection of its own, which is closed if it was opened here."""
        opened = connections[self._using].connection is None
        readable = {}
        try:
            for part in (self._backlog, self._control, self._coverage_now):
                found: list[Metric] = []
                # Also of a database that does not answer at all.
                with suppress(Error, ImproperlyConfigured):
                    found = list(part())
                readable[part.__name__.strip("_").removesuffix("_now")] = bool(found)
                yield from found
        finally:
            if opened:
                connections[self._using].close()
        yield self._gauge("readable", "Whether this scrape could read it.", "part", readable)

    def _backlog(self) -> Iterator[Metric]:
        with sql.short_transaction(self._using, **_bounds()):
            found = gauges.look(self._using, settings.grace_period)
        waiting = dict.fromkeys(_REASONS, 0) | found.waiting
        yield self._gauge("pending_entries", "Entries that are pending, by what they wait for.", "waiting", waiting)
        yield self._gauge(
            "pending_entries_incomplete", f"1 where only {gauges.COUNTED:,} were counted.", None, not found.complete
        )
        seconds = found.oldest.total_seconds() if found.oldest is not None else 0.0
        yield self._gauge(
            "oldest_pending_seconds", "How long the oldest pending file is past its grace period.", None, seconds
        )

    def _control(self) -> Iterator[Metric]:
        with sql.short_transaction(self._using, **_bounds()):
            found = control.read(self._using)
        yield self._gauge("paused", "Whether deletions are paused.", None, found.pause is not None)
        if found.drained_at is not None:
            yield self._gauge(
                "last_drain_timestamp_seconds",
                "When a drain started last, whichever process ran it; to the minute.",
                None,
                found.drained_at.timestamp(),
            )

    def _coverage_now(self) -> Iterator[Metric]:
        with self._lock:
            if time.monotonic() >= self._coverage_until:
                with sql.short_transaction(self._using, **_bounds()):
                    inspection = inspect(self._using)
                self._coverage = coverage_of(inspection) if inspection is not None else None
                self._coverage_until = time.monotonic() + _COVERAGE_SECONDS
            found = self._coverage
        if found is not None:
            tables = {
                "missing": len(found.missing),
                "outdated": len(found.outdated),
                "disabled": len({table for table, _ in found.disabled}),
            }
            yield self._gauge("tables_not_recorded", "Tables whose trigger is not as it should be.", "trigger", tables)

    def _gauge(self, name: str, text: str, label: str | None, values: Any) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"pgcleanup_{name}", text, labels=["database", *([label] if label else [])])
        if label is None:
            family.add_metric([self._using], float(values))
            return family
        for value, number in values.items():
            family.add_metric([self._using, value], float(number))
        return family


def serve(metrics: Metrics, host: str, port: int) -> int:
    """Answer scrapes on /metrics, in a thread that ends with the process. Returns the port.

    Raises:
        OSError: the port is taken, or not ours.
    """
    server, _ = start_http_server(port, host, metrics.registry)
    return int(server.server_port)


def _bounds() -> dict[str, str]:
    limit = sql.milliseconds(STATEMENT_TIMEOUT)
    return {"statement_timeout": limit, "lock_timeout": limit}
