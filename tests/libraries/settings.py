"""The test project with the libraries that keep file names, or make files of files, and one database of its own."""

from __future__ import annotations

from datetime import timedelta

from tests.project.settings import *  # noqa: F403
from tests.project.settings import DATABASES, INSTALLED_APPS

DATABASES = {"default": DATABASES["default"]}
INSTALLED_APPS = [
    *(app for app in INSTALLED_APPS if app != "tests.project"),
    "easy_thumbnails",
    "pghistory",
    "simple_history",
    "sorl.thumbnail",
    "tests.libraries",
]
ROOT_URLCONF = "tests.project.urls"
PGCLEANUP_GRACE_PERIOD = timedelta(0)
PGCLEANUP_UPLOAD_WINDOW = timedelta(0)
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
