"""Settings of the demo site. `python -m demo` sets both variables; nothing here needs a server to be read.

DATABASE_URL             its database
PGCLEANUP_DEMO_FILES     the folder of its files
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from tests.project import database_url

# Nothing listens on port 1: without the variable every query fails, and no other database is touched.
DATABASES = {
    "default": database_url.parse(os.environ.get("DATABASE_URL") or "postgresql://demo@127.0.0.1:1/not_running")
}
FILES = Path(os.environ.get("PGCLEANUP_DEMO_FILES") or "files-of-a-demo-that-is-not-running")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "easy_thumbnails",
    "post_office",
    "pgtrigger",
    "pgcleanup",
    "demo.library",
]

MEDIA_ROOT = FILES / "media"
MEDIA_URL = "/media/"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "archive": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": FILES / "archive", "base_url": "/archive/"},
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

# Every file here is a few seconds old: with the default of a minute, nothing could be deleted before that is over.
if window := os.environ.get("PGCLEANUP_DEMO_UPLOAD_WINDOW"):
    PGCLEANUP_UPLOAD_WINDOW = timedelta(seconds=float(window))

# easy-thumbnails: the sizes that a photo is shown in.
THUMBNAIL_ALIASES = {"": {"list": {"size": (80, 80), "crop": True}, "page": {"size": (480, 480)}}}

ROOT_URLCONF = "demo.urls"
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
DEBUG = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # of a user that lives for minutes
SECRET_KEY = "of a demo: it protects nothing"
STATIC_URL = "/static/"
TIME_ZONE = "UTC"
USE_TZ = True
