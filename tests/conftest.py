"""Fixtures for every test. The server itself is started by tests/plugin.py."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest
from django.db import connections
from pytest_django import Settings

from tests.project import database_url

# The examples of `make test` are the same every time: what it says of a commit, it says again. New ones are
# looked for by HYPOTHESIS_PROFILE=thorough.
hypothesis.settings.register_profile("same", derandomize=True, database=None)
hypothesis.settings.register_profile("thorough", max_examples=1_000, deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(autouse=True)
def media_root(settings: Settings, tmp_path: Path) -> Path:
    """Give each test an empty MEDIA_ROOT of its own, so that no file of one test is seen by another."""
    folder = tmp_path / "media"
    folder.mkdir()
    settings.MEDIA_ROOT = folder
    return folder


@pytest.fixture
def process_env(transactional_db: None, media_root: Path) -> dict[str, str]:
    """Return the environment in which a `tests/manage.py` subprocess works on this test's databases and files.

    A subprocess sees committed rows only: hence transactional_db.
    """
    return {
        **os.environ,
        "DATABASE_URL": database_url.render(connections["default"].settings_dict),
        "OTHER_DATABASE_URL": database_url.render(connections["other"].settings_dict),
        "PGCLEANUP_TEST_MEDIA": str(media_root),
    }
