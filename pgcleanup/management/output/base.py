"""What the commands have in common: exit codes, and refusing to work with settings that make no sense."""

from __future__ import annotations

import json
import sys
from argparse import SUPPRESS
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TextIO

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections

from pgcleanup import checks
from pgcleanup.management.output.stream import Output
from pgcleanup.status.words import in_utc

FAILED, WRONG_USAGE, REFUSED = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a report."""

    text: str
    problem: bool = False
    """Whether it is printed even where only problems are."""


class Ended(CommandError):
    """The command has said what there is to say, and ends with an exit code other than 0."""


class DeletionCommand(BaseCommand):
    """A command that works on one database and ends with an exit code that says how it went."""

    # Our own checks are looked at by the command itself: others' must not stop the drain.
    requires_system_checks = []

    def __init__(
        self,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        no_color: bool = False,
        force_color: bool = False,
    ) -> None:
        outputs: Any = Output(stdout or sys.stdout), Output(stderr or sys.stderr)
        super().__init__(outputs[0], outputs[1], no_color, force_color)
        self._outputs = outputs

    def run_from_argv(self, argv: list[str]) -> None:
        """Run as a process of its own, in which receivers and storages that print are as safe as we are."""
        for output in self._outputs:
            output.is_of_the_process = True
        out, error = self._outputs
        with redirect_stdout(out), redirect_stderr(error):
            super().run_from_argv(argv)

    def add_database_argument(self, parser: CommandParser) -> None:
        """Add `--database`."""
        parser.add_argument(
            "--database", default=DEFAULT_DB_ALIAS, metavar="ALIAS", help='the database, by its alias ("default")'
        )

    def repeat_common_arguments(self, parser: CommandParser) -> None:
        """Let a subcommand take Django's own options after its name, too, where people write them."""
        parser.add_argument("-v", "--verbosity", type=int, choices=[0, 1, 2, 3], default=SUPPRESS, help=SUPPRESS)
        for option in ("--settings", "--pythonpath"):
            parser.add_argument(option, default=SUPPRESS, help=SUPPRESS)
        for option in ("--traceback", "--no-color", "--force-color"):
            parser.add_argument(option, action="store_true", default=SUPPRESS, help=SUPPRESS)

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run; what has been printed in full already ends without one more line on stderr."""
        for name in ("stdout", "stderr"):
            if options.get(name):
                options[name] = Output(options[name])
        result: str | None = None
        ended: Ended | None = None
        try:
            result = super().execute(*args, **options)
        except Ended as error:
            ended = error
        self.stdout.flush()
        lost = self.output_error
        # A reader that has gone has read what it wanted.
        if lost is not None and not isinstance(lost, BrokenPipeError):
            code = ended.returncode if ended is not None else FAILED
            raise CommandError(f"the output could not be written: {lost}", returncode=code)
        if ended is not None:
            # A private name of Django's, documented nowhere else: call_command() must get the exception.
            if getattr(self, "_called_from_command_line", False):
                sys.exit(ended.returncode)
            raise ended
        return result

    @property
    def output_error(self) -> OSError | ValueError | None:
        """Why what is written to standard output is dropped by now, if so."""
        stdout: Any = self.stdout
        error: OSError | ValueError | None = stdout.error
        return error

    def known_alias(self, alias: str) -> str:
        """Return the alias, or end with 2 where DATABASES has no such name."""
        if alias not in connections.databases:
            known = ", ".join(sorted(connections.databases))
            raise CommandError(f'there is no database "{alias}" in DATABASES, which has: {known}', returncode=2)
        return alias

    def write_lines(self, lines: list[Line], verbosity: int) -> None:
        """Write a report, problems in the colour of a warning; with verbosity 0 nothing but them."""
        for line in lines:
            if verbosity or line.problem:
                self.stdout.write(line.text, self.style.WARNING if line.problem else None)


def refusals() -> list[str]:
    """Return a sentence for each error of our own checks, with its id: every drain refuses to start with one."""
    return [f"{error.id}: {error.msg} {error.hint or ''}".rstrip() for error in checks.errors()]


def as_json(value: Any) -> str:
    """Return a value as JSON: durations in seconds, times as ISO 8601 in UTC."""
    return json.dumps(value, default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, datetime):
        return in_utc(value).isoformat()
    raise TypeError(f"{type(value).__name__} has no place in a report")
