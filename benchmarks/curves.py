"""How the ledger's length changes what a drain, a user's DELETE and `status` take: a curve for each, and a plot."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from statistics import median

from django.core.management import call_command
from django.db import connection

from benchmarks.backlogs import FILES, speed
from benchmarks.figures import Figure, Size
from benchmarks.files import empty_ledger, make_files, record
from benchmarks.plot import Curve, plot
from benchmarks.shop.models import Document
from pgcleanup.drain import drain
from pgcleanup.management.output.base import Ended

PLOT = Path(__file__).parents[1] / "docs" / "images" / "scaling.svg"
SOURCE = "shop.document.file"
DELETIONS = 500


def measure(size: Size) -> Iterator[Figure]:
    """Measure at each power of ten up to the size, and draw it where that is the full one."""
    lengths = [10**power for power in range(4, 8) if 10**power <= size.backlog]
    drained, deleted, looked = [], [], []
    for length in lengths:
        drained.append(speed(SOURCE, size.repeats, behind=length))
        bytes_ = _size() / length
        deleted.append(_delete() * 1e6)
        looked.append(_status() * 1e3)
    yield Figure("bytes of an entry in the ledger, with its indexes", bytes_, "{:,.0f}")
    empty_ledger()
    yield from _log_of_names()
    for what, values, text in (
        ("drain, files a second", drained, "{:,.0f}"),
        ("DELETE of one row by a client", deleted, "{:,.0f} µs"),
        ("pgcleanup status", looked, "{:,.0f} ms"),
    ):
        for length, value in zip(lengths, values, strict=True):
            yield Figure(f"{what}, {length:,} entries in the ledger", value, text)
    if lengths[-1] == 10**7:
        PLOT.write_text(
            plot(
                "Entries in the ledger",
                lengths,
                [
                    Curve("drain, files a second", drained),
                    Curve("DELETE of one row, µs", deleted),
                    Curve("status, ms", looked),
                ],
            )
        )


def _log_of_names() -> Iterator[Figure]:
    """Yield how much the server writes to its log of changes, which replicas and backups have to keep up with."""
    make_files("due", FILES)
    before = _written()
    record("due", FILES)
    recorded = _written()
    drain()
    yield Figure("bytes of WAL for a name that is recorded", (recorded - before) / FILES, "{:,.0f}")
    yield Figure("bytes of WAL for a name that is drained", (_written() - recorded) / FILES, "{:,.0f}")
    yield Figure(
        "bytes of an entry in the history, with its indexes", _size("settled_file_deletion") / FILES, "{:,.0f}"
    )
    empty_ledger()


def _size(table: str = "pending_file_deletion") -> int:
    return _asked("SELECT pg_total_relation_size(%s)", [table])


def _written() -> int:
    return _asked("SELECT (pg_current_wal_lsn() - '0/0')::bigint", [])


def _asked(query: str, parameters: list[str]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        return int(cursor.fetchone()[0])


def _delete() -> float:
    rows = Document.objects.bulk_create(Document(title="", file=f"curves/{number}") for number in range(DELETIONS))
    times = []
    for row in rows:
        began = time.perf_counter()
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM shop_document WHERE id = %s", [row.pk])
        times.append(time.perf_counter() - began)
    return median(times)


def _status() -> float:
    times = []
    for _ in range(3):
        began = time.perf_counter()
        with suppress(Ended):  # it tells that the ledger is behind
            call_command("pgcleanup", "status", verbosity=0)
        times.append(time.perf_counter() - began)
    return median(times)
