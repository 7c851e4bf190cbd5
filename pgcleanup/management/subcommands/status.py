"""`manage.py pgcleanup status`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from pgcleanup.management.output.base import Ended, as_json, refusals
from pgcleanup.management.output.looked import status_lines
from pgcleanup.management.output.machine import status_fields
from pgcleanup.management.output.prometheus import status_text
from pgcleanup.management.subcommands.base import Subcommand
from pgcleanup.status import look


class Status(Subcommand):
    """Says how far behind a database is."""

    name = "status"
    help = "how far behind, what waits, what is watched"
    description = (
        "Says how far behind the deletions are, what waits and why, which tables are watched, and what "
        "was done lately; -v 2 lists the tables. Exit code 0: healthy; 1: behind, or something failed; 3: broken."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--format", choices=["text", "json", "prometheus"], default="text", help="text for people (default)"
        )
        parser.add_argument(
            "--json", action="store_const", const="json", dest="format", help="the same as --format json"
        )

    def run(self, using: str, options: dict[str, Any]) -> None:
        status = look(using, refusals())
        if options["format"] == "json":
            self.say(as_json(status_fields(status)))
        elif options["format"] == "prometheus":
            self.command.stdout.write(status_text(status), ending="")
        else:
            self.command.write_lines(status_lines(status), options["verbosity"])
            for table in status.coverage.by_table if status.coverage and options["verbosity"] > 1 else ():
                self.say(f"  {table}")
        if status.health.exit_code:
            raise Ended(f'database "{using}" is {status.health.value}', returncode=status.health.exit_code)
