"""Settings of the test project. Everything that differs from run to run comes from the environment:

DATABASE_URL          the server, and the database `default`
OTHER_DATABASE_URL    the database `other`; without it, one on the same server
PGCLEANUP_TEST_MEDIA  MEDIA_ROOT
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tests.project import database_url

# Reading the settings must not need a server: mypy's plugin and makemigrations do it. Nothing listens on port 1, so a
# forgotten DATABASE_URL ends in an error, never in somebody's database.
DEFAULT_URL = "postgresql://postgres@127.0.0.1:1/DATABASE_URL_is_not_set"

default = database_url.parse(os.environ.get("DATABASE_URL") or DEFAULT_URL)
if other_url := os.environ.get("OTHER_DATABASE_URL"):
    other = database_url.parse(other_url)
else:
    other = {**default, "NAME": f"{default['NAME']}_other"}
DATABASES = {"default": default, "other": other}

# Made when the first file is stored. Tests have a folder each (conftest.py).
MEDIA_ROOT = Path(
    os.environ.get("PGCLEANUP_TEST_MEDIA") or Path(tempfile.gettempdir(), f"pgcleanup-media-{os.getpid()}")
)
MEDIA_URL = "/media/"
STATIC_URL = "/static/"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "pgtrigger",
    "pgcleanup",
    "tests.project",
    "tests.thirdparty",
]
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
ROOT_URLCONF = "tests.project.urls"

ALLOWED_HOSTS = ["localhost", "127.0.0.1", "testserver"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# Fast, and safe enough for users that live as long as a test.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
SECRET_KEY = "of a test project: it protects nothing"
USE_TZ = True
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "archive": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": f"{MEDIA_ROOT}-archive"},
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
