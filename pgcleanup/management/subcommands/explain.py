"""`manage.py pgcleanup explain`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from pgcleanup.columns import find_file_columns
from pgcleanup.ledger import state
from pgcleanup.management.output.base import FAILED, WRONG_USAGE, Ended, as_json
from pgcleanup.management.output.explained import explained_lines, story_fields
from pgcleanup.management.subcommands.base import Subcommand
from pgcleanup.status.story import tell
from pgcleanup.status.words import listed


class Explain(Subcommand):
    """Says why a file is here, or why it went."""

    name = "explain"
    help = "why a file is still here, or why it went"
    description = (
        "Says all that is known of a file: whether it is there, which rows name it, what is pending and what each "
        "entry waits for, what became of it, when, by whom and why; and what to type next. Looks, changes nothing. "
        "Exit code 0: something is known; 1: nothing; 2: wrong usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="a file name as its row has it")
        parser.add_argument(
            "--source", action="append", metavar="LABEL", help="look only in the storage of this field: app.model.field"
        )
        parser.add_argument("--json", action="store_true", help="one JSON object")

    def run(self, using: str, options: dict[str, Any]) -> None:
        self.inspection(using)
        sources = [source.lower() for source in options["source"]] if options["source"] else None
        known = {column.source for column in find_file_columns(using).stored}
        for source in sources or ():
            if source not in known and source not in (pending := state.sources(using)):
                there = listed(sorted({*known, *pending}), limit=20)
                raise CommandError(f'there is no file field "{source}". There are: {there}', returncode=WRONG_USAGE)
        story = tell(using, options["name"], sources)
        if options["json"]:
            self.say(as_json(story_fields(story)))
        else:
            self.command.write_lines(explained_lines(story), options["verbosity"])
        if not story.places:
            raise Ended("nothing is known of it", returncode=FAILED)
