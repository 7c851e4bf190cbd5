"""`make bench` and `make bench-full`: start a server, measure, print a table."""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from tests.launcher import OPTIONS, Server, own_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.figures import Figure, Measure, Size

PARTS = (
    "comparing",
    "recording",
    "draining",
    "disk",
    "clouds",
    "unindexed",
    "backlogs",
    "curves",
    "passing",
    "syncing",
    "on_commit",
    "admin",
)
MEMORY = "/dev/shm"  # noqa: S108 - only folders that nobody else can guess are made there
# As a server is run whose data matter, and not as one for tests. Its memory is that of a small machine.
DURABLE = {
    "fsync": "on",
    "full_page_writes": "on",
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
}


def main() -> None:
    """Measure the parts that are named on the command line, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--full", action="store_true", help="with as much as the targets name, for half an hour")
    parser.add_argument("--write", metavar="FILE", help="put the table into this document, too")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    with _server() as server, tempfile.TemporaryDirectory(prefix="pgcleanup-bench-", dir=_memory()) as media:
        os.environ |= {
            "DATABASE_URL": server.url,
            "PGCLEANUP_BENCH_MEDIA": media,
            "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
        }
        import django

        django.setup()
        from benchmarks import document, tasks
        from benchmarks.figures import FULL, SHORT

        tasks.migrate()
        machine = f"{server.description}, Python {platform.python_version()}, {os.cpu_count()} cores"
        print(machine)
        figures = []
        for figure in _measured(options.parts or PARTS, FULL if options.full else SHORT):
            figures.append(figure)
            if options.write:
                # After each: a run of an hour that fails at its end has measured all the same.
                document.write(options.write, machine, figures)


def _measured(parts: list[str], size: Size) -> Iterator[Figure]:
    for part in parts:
        began = time.monotonic()
        measure: Measure = import_module(f"benchmarks.{part}").measure
        for figure in measure(size):
            print(f"{figure.what:<86} {figure.target:>14} {figure.result:>26}  {figure.verdict}", flush=True)
            yield figure
        print(f"  [{part}: {time.monotonic() - began:.0f} s]", flush=True)


def _memory() -> str | None:
    # A disk's moods would be most of what is measured. What it makes of the figures is a part of its own.
    return MEMORY if os.access(MEMORY, os.W_OK) else None


@contextmanager
def _server() -> Iterator[Server]:
    if url := os.environ.get("DATABASE_URL"):
        yield Server(url, "{} at DATABASE_URL")
        return
    OPTIONS.update(DURABLE)
    with own_postgres() as server:
        yield server


if __name__ == "__main__":
    main()
