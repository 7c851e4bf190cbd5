"""A drain as a task: of Django's own framework or its backport, and as a plain function."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import pytest
from django.db import transaction

from pgcleanup import tasks
from pgcleanup.exceptions import DrainRefused
from tests.drain.support import agree, let_go, orphaned, pending, put
from tests.support import CHECKOUT

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture(autouse=True)
def at_once(settings, media_root: Path) -> None:
    """Let what is let go be due at once."""
    settings.PGCLEANUP_GRACE_PERIOD = settings.PGCLEANUP_UPLOAD_WINDOW = timedelta(0)
    agree()


def test_enqueued_task_drains_and_its_result_tells_what_it_did() -> None:
    path = orphaned("a.txt", b"12345")

    result = tasks.drain_deletions.enqueue()

    assert result.status == "SUCCESSFUL", result.errors
    assert not path.exists()
    assert result.return_value["counts"] == {"deleted": 1}
    assert result.return_value["bytes_deleted"] == 5
    assert result.return_value["exit_code"] == 0


def test_worker_finds_the_task_by_its_name() -> None:
    from django.utils.module_loading import import_string

    assert import_string(tasks.drain_deletions.module_path) is tasks.drain_deletions


def test_task_takes_its_arguments_by_name() -> None:
    put("a")
    put("b")
    let_go("a", "b")

    result = tasks.drain_deletions.enqueue(using="default", limit=1, seconds=60, wait=0.1)

    assert result.return_value["counts"] == {"deleted": 1}
    assert pending() == ["b"]


def test_task_comes_from_django_where_it_has_tasks() -> None:
    framework = "django.tasks" if find_spec("django.tasks") else "django_tasks"

    assert type(tasks.drain_deletions).__module__.split(".base")[0] == framework


def test_function_returns_what_any_queue_can_store() -> None:
    orphaned("a.txt")

    result = tasks.drain_files()

    assert json.loads(json.dumps(result)) == result
    assert (result["counts"], result["waiting"], result["stopped"], result["problems"]) == (
        {"deleted": 1},
        {},
        False,
        [],
    )


def test_function_that_is_out_of_time_leaves_the_rest_to_the_next() -> None:
    orphaned("a.txt")

    result = tasks.drain_files(seconds=0)

    assert result["stopped"]
    assert pending() == ["a.txt"]
    assert tasks.drain_files(seconds=60)["counts"] == {"deleted": 1}


def test_function_tells_of_problems(settings) -> None:
    from tests.support import run_sql

    [(trigger, *_), *_] = run_sql(
        "SELECT tgname FROM pg_trigger WHERE tgrelid = 'project_document'::regclass AND NOT tgisinternal"
    )
    run_sql(f"ALTER TABLE project_document DISABLE TRIGGER {trigger}")
    try:
        result = tasks.drain_files()
    finally:
        run_sql(f"ALTER TABLE project_document ENABLE TRIGGER {trigger}")

    assert result["exit_code"] == 1
    assert "project_document" in result["problems"][0]


def test_function_inside_a_transaction_refuses() -> None:
    with transaction.atomic(), pytest.raises(DrainRefused, match="inside a transaction"):
        tasks.drain_files()


def test_task_that_is_refused_has_failed() -> None:
    orphaned("a.txt")
    with transaction.atomic():
        result = tasks.drain_deletions.enqueue()

    assert result.status == "FAILED"
    assert result.errors[0].exception_class is DrainRefused
    assert pending() == ["a.txt"]


WITHOUT = """
import sys
sys.modules["django.tasks"] = sys.modules["django_tasks"] = None
import django
django.setup()
from pgcleanup import tasks
print(callable(tasks.drain_files))
try:
    tasks.drain_deletions
except ImportError as error:
    print(error)
"""


def test_without_a_framework_the_function_is_there_and_the_task_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], cwd=CHECKOUT, capture_output=True, text=True)

    assert done.stdout.startswith("True\n"), done.stderr
    assert 'pip install "django-pgcleanup[tasks]"' in done.stdout
    assert "pgcleanup.tasks.drain_files" in done.stdout
