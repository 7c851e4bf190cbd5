#!/usr/bin/env python
"""Run a Django command in the demo site, while `make demo-serve` runs: it prints the line that sets the variables."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    # Python put the folder of this file there. `demo`, `tests` and `pgcleanup` are one level up.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    if not os.environ.get("DATABASE_URL") or not os.environ.get("PGCLEANUP_DEMO_FILES"):
        sys.exit("The demo site has no database yet. Run `make demo-serve`, and use the command that it prints.")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo.settings")

    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
