"""A project on SQLite that has the app installed, as a test suite of somebody's may be. SQLITE_PATH is its database."""

from __future__ import annotations

import os

from tests.project.settings import *  # noqa: F403
from tests.project.settings import INSTALLED_APPS as ALL_APPS

DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("SQLITE_PATH", ":memory:")}}
# The models of tests.project need PostgreSQL.
INSTALLED_APPS = [app for app in ALL_APPS if app != "tests.project"]
