#!/usr/bin/env python
"""Run a Django command in the test project, on the databases that DATABASE_URL and OTHER_DATABASE_URL name."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    # Python put the folder of this file there. `tests` and `pgcleanup` are one level up.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.project.settings")
    execute_from_command_line(sys.argv)
