"""Two databases of a project whose files are in one storage, migrated one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connections
from pytest_django import Settings

from pgcleanup.drain import drain
from pgcleanup.models import Outcome
from pgcleanup.triggers import sync
from tests.database.apps import MODELS, App
from tests.database.conftest import scratch_from
from tests.drain.support import put
from tests.support import Scratch, alias_for, database, run_sql

RENAMED = MODELS.replace("file =", "scan =")
RENAME = 'migrations.RenameField("Offer", "file", "scan"),'


@pytest.fixture
def scratch(live_template: str, django_db_blocker, media_root: Path) -> Iterator[Scratch]:
    yield from scratch_from(live_template, django_db_blocker, media_root)


@pytest.fixture
def beside(
    scratch: Scratch, live: App, live_template: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Make a second database with the same tables, and let the project have no others."""
    settings.PGCLEANUP_GRACE_PERIOD = settings.PGCLEANUP_UPLOAD_WINDOW = timedelta(0)
    name = f"{connections['default'].settings_dict['NAME']}_beside"
    with database(name, template=live_template) as url, alias_for("beside", url):
        for alias in ("scratch", "beside"):
            run_sql("DELETE FROM pending_file_deletion", using=alias)
            sync(alias)
        with monkeypatch.context() as patch:
            for alias in ("default", "other"):
                patch.delitem(connections.databases, alias)
            yield "beside"


@pytest.fixture
def shared(scratch: Scratch, beside: str) -> Path:
    """Let a row of the one database let a file go that one of the other names."""
    run_sql("UPDATE shop_offer SET file = 'shared.pdf' WHERE file = 'later.pdf'", using=beside)
    scratch.sql("INSERT INTO shop_offer (file, other) VALUES ('', 'shared.pdf')")
    scratch.sql("DELETE FROM shop_offer WHERE other = 'shared.pdf'")
    return put("shared.pdf")


def release(live: App, *, to: tuple[str, ...]) -> None:
    """Migrate these databases to the release that has renamed the column."""
    live.models(RENAMED)
    live.migration("0002_rename", RENAME)
    for live.using in to:
        live.migrate()


def test_file_is_kept_while_both_are_of_the_release_of_this_process(live: App, shared: Path) -> None:
    before = drain(using="scratch")
    release(live, to=("scratch", "beside"))
    run_sql("INSERT INTO shop_offer (scan, other) VALUES ('', 'shared.pdf')", using="scratch")
    run_sql("DELETE FROM shop_offer WHERE other = 'shared.pdf'", using="scratch")

    after = drain(using="scratch")

    assert before.counts == after.counts == {Outcome.KEPT: 1}
    assert shared.exists()


def test_file_is_left_alone_while_the_other_is_not_migrated_yet(live: App, shared: Path) -> None:
    release(live, to=("scratch",))

    report = drain(using="scratch")

    assert (report.counts, report.exit_code) == ({}, 3)
    assert "Run manage.py migrate --database beside with the settings" in report.refused[0]
    assert shared.exists()


def test_file_is_left_alone_by_older_code_while_the_other_is_migrated_already(live: App, shared: Path) -> None:
    release(live, to=("beside",))
    live.models(MODELS)

    report = drain(using="scratch")

    assert (report.counts, report.exit_code) == ({}, 3)
    assert 'shop.offer.scan is known to database "beside", but not to this process' in report.refused[0]
    assert shared.exists()
