"""`manage.py pgcleanup prune`."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser

from pgcleanup.conf import LONGEST, settings
from pgcleanup.ledger import history
from pgcleanup.ledger.fence import drain_transaction
from pgcleanup.management.output.base import WRONG_USAGE
from pgcleanup.management.subcommands.base import Subcommand
from pgcleanup.status.words import number, period, plural

SECONDS_BETWEEN_LINES = 5.0
_LONGEST_DAYS = LONGEST.days


class Prune(Subcommand):
    """Deletes old history."""

    name = "prune"
    writes = True
    help = "delete history that is older than PGCLEANUP_HISTORY_RETENTION"
    description = (
        "Deletes history that was settled longer ago than PGCLEANUP_HISTORY_RETENTION, in small transactions of their "
        "own: it may be stopped at any time. Each drain does a little of it, too. What is pending stays. "
        "Exit code 0: done; 2: there is no retention."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--older-than", type=int, metavar="DAYS", help="instead of PGCLEANUP_HISTORY_RETENTION, for this run"
        )
        parser.add_argument("--batch-size", type=int, default=10_000, metavar="N", help="rows in one transaction")
        parser.add_argument("--dry-run", action="store_true", help="count, and delete nothing")

    def run(self, using: str, options: dict[str, Any]) -> None:
        retention, batch = _retention(options["older_than"]), options["batch_size"]
        if batch < 1:
            raise CommandError("--batch-size must be at least 1.", returncode=WRONG_USAGE)
        self.inspection(using)
        if options["dry_run"]:
            count = history.count_older(using, retention)
            self.say(f"Dry run, nothing was changed: would delete {_entries(count)} older than {period(retention)}.")
            return
        began = time.monotonic()
        pruned = self._prune(using, retention, batch)
        if options["verbosity"]:
            seconds = f" in {time.monotonic() - began:.1f} s" if pruned else ""
            self.say(f"Deleted {_entries(pruned)} older than {period(retention)}{seconds}.")

    def _prune(self, using: str, retention: timedelta, batch: int) -> int:
        after, pruned, told = history.START, 0, time.monotonic()
        while True:
            with drain_transaction(using):
                count, after = history.prune(using, retention, batch, after)
            if not count:
                return pruned
            pruned += count
            if sys.stderr.isatty() and time.monotonic() - told >= SECONDS_BETWEEN_LINES:
                told = time.monotonic()
                self.command.stderr.write(f"{number(pruned)} entries deleted so far")


def _retention(days: int | None) -> timedelta:
    if days is not None and not 1 <= days <= _LONGEST_DAYS:
        raise CommandError(f"--older-than takes 1 to {_LONGEST_DAYS} days.", returncode=WRONG_USAGE)
    retention = timedelta(days=days) if days is not None else settings.history_retention
    if retention is None:
        raise CommandError(
            "PGCLEANUP_HISTORY_RETENTION is None: the history is kept for ever. To prune it all the same: "
            "manage.py pgcleanup prune --older-than DAYS",
            returncode=WRONG_USAGE,
        )
    return retention


def _entries(count: int) -> str:
    return f"{plural(count, 'entry', 'entries')} of the history"
