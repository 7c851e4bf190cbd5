"""What a drain does not start on: an error that says what to do, and nothing touched."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta

import pytest
from django.apps import apps
from django.db import connections

from pgcleanup import sql
from pgcleanup.drain import drain
from pgcleanup.exceptions import DrainRefused
from pgcleanup.models import Outcome
from tests.drain.support import Stepped, agree, entries, let_go, orphaned, pending, put
from tests.project.models import Attachment, Document


def test_sqlite_is_refused(alias, tmp_path):
    connections.settings["lite"] = {
        **connections["default"].settings_dict,
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(tmp_path / "db"),
        "OPTIONS": {},
    }
    try:
        with pytest.raises(DrainRefused, match=r'"lite" is SQLite.*PostgreSQL only.*--database'):
            drain(using="lite")
    finally:
        connections["lite"].close()
        del connections["lite"]
        del connections.settings["lite"]


def test_database_without_a_ledger_is_refused(alias):
    alias("empty", NAME="postgres")

    with pytest.raises(DrainRefused, match=r'"empty" has no ledger.*manage.py migrate pgcleanup --database empty'):
        drain(using="empty")


def test_database_without_the_column_table_is_refused():
    path = orphaned("docs/a.txt")
    sql.execute("default", "ALTER TABLE file_deletion_column RENAME TO elsewhere")
    try:
        with pytest.raises(DrainRefused, match=r"does not say which file columns it has.*Run: manage.py migrate"):
            drain()
    finally:
        sql.execute("default", "ALTER TABLE elsewhere RENAME TO file_deletion_column")

    assert path.exists()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("PGCLEANUP_GRACE_PERIOD", 3600),
        ("PGCLEANUP_UPLOAD_WINDOW", None),
        ("PGCLEANUP_MAX_ATTEMPTS", 0),
        ("PGCLEANUP_DELETE_FILES", "no"),
        ("PGCLEANUP_EXTRA_REFERENCES", "project.Article.picture"),
    ],
)
def test_bad_setting_is_refused_by_name(settings, setting, value):
    path = orphaned("docs/a.txt")
    setattr(settings, setting, value)

    with pytest.raises(DrainRefused, match=setting):
        drain()

    assert path.exists()


def test_database_that_commits_nothing_by_itself_is_refused_by_the_name_of_the_setting(alias):
    path = orphaned("docs/a.txt")

    with pytest.raises(DrainRefused, match=r'DATABASES\["uncommitted"\]\["AUTOCOMMIT"\] is False'):
        drain(using=alias("uncommitted", AUTOCOMMIT=False))

    assert path.exists()


def test_model_that_django_cleanup_was_told_to_ignore_is_refused(monkeypatch, settings):
    path = orphaned("docs/a.txt")
    monkeypatch.setattr(Document, "_document__project_cleanup_ignore", None, raising=False)

    with pytest.raises(DrainRefused, match=r"project\.Document is marked with django_cleanup's ignore.*from pgcleanup"):
        drain()

    assert path.exists()
    settings.SILENCED_SYSTEM_CHECKS = ["pgcleanup.E005"]
    assert drain().counts == {Outcome.DELETED: 1}


def test_source_that_no_model_has_any_more_is_left_and_named():
    path = orphaned("docs/a.txt")
    sql.execute("default", "UPDATE pending_file_deletion SET source = 'shop.removed.file'")

    report = drain()

    assert report.unresolved == ("shop.removed.file",)
    assert report.counts == {}
    assert entries("name, attempts, retry_at") == [("docs/a.txt", 0, None)]
    assert path.exists()


def test_entry_of_a_source_that_is_gone_holds_its_name_only_while_transactions_are_open(session):
    path = put("docs/a.txt")
    let_go("docs/a.txt", model=Attachment)
    sql.execute("default", "UPDATE pending_file_deletion SET source = 'shop.removed.file'")
    let_go("docs/a.txt")
    early = Stepped()
    early.until("stamped")
    sql.execute("default", "UPDATE file_deletion_stamp SET fence = '{}'")
    holder = session().begin()
    sql.execute(
        "default",
        """UPDATE file_deletion_stamp SET fence = ARRAY[(SELECT virtualtransaction FROM pg_locks
                  WHERE locktype = 'virtualxid' AND pid = %s)];
           INSERT INTO file_deletion_stamp (fence) VALUES ('{}');
           UPDATE pending_file_deletion SET stamp_id = (SELECT max(id) FROM file_deletion_stamp)
            WHERE source = 'project.document.file'""".replace("%s", str(holder.pid)),
    )

    held = drain()
    holder.rollback()
    sql.execute("default", "UPDATE pending_file_deletion SET retry_at = NULL")
    afterwards = drain()

    assert held.counts == {}
    assert afterwards.counts == {Outcome.DELETED: 1}
    assert pending() == ["docs/a.txt"]
    assert not path.exists()


def test_trigger_that_is_missing_is_told_and_makes_the_drain_fail():
    orphaned("docs/a.txt")
    sql.execute("default", "ALTER TABLE project_document DISABLE TRIGGER pgcleanup_row")
    try:
        report = drain()
    finally:
        sql.execute("default", "ALTER TABLE project_document ENABLE TRIGGER pgcleanup_row")

    assert report.counts == {Outcome.DELETED: 1}
    assert "project_document" in report.uncovered[0]
    assert "disabled" in report.uncovered[0]
    assert report.exit_code == 1


def test_storage_that_cannot_be_set_up_is_left_alone_and_the_others_go_on(monkeypatch):
    path = orphaned("docs/a.txt")
    let_go("docs/b.txt", model=Attachment)

    class Broken:
        def __getattr__(self, name):
            raise RuntimeError("no such bucket setting")

    monkeypatch.setattr(Attachment._meta.get_field("file"), "storage", Broken())
    agree()

    report = drain()

    assert report.counts == {Outcome.DELETED: 1}
    assert not path.exists()
    assert pending() == ["docs/b.txt"]


def test_process_started_for_sqlite_alone_says_so():
    """In a project whose only database is SQLite the app is inert."""
    code = (
        "import django; from django.conf import settings;"
        "settings.configure(DATABASES={'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': ':memory:'}},"
        "INSTALLED_APPS=['pgcleanup']); django.setup(); from pgcleanup.drain import drain; drain()"
    )

    done = subprocess.run([sys.executable, "-c", code], env={**os.environ}, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "DrainRefused" in done.stderr
    assert "PostgreSQL only" in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        pytest.param("PGCLEANUP_DELETE_FILE", False, "no setting PGCLEANUP_DELETE_FILE", id="a name that is none"),
        pytest.param("PGCLEANUP_EXCLUDE", ["no.Model"], "there is no such model or field", id="a label of nothing"),
    ],
)
def test_setting_that_a_check_calls_an_error_is_refused(settings, name, value, sentence):
    """A task that calls drain() runs no checks, and the name may have been meant to switch deleting off."""
    path = orphaned("docs/a.txt")
    setattr(settings, name, value)

    with pytest.raises(DrainRefused, match=sentence):
        drain()

    assert path.exists()


def test_drain_beside_django_cleanup_is_refused_unless_its_check_is_silenced(settings, monkeypatch):
    is_installed = apps.is_installed
    monkeypatch.setattr(apps, "is_installed", lambda name: name == "django_cleanup" or is_installed(name))

    with pytest.raises(DrainRefused, match="django_cleanup is installed as well"):
        drain()

    settings.SILENCED_SYSTEM_CHECKS = ["pgcleanup.E001"]
    assert drain().exit_code == 0


def test_duration_that_is_a_number_is_refused_with_the_right_type():
    with pytest.raises(TypeError, match=r"grace_period is a datetime\.timedelta"):
        drain(grace_period=0)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"limit": 0}, "limit must be at least 1, not 0"),
        ({"limit": -1}, "limit must be at least 1, not -1"),
        ({"grace_period": timedelta(days=-1)}, "grace_period is a duration from 0 to 100 years"),
        ({"grace_period": timedelta.max}, "grace_period is a duration from 0 to 100 years"),
        ({"wait": timedelta(seconds=-1)}, "wait is a duration from 0 to 100 years"),
    ],
    ids=str,
)
def test_argument_that_the_command_would_refuse_is_refused(options, sentence):
    path = orphaned("docs/a.txt")

    with pytest.raises(ValueError, match=sentence):
        drain(**options)

    assert path.exists()
