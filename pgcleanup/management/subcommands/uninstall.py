"""`manage.py pgcleanup uninstall`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import DatabaseError, connections

from pgcleanup.exceptions import PendingEntries
from pgcleanup.management.output.base import FAILED
from pgcleanup.management.subcommands.base import Subcommand
from pgcleanup.status.words import plural
from pgcleanup.triggers import uninstall


class Uninstall(Subcommand):
    """Takes the triggers out."""

    name = "uninstall"
    writes = True
    help = "take all triggers and functions out of the database"
    description = (
        "Takes all triggers and functions of pgcleanup out of the database; writes of the application "
        "go on. The ledger stays until `manage.py migrate pgcleanup zero`."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--discard-pending", action="store_true", help="forget what is pending: those files then stay for ever"
        )

    def run(self, using: str, options: dict[str, Any]) -> None:
        if connections[using].vendor != "postgresql":
            self.inspection(using)
        try:
            discarded = uninstall(using, discard_pending=options["discard_pending"])
        except PendingEntries as error:
            raise CommandError(str(error), returncode=FAILED) from error
        except DatabaseError as error:
            raise CommandError(
                f"some triggers are still there, but record nothing any more: {error}. Run the command again.",
                returncode=FAILED,
            ) from error
        if options["verbosity"]:
            self.say(f'All triggers and functions of pgcleanup are out of database "{using}".')
            if discarded:
                self.say(f"{plural(discarded, 'pending entry', 'pending entries')} discarded; their files stay.")
            self.say(
                f"Next: manage.py migrate pgcleanup zero --database {using}, then remove the app. "
                "(An ordinary migrate would install the triggers again.)"
            )
