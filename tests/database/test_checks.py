"""The system checks, each by its id; and that a project on SQLite is left in peace."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import django
import pytest
from django.core import checks
from django.core.checks import CheckMessage, Tags
from django.core.files.storage import FileSystemStorage, Storage
from django.db import connections
from django.dispatch import Signal
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from pgcleanup.triggers import sync
from tests.drain.support import let_go
from tests.project.models import Archive, Article, Document, DocumentTwin, Ignored, Selected
from tests.support import CHECKOUT, MANAGE, Scratch

on_database = pytest.mark.django_db(transaction=True, databases=["default", "other"])


def found(**options: Any) -> dict[str, CheckMessage]:
    """Run the checks as `manage.py check` does; return ours by id."""
    messages = checks.run_checks(**options)
    return {message.id: message for message in messages if (message.id or "").startswith("pgcleanup.")}


# Settings and apps: no database is needed


def test_test_project_has_no_findings() -> None:
    assert found() == {}


@pytest.mark.parametrize(
    ("setting", "value", "hint"),
    [
        ("PGCLEANUP_GRACE_PERIOD", 3600, "datetime.timedelta"),
        ("PGCLEANUP_MAX_AGE", timedelta(-1), "cannot be negative"),
        ("PGCLEANUP_DELETE_FILES", "no", "must be True or False"),
        ("PGCLEANUP_MAX_ATTEMPTS", 0, "at least 1"),
        ("PGCLEANUP_COLUMNS", "some", '"all" or "selected"'),
        ("PGCLEANUP_EXCLUDE", "shop.Product", "list of strings"),
        ("PGCLEANUP_UNFENCED_ROLES", "reporting", 'for example ["reporting"]'),
        ("PGCLEANUP_EXTRA_REFERENCES", ["shop.Product"], '"app_label.Model.field"'),
    ],
)
def test_bad_value_is_an_error_that_names_setting_and_remedy(
    settings: Settings, setting: str, value: Any, hint: str
) -> None:
    setattr(settings, setting, value)

    message = found()["pgcleanup.E002"]

    assert message.level == checks.ERROR
    assert setting in message.msg
    assert hint in message.msg


def test_bad_value_is_a_sentence_of_its_own_before_what_to_do(settings: Settings) -> None:
    settings.PGCLEANUP_DELETE_FILES = "no"

    assert found()["pgcleanup.E002"].msg.endswith("must be True or False.")


def test_unknown_name_is_an_error_that_asks_for_the_one_that_was_meant(settings: Settings) -> None:
    settings.PGCLEANUP_DELETE_FILE = False

    message = found()["pgcleanup.E004"]

    assert message.level == checks.ERROR
    assert message.msg == "There is no setting PGCLEANUP_DELETE_FILE."
    assert message.hint == "Did you mean PGCLEANUP_DELETE_FILES?"


def test_unknown_name_like_no_other_is_an_error_that_names_the_settings(settings: Settings) -> None:
    settings.PGCLEANUP_X = 1

    hint = found()["pgcleanup.E004"].hint or ""

    assert hint.startswith("Remove it. There are: PGCLEANUP_")
    assert ", PGCLEANUP_DELETE_FILES, " in hint


@pytest.mark.parametrize(
    ("setting", "label"),
    [
        ("PGCLEANUP_EXCLUDE", "project.Nowhere"),
        ("PGCLEANUP_INCLUDE", "nowhere.Document.file"),
        ("PGCLEANUP_EXTRA_REFERENCES", "project.Article.pictur"),
        ("PGCLEANUP_IGNORE_REFERENCES", "project.Document.nothing"),
        ("PGCLEANUP_EXCLUDE", "project.Document.title"),
    ],
)
def test_label_that_names_nothing_is_an_error(settings: Settings, setting: str, label: str) -> None:
    setattr(settings, setting, [label])

    message = found()["pgcleanup.E003"]

    assert message.level == checks.ERROR
    assert setting in message.msg
    assert label in message.msg


def test_setting_that_chooses_nothing_is_a_warning(settings: Settings) -> None:
    settings.PGCLEANUP_INCLUDE = ["project.Document"]

    message = found()["pgcleanup.W019"]

    assert message.level == checks.WARNING
    assert 'PGCLEANUP_COLUMNS = "selected"' in (message.hint or "")


def test_drain_on_commit_with_a_grace_period_is_a_warning(settings: Settings) -> None:
    settings.PGCLEANUP_DRAIN_ON_COMMIT = True

    assert "PGCLEANUP_GRACE_PERIOD = timedelta(0)" in found()["pgcleanup.W004"].hint


def test_drain_on_commit_without_a_grace_period_goes_with_its_grace_period(settings: Settings) -> None:
    settings.PGCLEANUP_DRAIN_ON_COMMIT = True
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(0)

    assert "pgcleanup.W004" not in found()


def test_database_that_commits_nothing_by_itself_is_an_error_that_names_the_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(connections["other"].settings_dict, "AUTOCOMMIT", False)

    message = found()["pgcleanup.E006"]

    assert message.level == checks.ERROR
    assert message.msg == 'DATABASES["other"]["AUTOCOMMIT"] is False, so nothing would be committed.'
    assert (message.hint or "").startswith("Take it out of the settings")


def test_checks_without_a_database_query_none(
    django_assert_num_queries: Callable[..., Any], transactional_db: None
) -> None:
    with django_assert_num_queries(0):
        found()


# Storages


class Ageless(Storage):
    """Knows nothing of a file's age."""

    def exists(self, name: str) -> bool:
        return False


