"""Settings of the benchmark project; the server, and what of it is installed, come from the environment."""

from __future__ import annotations

import os
from datetime import timedelta

from tests.project import database_url

# Which way of deleting files is installed beside the shop.
APPS = {
    "nothing": [],
    "django-cleanup": ["django_cleanup.apps.CleanupConfig"],
    "pgcleanup": ["pgtrigger", "pgcleanup"],
}

DATABASES = {"default": database_url.parse(os.environ["DATABASE_URL"])}
MEDIA_ROOT = os.environ["PGCLEANUP_BENCH_MEDIA"]
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    *APPS[os.environ.get("PGCLEANUP_BENCH_APPS", "pgcleanup")],
    "benchmarks.shop",
]
MIGRATION_MODULES = dict.fromkeys(["admin", "auth", "contenttypes", "sessions"])
STATIC_URL = "/static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SECRET_KEY = "of a benchmark"
USE_TZ = True
PGCLEANUP_GRACE_PERIOD = timedelta(0)
PGCLEANUP_UPLOAD_WINDOW = timedelta(0)
