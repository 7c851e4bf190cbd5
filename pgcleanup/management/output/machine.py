"""Reports as the fields of a JSON object. Durations are in seconds, times in ISO 8601; no field ever goes missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from pgcleanup.conf import settings
from pgcleanup.drain import DrainReport, FileResult
from pgcleanup.management.output.waiting import REASONS
from pgcleanup.models import Outcome
from pgcleanup.status import Status


def drain_fields(report: DrainReport) -> dict[str, Any]:
    """Return what a drain did, the counts complete with their zeros."""
    shown = {field.name: getattr(report, field.name) for field in fields(report)}
    oldest = shown.pop("oldest_pending")
    return shown | {
        "counts": _outcomes({outcome.value: count for outcome, count in report.counts.items()}),
        "waiting": _reasons(report.waiting),
        "waiting_complete": report.waiting_complete,
        "seconds": round(report.seconds, 3),
        "grace_period": report.grace_period,
        "delete_files": settings.delete_files,
        "exit_code": report.exit_code,
        "oldest_pending_seconds": None if oldest is None else oldest.total_seconds(),
        # What has failed for good keeps its stamp, which is of no use to it any more.
        "next_due": report.next_due if report.waiting.get("grace_period") else None,
        "first_names": [{"name": name, "due": due} for name, due in report.first_names],
        "holders": [
            {
                "pid": holder.pid,
                "user": holder.user,
                "application": holder.application,
                "open_at_least_seconds": holder.at_least,
            }
            for holder in report.holders
        ],
        "errors": [asdict(group) for group in report.errors],
    }


def file_fields(result: FileResult) -> dict[str, Any]:
    """Return what would become of one name."""
    return result._asdict()


def status_fields(status: Status) -> dict[str, Any]:
    """Return the state of one database."""
    age, coverage = status.age, status.coverage
    return {
        "database": status.database,
        "health": status.health.value,
        "exit_code": status.health.exit_code,
        "problems": status.problems,
        "oldest_pending_seconds": age.oldest.total_seconds() if age is not None and age.oldest is not None else None,
        "max_age_seconds": settings.max_age if age is not None else None,
        "on_time": not (age.late or age.never_drained or age.failed) if age is not None else None,
        "delete_files": settings.delete_files if age is not None else None,
        "paused": asdict(status.pause) if status.pause is not None else None,
        "waiting": _reasons(status.waiting),
        "waiting_complete": status.waiting_complete,
        "by_source": [
            {"source": source, "waiting": reason, "names": names} for source, reason, names in status.by_source
        ],
        "next_due": status.next_due,
        "holders": [
            dict(zip(("pid", "user", "application", "open_at_least_seconds"), holder, strict=True))
            for holder in status.holders
        ],
        "prepared": [{"id": gid, "owner": owner, "prepared_at": at} for gid, owner, at in status.prepared],
        "errors": [
            dict(zip(("error", "names", "example", "retry_at", "failed"), row, strict=True)) for row in status.errors
        ],
        "coverage": asdict(coverage) | {"complete": coverage.complete} if coverage is not None else None,
        "settled_last_24_hours": _outcomes(status.recent),
        "bytes_deleted_last_24_hours": status.recent_bytes,
        "last_settled": status.last_settled,
    }


def _outcomes(counts: Mapping[str, int]) -> dict[str, int]:
    return {outcome.value: counts.get(outcome.value, 0) for outcome in Outcome}


def _reasons(waiting: Mapping[str, int]) -> dict[str, int]:
    return dict.fromkeys(REASONS, 0) | dict(waiting)
