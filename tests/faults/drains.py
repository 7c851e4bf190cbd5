"""A process that runs `drain_deletions` again and again until it is killed: `python -m tests.faults.drains`.

An exit code other than 0 ends it with a traceback; with `--go-on` it runs the next one.
"""

from __future__ import annotations

import sys
import time

import django
from django.core.management import CommandError, call_command


def main() -> None:
    """Drain."""
    django.setup()
    while True:
        try:
            call_command("drain_deletions", "--wait", "0.1", verbosity=0)
        except CommandError as error:
            if "--go-on" not in sys.argv:
                raise
            print(str(error).replace("\n", " "), flush=True)
            time.sleep(0.1)


if __name__ == "__main__":
    main()