def put_into(monkeypatch: pytest.MonkeyPatch, storage: Storage, model: Any) -> None:
    monkeypatch.setattr(model._meta.get_field("file"), "storage", storage)


def test_storage_that_cannot_tell_a_files_age_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    put_into(monkeypatch, Ageless(), Archive)

    message = found()["pgcleanup.W006"]

    assert "Ageless of project.archive.file cannot tell how old a file is" in message.msg
    assert "get_modified_time()" in message.hint


def test_storage_inside_another_one_is_a_warning(monkeypatch: pytest.MonkeyPatch, media_root: Path) -> None:
    put_into(monkeypatch, FileSystemStorage(location=media_root / "archive"), Archive)

    message = found()["pgcleanup.W007"]

    assert f"FileSystemStorage ({media_root}/archive) lies inside FileSystemStorage ({media_root})" in message.msg


def test_two_models_on_a_table_with_their_files_in_different_storages_are_a_warning(
    monkeypatch: pytest.MonkeyPatch, media_root: Path
) -> None:
    put_into(monkeypatch, FileSystemStorage(location=f"{media_root}-other"), DocumentTwin)

    message = found()["pgcleanup.W016"]

    assert "Another model on the table of project.document.file keeps its files in another storage" in message.msg


def test_storages_side_by_side_are_fine(monkeypatch: pytest.MonkeyPatch, media_root: Path) -> None:
    put_into(monkeypatch, FileSystemStorage(location=f"{media_root}-other"), Archive)
    put_into(monkeypatch, FileSystemStorage(location=media_root), Document)

    assert found() == {}


