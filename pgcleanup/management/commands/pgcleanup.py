"""Everything but the drain: `manage.py pgcleanup SUBCOMMAND`, each in a module of `management/subcommands/`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import DatabaseError

from pgcleanup.conf import autocommit_problem
from pgcleanup.management.output.base import FAILED, WRONG_USAGE, DeletionCommand
from pgcleanup.management.subcommands import SUBCOMMANDS
from pgcleanup.status.rights import reported


class Command(DeletionCommand):
    """`manage.py pgcleanup SUBCOMMAND`."""

    help = "Looks after the recording and deletion of files. The files themselves are deleted by drain_deletions."

    def add_arguments(self, parser: CommandParser) -> None:
        parsers = parser.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
        self.subcommands = {one.name: one(self) for one in SUBCOMMANDS}
        for name, subcommand in self.subcommands.items():
            subparser = parsers.add_parser(name, help=subcommand.help, description=subcommand.description)
            subcommand.add_arguments(subparser)
            self.add_database_argument(subparser)
            self.repeat_common_arguments(subparser)

    def handle(self, *args: Any, **options: Any) -> None:
        for text in _texts(options.values()):
            if not _is_unicode(text):
                raise CommandError(
                    f"{text} is no valid UTF-8, so no file or field has it as its name", returncode=WRONG_USAGE
                )
        using = self.known_alias(options["database"])
        subcommand = self.subcommands[options["subcommand"]]
        if subcommand.writes and (problem := autocommit_problem(using)):
            # It would report a success that nobody else ever sees.
            raise CommandError(problem, returncode=FAILED)
        try:
            subcommand.run(using, options)
        except DatabaseError as error:
            raise CommandError(f'database "{using}" reports: {reported(using, error)}', returncode=FAILED) from error


def _texts(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, list | tuple):
            yield from _texts(value)


def _is_unicode(text: str) -> bool:
    """Whether a database can have it: bytes of an argument that are no UTF-8 come as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
