"""Settings of the workers: receivers that write down what they hear, and a queue in the database."""

from __future__ import annotations

import os
from importlib.util import find_spec

from tests.faults.settings import *  # noqa: F403 -- these and nothing else differ
from tests.faults.settings import INSTALLED_APPS

# The backport is an app; Django's own framework is none.
_BACKPORT = [] if find_spec("django.tasks") else ["django_tasks"]
INSTALLED_APPS = [*INSTALLED_APPS, *_BACKPORT, "django_tasks_db"]
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}

CELERY_BROKER_URL = CELERY_RESULT_BACKEND = os.environ.get("PGCLEANUP_TEST_REDIS", "")