class Unusable:
    """What a storage is whose setup fails whenever it is asked for anything."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no credentials")


def test_storage_that_cannot_be_set_up_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    put_into(monkeypatch, Unusable(), Archive)  # type: ignore[arg-type]

    assert "The storage of project.archive.file cannot be set up" in found()["pgcleanup.W005"].msg


# Databases


def test_database_checks_run_only_for_databases_that_are_named() -> None:
    # From Django 6.1 on, their tag without a name means all databases.
    tags = [Tags.database] if django.VERSION < (6, 1) else None

    # Without database access in this test, any query would raise.
    assert found(tags=tags) == {}


@on_database
def test_database_in_step_has_nothing_to_report(media_root: Path) -> None:
    sync("default")

    assert found(databases=["default"]) == {}


@on_database
def test_functions_of_a_superuser_are_a_warning_of_a_deployment(media_root: Path) -> None:
    sync("default")

    message = found(databases=["default"], include_deployment_checks=True)["pgcleanup.W015"]

    assert 'belong to the superuser "postgres"' in message.msg


@on_database
def test_missing_ledger_is_a_warning_with_the_command(scratch: Scratch) -> None:
    scratch.sql("DROP TABLE pending_file_deletion")

    message = found(databases=["scratch"])["pgcleanup.W011"]

    assert message.hint == (
        "Run: manage.py migrate pgcleanup 0003 --database scratch, then: manage.py migrate pgcleanup --database scratch"
    )


@on_database
def test_missing_trigger_is_a_warning_with_the_command(scratch: Scratch) -> None:
    sync("scratch")
    scratch.sql("DROP TRIGGER pgcleanup_row ON project_page")

    message = found(databases=["scratch"])["pgcleanup.W012"]

    assert "public.project_page" in message.msg
    assert message.hint == "Run: manage.py pgcleanup sync --database scratch"


@on_database
def test_disabled_trigger_is_a_warning_with_the_statement(scratch: Scratch) -> None:
    sync("scratch")
    scratch.sql("ALTER TABLE project_page DISABLE TRIGGER pgcleanup_row")

    message = found(databases=["scratch"])["pgcleanup.W012"]

    assert message.hint == 'To enable it: ALTER TABLE "public"."project_page" ENABLE TRIGGER "pgcleanup_row";'


@on_database
def test_column_that_the_database_does_not_know_is_a_warning(scratch: Scratch) -> None:
    sync("scratch")
    scratch.sql("DELETE FROM file_deletion_column WHERE source = 'project.page.scan'")

    assert "do not agree on what the file columns are" in found(databases=["scratch"])["pgcleanup.W012"].msg


@on_database
def test_old_entry_is_a_warning(media_root: Path) -> None:
    sync("default")
    let_go("a.pdf")
    with connections["default"].cursor() as cursor:
        cursor.execute("UPDATE pending_file_deletion SET recorded_at = now() - interval '3 days'")

    assert "pgcleanup.W013" in found(databases=["default"])


@on_database
def test_name_that_failed_for_good_is_a_warning(media_root: Path) -> None:
    sync("default")
    let_go("a.pdf")
    with connections["default"].cursor() as cursor:
        cursor.execute("UPDATE pending_file_deletion SET exhausted_at = now(), retry_at = now(), attempts = 10")

    assert "1 entry" in found(databases=["default"])["pgcleanup.W014"].msg


@on_database
def test_database_that_cannot_be_reached_is_a_warning_and_no_traceback(scratch: Scratch) -> None:
    connections["scratch"].close()
    connections["scratch"].settings_dict = {**connections["scratch"].settings_dict, "PORT": "1"}

    messages = found(databases=["scratch"])

    assert set(messages) == {"pgcleanup.W010"}


@on_database
def test_migrate_says_nothing_of_what_it_is_about_to_mend(scratch: Scratch) -> None:
    sync("scratch")
    scratch.sql("DROP TRIGGER pgcleanup_row ON project_page")

    done = scratch.manage("migrate")

    assert "pgcleanup.W" not in done.stderr
    assert "project_page" not in done.stderr


@on_database
def test_migrate_says_once_what_it_does_not_mend(scratch: Scratch) -> None:
    sync("scratch")
    scratch.sql("ALTER TABLE project_page DISABLE TRIGGER pgcleanup_row")

    done = scratch.manage("migrate")

    assert done.stderr.count("Somebody disabled a trigger of public.project_page") == 1


@on_database
def test_no_database_check_is_an_error_since_migrate_would_stop_at_it(scratch: Scratch) -> None:
    scratch.sql("DROP TABLE pending_file_deletion")

    assert not [message for message in found(databases=["scratch"]).values() if message.is_serious()]


@on_database
def test_database_checks_leave_no_query_behind_for_other_databases(media_root: Path) -> None:
    with CaptureQueriesContext(connections["other"]) as queries:
        found(databases=["default"])

    assert len(queries) == 0


# Projects of their own


def run(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(MANAGE), *arguments]
    return subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=60)


def project(folder: Path, *apps: str, models: str = "", **settings: Any) -> dict[str, str]:
    """Write a project with one app, `shop`, and return the environment to run it in. No server is needed."""
    package = folder / "shop"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "models.py").write_text(models)
    lines = [
        f"INSTALLED_APPS = {['django.contrib.contenttypes', 'django.contrib.auth', *apps, 'shop']!r}",
        "DATABASES = {'default': {'ENGINE': 'django.db.backends.postgresql', 'HOST': '127.0.0.1', 'PORT': '1'}}",
        "DEFAULT_AUTO_FIELD = 'django.db.models.BigAutoField'",
        *(f"{name} = {value!r}" for name, value in settings.items()),
    ]
    (folder / "shop_settings.py").write_text("\n".join(lines))
    return {"DJANGO_SETTINGS_MODULE": "shop_settings", "PYTHONPATH": str(folder)}


def test_django_cleanup_installed_as_well_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "p" / "django_cleanup").mkdir(parents=True)
    (tmp_path / "p" / "django_cleanup" / "__init__.py").write_text("")

    done = run(project(tmp_path / "p", "django_cleanup", "pgtrigger", "pgcleanup"), "check")

    assert done.returncode == 1
    assert "(pgcleanup.E001) django_cleanup is installed as well" in done.stderr
    assert 'Remove "django_cleanup" from INSTALLED_APPS' in done.stderr


# What django_cleanup's decorators and signals leave, without its being in INSTALLED_APPS


def mark(monkeypatch: pytest.MonkeyPatch, model: Any, name: str) -> None:
    """Mark a model as django_cleanup does."""
    mangled = f"_{model._meta.model_name}__{model._meta.app_label}_cleanup_{name}"
    monkeypatch.setattr(model, mangled, None, raising=False)


@pytest.mark.parametrize("name", ["ignore", "select"])
def test_model_with_a_mark_of_django_cleanup_is_an_error(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    mark(monkeypatch, Archive, name)

    message = found()["pgcleanup.E005"]

    assert message.level == checks.ERROR
    assert message.msg.startswith(
        f"project.Archive is marked with django_cleanup's {name}, which nothing reads any more"
    )
    assert "Import it from pgcleanup" in (message.hint or "")


@pytest.mark.parametrize(
    ("name", "model", "setting"),
    [
        ("ignore", Ignored, None),
        ("ignore", Archive, "PGCLEANUP_EXCLUDE"),
        ("select", Selected, None),
        ("select", Archive, "PGCLEANUP_INCLUDE"),
        ("ignore", Article, None),
    ],
    ids=["our ignore", "excluded", "our select", "included", "no files"],
)
def test_mark_of_django_cleanup_is_fine_with(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, name: str, model: Any, setting: str | None
) -> None:
    mark(monkeypatch, model, name)
    if setting is not None:
        setattr(settings, setting, [model._meta.label])

    assert "pgcleanup.E005" not in found()


def forgotten(**kwargs: Any) -> None:
    """Be a receiver."""


@pytest.mark.parametrize("options", [{}, {"sender": Document}, {"weak": False}], ids=str)
def test_receiver_of_django_cleanups_signal_is_an_error(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    signals = ModuleType("django_cleanup.signals")
    signals.cleanup_pre_delete = signal = Signal()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "django_cleanup.signals", signals)
    assert "pgcleanup.E005" not in found()
    signal.connect(forgotten, **options)

    message = found()["pgcleanup.E005"]

    assert "forgotten is connected to django_cleanup's cleanup_pre_delete" in message.msg
    assert "pgcleanup.signals" in (message.hint or "")


def test_pgtrigger_missing_is_a_warning(tmp_path: Path) -> None:
    done = run(project(tmp_path / "p", "pgcleanup"), "check")

    assert done.returncode == 0, done.stderr
    assert '(pgcleanup.W002) "pgtrigger" is missing from INSTALLED_APPS' in done.stderr


SIMPLE_HISTORY = """
from django.db import models
from simple_history.models import HistoricalRecords

