"""Databases that a test may ruin."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connections

# Imported here, since a tag of a template does so for the first page that has it: while a test has other bounds in
# place, perhaps, which would stay.
import pgcleanup.admin.overview  # noqa: F401
from tests.database.apps import CREATE, MODELS, NAMES, App, installed_app
from tests.support import Scratch, alias_for, database, run_sql


@pytest.fixture(scope="session")
def template_database(django_db_setup: None, django_db_blocker) -> Iterator[str]:
    """Migrate a database once, for copies."""
    name = f"{connections['default'].settings_dict['NAME']}_template"
    with django_db_blocker.unblock(), database(name) as url:
        with alias_for("template", url):
            call_command("migrate", database="template", verbosity=0)
        yield name


@pytest.fixture
def scratch(template_database: str, django_db_blocker, media_root: Path) -> Iterator[Scratch]:
    """Give the test a migrated database of its own, under the alias `scratch`."""
    yield from scratch_from(template_database, django_db_blocker, media_root)


@pytest.fixture
def empty_scratch(django_db_setup: None, django_db_blocker, media_root: Path) -> Iterator[Scratch]:
    """Give the test a database of its own without a table in it, under the alias `scratch`."""
    yield from scratch_from(None, django_db_blocker, media_root)


def scratch_from(template: str | None, django_db_blocker, media_root: Path) -> Iterator[Scratch]:
    """Make a copy of a database, or an empty one, for the fixtures that yield a Scratch."""
    with django_db_blocker.unblock():
        name = f"{connections['default'].settings_dict['NAME']}_scratch"
        with database(name, template=template) as url, alias_for("scratch", url):
            # A test that waits for a lock of its own fails, instead of hanging.
            run_sql(f"ALTER DATABASE {connections['default'].ops.quote_name(name)} SET statement_timeout = '30s'")
            env = {
                **os.environ,
                "DATABASE_URL": url,
                "OTHER_DATABASE_URL": url,
                "PGCLEANUP_TEST_MEDIA": str(media_root),
            }
            yield Scratch("scratch", url, env)


@pytest.fixture
def shop(tmp_path: Path, scratch: Scratch) -> Iterator[App]:
    """Install an app of the project's own, `shop`, that the test writes and migrates in the database `scratch`."""
    with installed_app(tmp_path, "scratch") as app:
        yield app


@pytest.fixture(scope="session")
def live_template(template_database: str, tmp_path_factory: pytest.TempPathFactory, django_db_blocker) -> Iterator[str]:
    """Migrate the first migration of such an app once, and put rows and a pending entry there, for copies."""
    name = f"{template_database}_live"
    with django_db_blocker.unblock(), database(name, template=template_database) as url:
        with alias_for("live", url), installed_app(tmp_path_factory.mktemp("live"), "live") as app:
            _begin(app)
            app.migrate()
            for file in NAMES:
                run_sql("INSERT INTO shop_offer (file, other) VALUES (%s, %s)", [file, f"other-{file}"], "live")
            run_sql("UPDATE shop_offer SET file = 'new-pending.pdf' WHERE file = 'pending.pdf'", using="live")
        yield name


@pytest.fixture
def live(shop: App) -> App:
    """Install the app that `live_template` was migrated with."""
    _begin(shop)
    return shop


def _begin(app: App) -> None:
    app.models(MODELS)
    app.migration("0001_initial", CREATE)
