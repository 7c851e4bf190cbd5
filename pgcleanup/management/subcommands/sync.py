"""`manage.py pgcleanup sync`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from pgcleanup.management.output.base import FAILED, Ended
from pgcleanup.management.subcommands.base import Subcommand
from pgcleanup.status import Coverage
from pgcleanup.status.words import plural
from pgcleanup.triggers import sync, versions


class Sync(Subcommand):
    """Brings the triggers in step with the models."""

    name = "sync"
    writes = True
    help = "bring the triggers in step with the models"
    description = (
        "Installs and replaces triggers where the models need it, as migrate does; -v 2 lists all tables. "
        "Exit code 0: all is in step; 1: something is not."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="change nothing, list what differs")

    def run(self, using: str, options: dict[str, Any]) -> None:
        before = self.coverage(using)
        if options["check"]:
            for line in before.differences():
                self.say(line)
        else:
            report = sync(using, triggers=True)
            for table in dict.fromkeys(report.changed if report else []):
                self.say(f"{table}: {_what_was_done(table, before)}")
            for table, error in report.failed if report else []:
                self.say(f"{table}: {error}", problem=True)
            for source in report.left if report else []:
                self.say(" ".join(versions.explained(source)), problem=True)
        after = before if options["check"] else self.coverage(using)
        for watched_table in after.by_table if options["verbosity"] > 1 else ():
            self.say(str(watched_table))
        for table, statement in after.disabled:
            self.say(f"{table}: somebody disabled a trigger; to enable it: {statement}", problem=True)
        for sentence, advice in after.history_problems(using):
            self.say(f"{sentence} {advice}", problem=True)
        if not after.complete or after.history or any(after.differences()):
            raise Ended("not all triggers are as they should be", returncode=FAILED)
        if options["verbosity"]:
            watched = f"{plural(after.columns, 'file column')} in {plural(after.tables, 'table')}"
            self.say(f"In step: {watched} recorded.")


def _what_was_done(table: str, before: Coverage) -> str:
    """Return what a sync did to a table: it installs, replaces, or only takes away."""
    if table == "functions":
        return "those that nothing needs any more removed"
    only_stray = table in before.stray and table not in (*before.missing, *before.outdated)
    return "triggers removed" if only_stray else "brought up to date"
