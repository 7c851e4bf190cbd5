"""What the subcommands of `manage.py pgcleanup` have in common."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from django.core.management.base import CommandError, CommandParser
from django.db import connections

from pgcleanup.ledger import control
from pgcleanup.management.output.base import FAILED, WRONG_USAGE, DeletionCommand
from pgcleanup.status import Coverage, coverage_of
from pgcleanup.triggers import Inspection, how_to_make_tables, inspect


class Subcommand(ABC):
    """One `manage.py pgcleanup NAME`: a class in a module of its own, listed in `subcommands/__init__.py`."""

    name: ClassVar[str]
    help: ClassVar[str]
    """A phrase for the list of subcommands."""
    description: ClassVar[str]
    """Sentences for its own --help, exit codes included."""
    writes: ClassVar[bool] = False
    """Whether it changes anything in the database."""

    def __init__(self, command: DeletionCommand) -> None:
        self.command = command

    def add_arguments(self, parser: CommandParser) -> None:  # noqa: B027 -- most have none
        """Add what it takes besides --database, which all do."""

    @abstractmethod
    def run(self, using: str, options: dict[str, Any]) -> None:
        """Do it, on a database that is in DATABASES.

        Raises:
            Ended: all has been said, and the exit code is not 0.
            CommandError: with `returncode`, for one more sentence on stderr.
        """

    def say(self, text: str, *, problem: bool = False) -> None:
        """Print a line, a problem in the colour of a warning."""
        self.command.stdout.write(text, self.command.style.WARNING if problem else None)

    def inspection(self, using: str) -> Inspection:
        """Return what the database has, or end with 1 where that is no ledger."""
        found = inspect(using)
        if found is not None:
            return found
        connection = connections[using]
        if connection.vendor != "postgresql":
            reason = f'database "{using}" is {connection.display_name}; pgcleanup works on PostgreSQL only'
        else:
            reason = f'database "{using}" has no ledger. {how_to_make_tables(using)}'
        raise CommandError(reason, returncode=FAILED)

    def require_control(self, using: str) -> None:
        """End with 1 where there is no ledger, or where its newest migration is still to be run."""
        self.inspection(using)
        if not control.exists(using):
            raise CommandError(
                f'database "{using}" lacks the table file_deletion_control. {how_to_make_tables(using)}',
                returncode=FAILED,
            )

    def coverage(self, using: str) -> Coverage:
        """Return what the triggers record, or end with 1 where there is no ledger."""
        return coverage_of(self.inspection(using))

    def add_yes_argument(self, parser: CommandParser) -> None:
        """Add `--yes`, which `confirm` goes by."""
        parser.add_argument("--yes", action="store_true", help="do it without asking")

    def confirm(self, question: str, options: dict[str, Any]) -> None:
        """Ask, unless --yes was given. Ends with 2 where nobody can answer, and with 1 where the answer is not yes."""
        if options["yes"]:
            return
        if not sys.stdin.isatty():
            raise CommandError(f"{question}\nNobody is there to ask. Add --yes to do it.", returncode=WRONG_USAGE)
        if input(f"{question} Type yes to do it: ").strip().lower() != "yes":
            raise CommandError("nothing was changed.", returncode=FAILED)
