"""The state of a database in Prometheus' text format, for a textfile collector or a scrape by a script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pgcleanup.management.output.waiting import REASONS
from pgcleanup.models import Outcome
from pgcleanup.status import Status
from pgcleanup.status.look import Health

Sample = tuple[Mapping[str, str], float]


def status_text(status: Status) -> str:
    """Return a status as gauges. What could not be read is left out; `pgcleanup_health` never is."""
    return "".join(
        f"# HELP {name} {help_}\n# TYPE {name} gauge\n{''.join(_line(name, status, *sample) for sample in samples)}"
        for name, help_, samples in _metrics(status)
        if samples
    )


def _metrics(status: Status) -> Iterator[tuple[str, str, Sequence[Sample]]]:
    yield (
        "pgcleanup_health",
        "1 for the state that it is in.",
        [({"state": state.value}, float(status.health is state)) for state in Health],
    )
    yield "pgcleanup_problems", "What is wrong, in sentences of pgcleanup status.", [({}, len(status.problems))]
    age, coverage = status.age, status.coverage
    if age is None:
        return
    seconds = age.oldest.total_seconds() if age.oldest is not None else 0.0
    yield (
        "pgcleanup_oldest_pending_seconds",
        "How long the oldest pending file is past its grace period.",
        [({}, seconds)],
    )
    reasons = [*REASONS, *(reason for reason in status.waiting if reason not in REASONS)]
    yield (
        "pgcleanup_pending_files",
        "Files that are pending, by what they wait for.",
        [({"waiting": reason}, status.waiting.get(reason, 0)) for reason in reasons],
    )
    yield (
        "pgcleanup_pending_files_incomplete",
        "Whether the ledger is longer than what was counted.",
        [({}, float(not status.waiting_complete))],
    )
    yield "pgcleanup_paused", "Whether deletions are paused.", [({}, float(status.pause is not None))]
    yield (
        "pgcleanup_settled_entries_last_24_hours",
        "Entries settled in the last 24 hours, by outcome.",
        [
            ({"outcome": outcome.value}, status.recent.get(outcome.value, 0))
            for outcome in Outcome
            if outcome not in (Outcome.POSTPONED, Outcome.EXHAUSTED)
        ],
    )
    yield (
        "pgcleanup_deleted_bytes_last_24_hours",
        "Bytes of the files deleted in the last 24 hours.",
        [({}, status.recent_bytes)],
    )
    if status.last_settled is not None:
        yield (
            "pgcleanup_last_settled_timestamp_seconds",
            "When an entry was settled last.",
            [({}, status.last_settled.timestamp())],
        )
    if status.drained_at is not None:
        yield (
            "pgcleanup_last_drain_timestamp_seconds",
            "When a drain started last, whichever process ran it; to the minute.",
            [({}, status.drained_at.timestamp())],
        )
    if coverage is not None:
        yield (
            "pgcleanup_tables_not_recorded",
            "Tables whose trigger is not as it should be.",
            [
                ({"trigger": "missing"}, len(coverage.missing)),
                ({"trigger": "outdated"}, len(coverage.outdated)),
                ({"trigger": "disabled"}, len({table for table, _ in coverage.disabled})),
            ],
        )


def _line(name: str, status: Status, labels: Mapping[str, str], value: float) -> str:
    shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in {"database": status.database, **labels}.items())
    return f"{name}{{{shown}}} {value:.15g}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