class Document(models.Model):
    file = models.FileField()
    title = models.CharField(max_length=10)
    history = HistoricalRecords()
"""

PGHISTORY = """
import pghistory
from django.db import models

@pghistory.track()
class Document(models.Model):
    file = models.FileField()
    title = models.CharField(max_length=10)
"""


def test_copies_of_simple_history_are_named_with_the_setting_that_makes_them_count(tmp_path: Path) -> None:
    env = project(tmp_path / "p", "pgtrigger", "pgcleanup", "simple_history", models=SIMPLE_HISTORY)

    done = run(env, "check")

    assert done.returncode == 0, done.stderr
    assert "(pgcleanup.W008)" in done.stderr
    assert 'PGCLEANUP_EXTRA_REFERENCES = ["shop.HistoricalDocument.file"]' in done.stderr


def test_copies_of_simple_history_that_count_are_fine(tmp_path: Path) -> None:
    env = project(
        tmp_path / "p",
        *("pgtrigger", "pgcleanup", "simple_history"),
        models=SIMPLE_HISTORY,
        PGCLEANUP_EXTRA_REFERENCES=["shop.HistoricalDocument.file"],
    )

    assert "no issues" in run(env, "check").stdout


def test_events_of_pghistory_are_named_with_the_setting_that_makes_them_not_count(tmp_path: Path) -> None:
    env = project(tmp_path / "p", "pgtrigger", "pgcleanup", "pghistory", models=PGHISTORY)

    done = run(env, "check")

    assert done.returncode == 0, done.stderr
    assert "(pgcleanup.W009)" in done.stderr
    assert 'PGCLEANUP_IGNORE_REFERENCES = ["shop.DocumentEvent.file"]' in done.stderr


def test_events_of_pghistory_that_do_not_count_are_fine(tmp_path: Path) -> None:
    env = project(
        tmp_path / "p",
        *("pgtrigger", "pgcleanup", "pghistory"),
        models=PGHISTORY,
        PGCLEANUP_IGNORE_REFERENCES=["shop.DocumentEvent.file"],
    )

    assert "no issues" in run(env, "check").stdout


ARRAYS = """
from django.contrib.postgres.fields import ArrayField
from django.db import models

