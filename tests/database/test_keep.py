"""`keep()` through a real pooler; `refresh()`; and what decorators mean for classes that share a table."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, connection, models
from django.test.utils import CaptureQueriesContext, isolate_apps
from psycopg.conninfo import conninfo_to_dict
from pytest_django import Settings

import pgcleanup
from pgcleanup import cleanup
from pgcleanup.columns import find_file_columns
from tests import launcher
from tests.project.models import Document
from tests.support import Scratch, alias_for, ledger, recorded_names, run_sql


class TestPooled:
    """Through pgbouncer, which gives the next transaction of anybody the same connection to the server."""

    @pytest.fixture
    def pooled(self, scratch: Scratch) -> Iterator[str]:
        """Run a pgbouncer with a single server connection in front of the test's database. Returns its URL."""
        program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            pytest.skip("there is no pgbouncer")
        server, port = conninfo_to_dict(scratch.url), launcher._free_port()
        folder = launcher._make_directory()
        (folder / "users.txt").write_text(f'"{server["user"]}" "{server.get("password", "")}"')
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n{server['dbname']} = host={server['host']} port={server['port']}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {folder}/users.txt\npool_mode = transaction\ndefault_pool_size = 1\n"
        )
        launcher._hand_over(folder)  # it refuses to run as root
        url = f"postgresql://{server['user']}@127.0.0.1:{port}/{server['dbname']}"
        command = [program, "-q", folder / "pgbouncer.ini"]
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, **quiet, **launcher._identity()) as process:
            try:
                self.wait_for(url, process)
                with alias_for("pooled", url):
                    yield url
            finally:
                process.terminate()
        shutil.rmtree(folder)

    @staticmethod
    def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
        while process.poll() is None:
            with suppress(psycopg.OperationalError), psycopg.connect(url, connect_timeout=5):
                return
            time.sleep(0.02)
        pytest.fail(f"pgbouncer ended with {process.returncode}")

    def test_keep_does_not_reach_the_next_transaction_of_somebody_else(self, pooled: str) -> None:
        with pgcleanup.keep(using="pooled"), pgcleanup.context(using="pooled", job="move"):
            Document.objects.using("pooled").create(file="kept.txt").delete()
            backend = run_sql("SELECT pg_backend_pid()", using="pooled")

        with psycopg.connect(pooled, autocommit=True, prepare_threshold=None) as somebody:
            pid = somebody.execute("SELECT pg_backend_pid()").fetchall()
            somebody.execute("INSERT INTO project_document (title, file) VALUES ('', 'other.txt')")
            somebody.execute("DELETE FROM project_document")

        assert pid == backend
        assert [(e.name, e.keep, e.context) for e in ledger("pooled")] == [
            ("kept.txt", True, '{"job": "move"}'),
            ("other.txt", False, None),
        ]

    def test_keep_that_ended_in_an_error_does_not_either(self, pooled: str) -> None:
        with suppress(DatabaseError), pgcleanup.keep(using="pooled"):
            run_sql("SELECT 1 / 0", using="pooled")

        with psycopg.connect(pooled, autocommit=True, prepare_threshold=None) as somebody:
            somebody.execute("INSERT INTO project_document (title, file) VALUES ('', 'other.txt')")
            somebody.execute("DELETE FROM project_document")

        assert [(e.name, e.keep) for e in ledger("pooled")] == [("other.txt", False)]


class TestRefresh:
    """`refresh()`, which code that leaves django-cleanup still calls."""

    @pytest.mark.django_db
    def test_changes_neither_the_instance_nor_what_is_recorded_and_asks_nothing(self) -> None:
        document = Document.objects.create(file="a.txt")
        document.file.name = "b.txt"
        before = dict(vars(document))

        with CaptureQueriesContext(connection) as queries:
            cleanup.refresh(document)

        assert (vars(document), len(queries)) == (before, 0)
        document.save()
        assert recorded_names() == ["a.txt"]

    def test_takes_anything(self) -> None:
        assert cleanup.refresh(object()) is None  # type: ignore[func-returns-value]


def chosen() -> dict[str, bool]:
    """Return which columns of the isolated models are recorded."""
    return {column.source: column.recorded for column in find_file_columns("default")}


def file_model(name: str, *bases: type, decorate: Any = None, table: str = "", **meta: Any) -> Any:
    """Make a model with a file field, and decorate it."""
    options = type("Meta", (), {"app_label": "project", **({"db_table": table} if table else {}), **meta})
    fields = {} if any(hasattr(base, "_meta") for base in bases) else {"file": models.FileField()}
    model = type(name, bases or (models.Model,), {"__module__": __name__, "Meta": options, **fields})
    return decorate(model) if decorate else model


@pytest.fixture
def isolated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the models of the test be all that there are."""
    from pgcleanup import columns

    with isolate_apps("tests.project") as registry:
        monkeypatch.setattr(columns, "apps", registry)
        yield


@pytest.mark.usefixtures("isolated")
class TestDecorators:
    """Classes that share a table, or inherit from each other: the class that has the column decides."""

    def test_ignored_model_is_not_recorded_through_its_proxy_either(self) -> None:
        base = file_model("Base", decorate=cleanup.ignore)
        file_model("Proxy", base, proxy=True)

        assert chosen() == {"project.base.file": False}

    def test_ignored_proxy_changes_nothing_for_its_model(self) -> None:
        file_model("Proxy", file_model("Base"), decorate=cleanup.ignore, proxy=True)

        assert chosen() == {"project.base.file": True}

    def test_selected_proxy_selects_nothing(self, settings: Settings) -> None:
        settings.PGCLEANUP_COLUMNS = "selected"
        file_model("Proxy", file_model("Base"), decorate=cleanup.select, proxy=True)

        assert chosen() == {"project.base.file": False}

    def test_label_of_a_proxy_in_the_settings_means_its_model(self, settings: Settings) -> None:
        settings.PGCLEANUP_EXCLUDE = ["project.Proxy"]
        file_model("Proxy", file_model("Base"), proxy=True)

        assert chosen() == {"project.base.file": False}

    def test_ignored_abstract_base_does_not_ignore_its_children(self) -> None:
        file_model("Child", file_model("Base", decorate=cleanup.ignore, abstract=True))

        assert chosen() == {"project.child.file": True}

    def test_ignored_child_leaves_its_parents_column_recorded(self) -> None:
        file_model("Child", file_model("Parent"), decorate=cleanup.ignore)

        assert chosen() == {"project.parent.file": True}

    def test_ignored_parent_leaves_its_childs_own_column_recorded(self) -> None:
        parent = file_model("Parent", decorate=cleanup.ignore)
        child = file_model("Child", parent)
        models.FileField().contribute_to_class(child, "more")

        assert chosen() == {"project.parent.file": False, "project.child.more": True}

    @pytest.mark.parametrize("managed", [True, False])
    def test_of_two_models_on_a_table_the_managed_one_decides(self, managed: bool) -> None:
        file_model("Ours", decorate=cleanup.ignore, table="shared", managed=managed)
        file_model("Theirs", table="shared", managed=not managed)

        assert chosen() == ({"project.ours.file": False} if managed else {"project.theirs.file": True})

    def test_of_two_managed_models_on_a_table_the_first_decides(self) -> None:
        file_model("First", decorate=cleanup.ignore, table="shared")
        file_model("Second", table="shared")

        assert chosen() == {"project.first.file": False}
