"""`manage.py pgcleanup pause` and `resume`: the kill switch."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from pgcleanup.drain.permission import person
from pgcleanup.ledger import control
from pgcleanup.management.subcommands.base import Subcommand
from pgcleanup.status.words import moment


class Pause(Subcommand):
    """Stops every drain of a database."""

    name = "pause"
    writes = True
    help = "stop every drain, also those that are under way"
    description = (
        "Stops every drain of a database until `manage.py pgcleanup resume`, also those that are under way, within "
        "seconds. Names are recorded as before. Kept in the database: it holds for every process and machine, and "
        "through restarts. Exit code 0: paused."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--reason", default="", metavar="TEXT", help="why, for whoever reads it in the output")

    def run(self, using: str, options: dict[str, Any]) -> None:
        self.require_control(using)
        before = control.paused(using)
        control.pause(using, person(), options["reason"].strip())
        if not options["verbosity"]:
            return
        if before is not None:
            reason = f": {before.reason}" if before.reason else ""
            self.say(f"It was paused already, since {moment(before.at)} by {before.by or 'somebody'}{reason}.")
        self.say(
            f'Paused: no drain of database "{using}" deletes a file until somebody runs: '
            f"manage.py pgcleanup resume --database {using}"
        )
        self.say("A drain that is under way stops within seconds, after the file it is at. Recording goes on.")


class Resume(Subcommand):
    """Lets the drains go on."""

    name = "resume"
    writes = True
    help = "let the drains go on after a pause"
    description = "Lets the drains of a database go on. Exit code 0: they may, also where they were not paused."

    def run(self, using: str, options: dict[str, Any]) -> None:
        self.require_control(using)
        before = control.paused(using)
        resumed = control.resume(using)
        if not options["verbosity"]:
            return
        if not resumed or before is None:
            self.say(f'Deletions in database "{using}" were not paused.')
            return
        reason = f" ({before.reason})" if before.reason else ""
        self.say(
            f'Resumed: the next drain of database "{using}" deletes again. It was paused since {moment(before.at)} by '
            f"{before.by or 'somebody'}{reason}."
        )
