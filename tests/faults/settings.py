"""Settings of the processes that are killed: no waiting, and receivers that write down what they hear."""

from __future__ import annotations

import os
from datetime import timedelta

from tests.project.settings import *  # noqa: F403 -- these and nothing else differ
from tests.project.settings import INSTALLED_APPS, STORAGES

INSTALLED_APPS = [*INSTALLED_APPS, "tests.faults.listening.Listening"]
PGCLEANUP_GRACE_PERIOD = timedelta(0)
# In most of these runs no name is used again.
PGCLEANUP_UPLOAD_WINDOW = timedelta(seconds=float(os.environ.get("PGCLEANUP_TEST_WINDOW", "0")))
if "PGCLEANUP_TEST_HANG" in os.environ:
    STORAGES = {**STORAGES, "default": {"BACKEND": "tests.faults.listening.HangingFiles"}}