class Gallery(models.Model):
    files = ArrayField(models.FileField())
    pages = ArrayField(ArrayField(models.ImageField()))
    tags = ArrayField(models.CharField(max_length=10))
"""


def test_arrays_of_file_names_are_named_since_they_protect_nothing(tmp_path: Path) -> None:
    done = run(project(tmp_path / "p", "django.contrib.postgres", "pgtrigger", "pgcleanup", models=ARRAYS), "check")

    assert done.returncode == 0, done.stderr
    assert (
        "(pgcleanup.W020) Arrays of file names are not watched: shop.Gallery.files, shop.Gallery.pages." in done.stderr
    )


# SQLite


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Migrate a project on SQLite, and return its environment."""
    env = {
        "DJANGO_SETTINGS_MODULE": "tests.sqlite_settings",
        "SQLITE_PATH": str(tmp_path_factory.mktemp("sqlite") / "db"),
        "PYTHONWARNINGS": "error",
    }
    done = run(env, "migrate")
    assert done.returncode == 0, done.stderr
    return env


@pytest.mark.parametrize(
    "command",
    [
        ["check"],
        ["check", "--database", "default"],
        ["migrate"],
        ["test", "tests.thirdparty"],
        ["makemigrations", "--check"],
        ["flush", "--noinput"],
    ],
    ids=" ".join,
)
def test_command_works_on_sqlite(sqlite: dict[str, str], command: list[str]) -> None:
    done = run(sqlite, *command)

    assert done.returncode == 0, done.stderr


def test_check_on_sqlite_warns_that_nothing_is_deleted_there(sqlite: dict[str, str]) -> None:
    done = run(sqlite, "check")

    assert "(pgcleanup.W001) pgcleanup does nothing here: it works on PostgreSQL" in done.stderr
    assert "1 issue" in done.stderr


def test_runserver_answers_on_sqlite(sqlite: dict[str, str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, str(MANAGE), "runserver", "--noreload", address]
    with subprocess.Popen(
        command, env={**os.environ, **sqlite}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as it:
        try:
            status = answer(f"http://{address}/admin/login/")
        finally:
            it.terminate()

    assert status == 200


def answer(url: str) -> int:
    """Return the status of the first answer, however long the server takes to start."""
    for _ in range(200):
        try:
            with urlopen(url, timeout=10) as response:  # noqa: S310 -- our own server
                return int(response.status)
        except URLError:
            time.sleep(0.05)
    raise AssertionError(f"{url} does not answer")


def test_admin_on_sqlite_leaves_the_tables_out_that_are_not_there(sqlite: dict[str, str]) -> None:
    program = """if True:
        import django; django.setup()
        from django.contrib.auth.models import User
        from django.test import Client
        client = Client()
        client.force_login(User.objects.get_or_create(username="a", is_staff=True, is_superuser=True)[0])
        print("File deletions" in client.get("/admin/").content.decode())
        print(client.get("/admin/pgcleanup/pendingfiledeletion/").status_code)
    """
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=CHECKOUT, env={**os.environ, **sqlite}, capture_output=True, text=True
    )

    assert done.stdout == "False\n403\n", done.stderr


def test_models_on_sqlite_are_saved_and_deleted_as_without_us(sqlite: dict[str, str]) -> None:
    program = """if True:
        import django; django.setup()
        from tests.thirdparty.models import Brochure
        Brochure.objects.create(file="a.pdf").delete()
        print(Brochure.objects.count())
    """
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=CHECKOUT, env={**os.environ, **sqlite}, capture_output=True, text=True
    )

    assert done.stdout == "0\n", done.stderr


def test_drain_on_sqlite_ends_with_3_and_says_why(sqlite: dict[str, str]) -> None:
    done = run(sqlite, "drain_deletions")

    assert done.returncode == 3
    assert 'database "default" is SQLite; pgcleanup works on PostgreSQL only' in done.stderr
    assert "Traceback" not in done.stderr


def test_status_on_sqlite_ends_with_3_and_says_why(sqlite: dict[str, str]) -> None:
    done = run(sqlite, "pgcleanup", "status", "--json")

    assert done.returncode == 3
    assert json.loads(done.stdout)["problems"] == ['Database "default" is SQLite; pgcleanup works on PostgreSQL only.']


def test_migrate_zero_works_on_sqlite(tmp_path: Path, sqlite: dict[str, str]) -> None:
    env = {**sqlite, "SQLITE_PATH": str(tmp_path / "db")}
    run(env, "migrate")

    assert run(env, "migrate", "pgcleanup", "zero").returncode == 0
