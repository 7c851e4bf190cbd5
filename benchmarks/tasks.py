"""What a worker can be asked to do. Each returns seconds, unless it says otherwise."""

from __future__ import annotations

import gc
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any


def timed(call: Callable[[], Any]) -> float:
    """Return how long a call takes.

    Without the garbage of what was before, and as if nothing had been: how often the collector goes through all objects
    depends on how many a process has had, which would be told here as a difference between apps.
    """
    gc.collect()
    gc.freeze()
    gc.collect()
    began = time.perf_counter()
    call()
    seconds = time.perf_counter() - began
    gc.unfreeze()
    return seconds


def migrate() -> None:
    """Make the tables."""
    from django.core.management import call_command

    call_command("migrate", run_syncdb=True, verbosity=0)


def fill(rows: int, with_files: bool) -> None:
    """Make rows of one file each."""
    from django.db import connection

    from benchmarks.files import make_files
    from benchmarks.shop.models import Document

    if with_files:
        make_files("documents", rows)
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE shop_document")
        cursor.execute(
            "INSERT INTO shop_document (title, file)"
            " SELECT 'document ' || i, 'documents/' || i / 1000 || '/' || i || '.dat'"
            " FROM generate_series(0, %s - 1) i",
            [rows],
        )
        cursor.execute("VACUUM ANALYZE shop_document")
        cursor.execute("SELECT to_regclass('pending_file_deletion') IS NOT NULL")
        if cursor.fetchone()[0]:
            cursor.execute("TRUNCATE pending_file_deletion, file_deletion_stamp")
    assert Document.objects.count() == rows


def load() -> float:
    """Load all of them."""
    from benchmarks.shop.models import Document

    return timed(lambda: list(Document.objects.all()))


def save(times: int) -> float:
    """Save one of them, so many times, without a change of its file. In one transaction: a disk's time is its own."""
    from django.db import transaction

    from benchmarks.shop.models import Document

    document = Document.objects.earliest("pk")

    @transaction.atomic
    def save_all() -> None:
        for number in range(times):
            document.title = str(number)
            document.save()

    return timed(save_all)


def delete() -> float:
    """Delete all of them."""
    from benchmarks.shop.models import Document

    return timed(Document.objects.all().delete)


def remove(rows: int) -> float:
    """Make the files of so many rows, and remove them with nothing but os.remove."""
    from benchmarks.files import make_files, remove_files

    return remove_files(make_files("documents", rows))


def receivers() -> int:
    """Return how many of the model's signals anybody listens to."""
    from django.db.models import signals

    from benchmarks.shop.models import Document

    kinds = ("pre_init", "post_init", "pre_save", "post_save", "pre_delete", "post_delete")
    return sum(getattr(signals, kind).has_listeners(Document) for kind in kinds)


def delete_statements() -> int:
    """Return how many statements it takes to delete 100 rows that each have a child."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from benchmarks.shop.models import Item, Part

    items = Item.objects.bulk_create(Item(title=str(number), file=f"f/{number}", thumb="") for number in range(100))
    Part.objects.bulk_create(Part(item=item) for item in items)
    with CaptureQueriesContext(connection) as queries:
        Item.objects.all().delete()
    return sum(query["sql"].startswith(("DELETE", "SELECT")) for query in queries)


def drain(limit: int | None = None) -> tuple[float, float, dict[str, int]]:
    """Drain. Returns the seconds, the peak of this process's memory in MB, and the counts."""
    from pgcleanup.drain import drain as run

    began = time.perf_counter()
    report = run(limit=limit)
    seconds = time.perf_counter() - began
    return seconds, _peak(), dict(report.counts)


def drain_in_threads(number: int) -> tuple[float, dict[str, int]]:
    """Drain in so many threads, each with its own connection. Returns the seconds, and the counts of all together."""
    from django.db import connections

    from pgcleanup.drain import drain as run

    def drain_and_close() -> Counter[str]:
        try:
            # Two that stamp in the same moment are in each other's fence.
            return Counter(run(wait=timedelta(minutes=1)).counts)
        finally:
            connections.close_all()

    began = time.perf_counter()
    with ThreadPoolExecutor(number) as pool:
        drains = [pool.submit(drain_and_close) for _ in range(number)]
    seconds = time.perf_counter() - began
    return seconds, dict(sum((one.result() for one in drains), Counter()))


def drain_by_step() -> dict[str, float]:
    """Drain. Returns the seconds that each step took, by its name; what follows the last one is not among them."""
    from pgcleanup.drain import Run

    seconds: dict[str, float] = defaultdict(float)
    began = time.perf_counter()
    for step in Run("default").steps():
        ended = time.perf_counter()
        seconds[step] += ended - began
        began = ended
    return dict(seconds)


def _peak() -> float:
    # Not of getrusage(): that one begins with what the process had that started this one.
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) / 1024  # type: ignore[index]
