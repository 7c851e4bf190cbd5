"""Processes that measure: each with its own apps, its own database and its own memory.

What they do is in `tasks`. They wait for being told, so that two of them can take turns, and whatever else the machine
is doing meets both.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings
from django.db import connection

from benchmarks import tasks
from tests.project import database_url


class Worker:
    """A process that measures one thing after the other."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.workers"],
            env=os.environ | {"PYTHONHASHSEED": "0"} | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, task: str, *arguments: Any) -> None:
        """Tell it to do one of `tasks`."""
        assert self._process.stdin is not None
        print(json.dumps([task, arguments]), file=self._process.stdin, flush=True)

    def result(self) -> Any:
        """Wait for what it returns."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a process that measures has failed; its traceback is above")
        return json.loads(line)

    def do(self, task: str, *arguments: Any) -> Any:
        """Have it do one of `tasks`, and return what that returns."""
        self.start(task, *arguments)
        return self.result()

    def stop(self) -> None:
        """End it, and wait until it has."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def workers(number: int = 1) -> Iterator[list[Worker]]:
    """Run some on the benchmark's own database."""
    made = [Worker({}) for _ in range(number)]
    try:
        yield made
    finally:
        for worker in made:
            worker.stop()


@contextmanager
def worker_with(apps: str, media: str | None = None) -> Iterator[Worker]:
    """Run one with these of `settings.APPS`, on a migrated database and a folder in `media`, or in memory."""
    name = f"bench_{apps.replace('-', '_')}"
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        admin.execute(f"CREATE DATABASE {name}")
    folder = Path(media or settings.MEDIA_ROOT, name)
    folder.mkdir(exist_ok=True)
    url = database_url.render(connection.settings_dict | {"NAME": name})
    worker = Worker({"PGCLEANUP_BENCH_APPS": apps, "DATABASE_URL": url, "PGCLEANUP_BENCH_MEDIA": str(folder)})
    try:
        worker.do("migrate")
        yield worker
    finally:
        worker.stop()
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def main() -> None:
    """Do what the other process asks for, until it closes the pipe."""
    import django

    django.setup()
    # Whoever prints must not be taken for an answer.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        task, arguments = json.loads(line)
        print(json.dumps(getattr(tasks, task)(*arguments)), file=answers, flush=True)


if __name__ == "__main__":
    main()
