"""django-tenants, tried for real: a ledger in each schema, a folder for each tenant, and their commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.project import database_url
from tests.support import CHECKOUT


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Run the scenarios on a database of their own, and return what each of them saw."""
    server = database_url.parse(os.environ["DATABASE_URL"])
    name = f"{server['NAME']}_tenants_{os.getpid()}"
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.tenants.settings",
        "DATABASE_URL": database_url.render({**server, "NAME": name}),
        "PGCLEANUP_TEST_MEDIA": str(tmp_path_factory.mktemp("media")),
    }
    connection = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
    connection.execute(f'CREATE DATABASE "{name}"')
    try:
        command = [sys.executable, "-m", "tests.tenants.scenarios"]
        done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        yield json.loads(done.stdout.split("RESULTS ")[1])
    finally:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        connection.close()


def test_every_schema_has_a_ledger_of_its_own(seen: dict[str, Any]) -> None:
    assert seen["ledgers"] == [["acme", 4], ["bolt", 4], ["public", 4]]


def test_every_schema_has_triggers_on_its_own_tables_alone(seen: dict[str, Any]) -> None:
    assert seen["triggers"] == [
        ["acme", "thirdparty_brochure", 3, True],
        ["bolt", "thirdparty_brochure", 3, True],
        ["public", "tenants_client", 3, True],
    ]


def test_every_tenant_has_a_storage_key_of_its_own(seen: dict[str, Any]) -> None:
    assert len({key for [[key]] in seen["keys"]}) == 2


def test_drain_of_a_tenant_deletes_its_file_and_not_the_others_of_the_same_name(seen: dict[str, Any]) -> None:
    assert seen["one"][0] == 0
    assert seen["one"][1].startswith("Deleted 1 file ")
    assert seen["one_files"] == [False, True]


def test_one_command_drains_every_schema_the_public_one_included(seen: dict[str, Any]) -> None:
    assert seen["all"][0] == 0
    assert seen["all_files"] == [False, False, False]


@pytest.mark.parametrize("step", ["migrate", "again"])
def test_migrate_of_all_schemas_has_nothing_to_complain_about(seen: dict[str, Any], step: str) -> None:
    code, said = seen[step]

    assert (code, [line for line in said.splitlines() if "pgcleanup" in line]) == (0, [])


def test_sync_check_of_a_tenant_is_in_step(seen: dict[str, Any]) -> None:
    assert seen["check"] == [0, "In step: 1 file column in 1 table recorded.\n"]
