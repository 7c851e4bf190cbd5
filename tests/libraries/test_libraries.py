"""Libraries that copy rows with their file names, and libraries that make files of files, in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings

from tests.project import database_url

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Run the scenarios on a database of their own, and return what each of them saw."""
    server = database_url.parse(os.environ["DATABASE_URL"])
    name = f"{server['NAME']}_libraries_{os.getpid()}"
    connection = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
    connection.execute(f'CREATE DATABASE "{name}"')
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.libraries.settings",
        "DATABASE_URL": database_url.render({**server, "NAME": name}),
        "PGCLEANUP_TEST_MEDIA": str(tmp_path_factory.mktemp("media")),
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.libraries.scenarios"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        yield json.loads(done.stdout.split("RESULTS ")[1])
    finally:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        connection.close()


def outcome(result: dict[str, Any]) -> str:
    return result["history"][0][1]


def test_copies_of_simple_history_are_text_and_do_not_count_by_themselves(results):
    result = results["simple_history"]

    assert outcome(result) == "deleted"
    assert result["after"] == []
    assert len(result["copies"]) == 2


def test_copies_of_simple_history_keep_the_file_where_they_are_named_as_extra_references(results):
    result = results["simple_history_extra"]

    assert outcome(result) == "kept"
    assert result["history"][0][2] == "libraries.historicalletter.file"
    assert len(result["after"]) == 1


def test_event_rows_of_pghistory_keep_every_file(results):
    result = results["pghistory"]

    assert outcome(result) == "kept"
    assert result["history"][0][2] == "libraries.contractevent.file"
    assert len(result["after"]) == 1
    assert len(result["copies"]) >= 1


def test_event_rows_of_pghistory_do_not_count_where_they_are_ignored(results):
    result = results["pghistory_ignored"]

    assert outcome(result) == "deleted"
    assert result["after"] == []
    assert len(result["copies"]) >= 1


def test_context_of_pghistory_is_taken_over(results):
    contexts = results["pghistory_context"]["contexts"]

    assert contexts["theirs"] == {"user": 7, "since": "2026-01-01T00:00:00"}
    assert contexts["none"] is contexts["none again"] is None


def test_context_of_ours_adds_to_that_of_pghistory(results):
    assert results["pghistory_context"]["contexts"]["both"] == {
        "user": 7,
        "since": "2026-01-01 00:00:00",
        "job": "resize",
    }


def test_middleware_and_pghistory_get_on_with_each_other_and_the_middleware_counts(results):
    assert results["pghistory_context"]["contexts"]["middleware and theirs"] == {"path": "/there/"}


def test_thumbnails_of_easy_thumbnails_go_with_their_image(results):
    result = results["easy_thumbnails"]

    assert len(result["before"]) == 3
    assert result["after"] == []
    assert outcome(result) == "deleted"
    assert result["told"] == ["ThumbnailerImageFieldFile True"]


@pytest.mark.parametrize(
    ("scenario", "reason"),
    [("sorl_thumbnail", ""), ("sorl_thumbnail_as_before", "deleted by a receiver")],
    ids=["thumbnails alone", "the file, too"],
)
def test_thumbnails_go_with_their_image_by_the_receiver_of_sorl(results, scenario, reason):
    """Also those of easy-thumbnails, whose class is asked to delete although the receiver has deleted the file."""
    result = results[scenario]

    assert len(result["before"]) == 4
    assert result["after"] == []
    assert result["sources"] == 0
    assert [row[1:] for row in result["history"]] == [["deleted", reason]] * 2


def test_nothing_went_wrong_with_any_of_them(results):
    assert {name: (result["exit_code"], result["problems"]) for name, result in results.items()} == dict.fromkeys(
        results, (0, [])
    )


def test_libraries_are_not_installed_in_the_test_project_itself():
    assert "simple_history" not in settings.INSTALLED_APPS
