"""Start the PostgreSQL server before Django's settings are read, and name it in pytest's header.

pyproject.toml loads this with `-p`: pytest-django reads the settings before pytest imports any conftest.py.

Each process that runs tests has a server of its own; the first of xdist's workers takes the one of the controlling
process. On a common one they would disturb each other: before PostgreSQL 18 a session that is just being opened is in
no database yet, so a drain lets names wait for it, whichever database it will be in. Only where DATABASE_URL was set
do all use that one server, with databases of their own.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

import pytest

from tests.postgres import Server, postgres

SERVER = pytest.StashKey[Server]()
# Says to the workers, which inherit it, that DATABASE_URL comes from here.
STARTED = "PGCLEANUP_TEST_SERVER_STARTED"


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    options = early_config.known_args_namespace
    if options.help or options.version or options.collectonly:
        return
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        if worker == "gw0" or STARTED not in os.environ:
            return
        os.environ.pop("DATABASE_URL", None)
    elif not os.environ.get("DATABASE_URL"):
        os.environ[STARTED] = "yes"

    stack = ExitStack()
    early_config.add_cleanup(stack.close)
    server = stack.enter_context(postgres())
    early_config.stash[SERVER] = server
    os.environ["DATABASE_URL"] = server.url


def pytest_report_header(config: pytest.Config) -> list[str]:
    server = config.stash.get(SERVER, None)
    if server is None:
        return []
    return [f"postgres: {server.description}", *([f"WARNING: {server.warning}"] if server.warning else [])]
