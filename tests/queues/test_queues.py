"""A hundred thousand files, several workers of a real queue at once, and no work is done twice."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.support import Site, own_site
from tests.support import MANAGE, until

FILES = int(os.environ.get("PGCLEANUP_TEST_FILES", "100000"))
WORKERS = 4
TASKS = 12
# Fewer than a worker's share: each has to come back for more.
LIMIT = FILES // 8

CELERY = [sys.executable, "-m", "celery", "-A", "tests.queues.celery_app"]


@pytest.fixture
def site(tmp_path: Path, media_root: Path) -> Iterator[Site]:
    """Return a site with a server of its own, and the tables of its queue."""
    pytest.importorskip("django_tasks_db", reason="run: make test-queues")
    with own_site(tmp_path, DJANGO_SETTINGS_MODULE="tests.queues.settings", PGAPPNAME="a worker") as (_, made):
        yield made


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Run a Redis that nobody else has: on a socket, without a port. Yields its URL."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    # A socket's path has at most some hundred characters.
    place = Path(tempfile.mkdtemp(prefix="pgcleanup-redis-"))
    socket = place / "socket"
    command = [program, "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(place)]
    with (folder / "redis.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log)
    try:
        until(socket.exists, process)
        yield f"redis+socket://{socket}"
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(place)


def enqueue(site: Site, queue: str, **more: str) -> list[Any]:
    """Enqueue the drains from a process of its own, and return what it prints."""
    command = [sys.executable, "-m", "tests.queues.enqueue", queue, str(TASKS), str(LIMIT)]
    output, errors = (process := site.start(command, **more)).communicate(timeout=900)
    assert process.returncode == 0, errors
    found: list[Any] = json.loads(output)
    return found


def assert_done_once(site: Site, returned: list[dict[str, Any]], queue: str, seconds: float) -> None:
    """Everything is gone, each file was told of once, the counts add up, and several workers took part."""
    counts = [result["counts"].get("deleted", 0) for result in returned]
    by_process = dict(site.sql("SELECT drained_by, count(*) FROM settled_file_deletion GROUP BY 1"))
    assert site.pending() == []
    assert site.stored() == set()
    assert sum(counts) == FILES
    assert all(set(result["counts"]) <= {"deleted"} for result in returned), returned
    assert site.sql("SELECT outcome, count(*) FROM settled_file_deletion GROUP BY 1") == [("deleted", FILES)]
    heard = site.signals()
    assert len(heard) == 2 * FILES
    assert len({(kind, name) for _, kind, name in heard}) == 2 * FILES
    assert len(by_process) >= 2, by_process
    shares = ", ".join(f"{count:,}" for count in sorted(by_process.values(), reverse=True))  # type: ignore[type-var]
    print(
        f"\n{queue}: {FILES:,} files in {seconds:.1f} s by {len(by_process)} processes ({shares} files) "
        f"in {len(returned)} tasks; {len(heard):,} signals, none twice"
    )


def test_celery_workers_on_redis_share_the_work_and_do_none_of_it_twice(site, tmp_path: Path) -> None:
    pytest.importorskip("celery", reason="run: make test-queues")
    site.let_go(FILES)
    with redis(tmp_path) as url, (tmp_path / "worker.log").open("w") as log:
        environment = {**site.environment, "PGCLEANUP_TEST_REDIS": url}
        command = [*CELERY, "worker", "--concurrency", str(WORKERS), "--loglevel", "WARNING"]
        worker = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            began = time.monotonic()
            returned = enqueue(site, "celery", PGCLEANUP_TEST_REDIS=url)
            took = time.monotonic() - began
        finally:
            worker.terminate()
            worker.wait(timeout=60)

    assert_done_once(site, returned, "Celery on Redis", took)


def test_workers_of_django_tasks_db_share_the_work_and_do_none_of_it_twice(site) -> None:
    site.let_go(FILES)
    enqueue(site, "tasks")
    began = time.monotonic()
    workers = [site.start([sys.executable, str(MANAGE), "db_worker", "--batch"]) for _ in range(WORKERS)]
    for worker in workers:
        output, errors = worker.communicate(timeout=900)
        assert worker.returncode == 0, output + errors
    took = time.monotonic() - began

    rows = site.sql("SELECT status, return_value FROM django_tasks_database_dbtaskresult")
    assert [status for status, _ in rows] == ["SUCCESSFUL"] * TASKS
    assert_done_once(site, [value for _, value in rows], "django-tasks-db", took)  # type: ignore[misc]
