"""Delete the files that nothing refers to any more, and say what was done and what is left.

Exit codes: 0 nothing failed; 1 something failed, or not every table is watched; 2 wrong usage; 3 refused;
128 and the number of a signal, 143 for SIGTERM, where that stopped it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import Any, NoReturn

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser
from django.db import DatabaseError

from pgcleanup.columns import find_file_columns
from pgcleanup.conf import LONGEST, settings
from pgcleanup.drain import DrainReport, FileResult, drain
from pgcleanup.drain.deadline import ending_the_process
from pgcleanup.drain.plan import plan
from pgcleanup.exceptions import DrainRefused, PgcleanupError
from pgcleanup.ledger import state
from pgcleanup.management.output.base import (
    FAILED,
    REFUSED,
    WRONG_USAGE,
    DeletionCommand,
    Ended,
    Line,
    as_json,
    refusals,
)
from pgcleanup.management.output.drained import drained_lines
from pgcleanup.management.output.left import Found
from pgcleanup.management.output.listener import Listener, line_of
from pgcleanup.management.output.machine import drain_fields, file_fields
from pgcleanup.management.output.planned import planned_lines
from pgcleanup.management.output.progress import progress_on
from pgcleanup.management.service import add_watch_arguments, watch, watch_misuse
from pgcleanup.management.stopping import Stop
from pgcleanup.status import coverage_of, too_young
from pgcleanup.status.rights import reported
from pgcleanup.triggers import inspect


class Command(DeletionCommand):
    """`manage.py drain_deletions`."""

    help = (
        "Deletes the files whose names nothing refers to any more, and says what it did, what is left and why. "
        "Run it every few minutes; any number of them may run at once. "
        "Exit code 0: nothing failed; 1: something failed, or not every table is watched; 2: wrong usage; 3: refused; "
        "143: stopped by SIGTERM, 130: by SIGINT."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        self.add_database_argument(parser)
        parser.add_argument("--limit", type=int, metavar="N", help="deal with at most N files")
        parser.add_argument(
            "--grace-period", type=float, metavar="SECONDS", help="instead of PGCLEANUP_GRACE_PERIOD, for this run"
        )
        parser.add_argument(
            "--wait",
            type=float,
            default=0,
            metavar="SECONDS",
            help="wait so long for open transactions that hold files back (0)",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="say what would become of each file, and change nothing"
        )
        parser.add_argument(
            "--accept-absent",
            action="store_true",
            help="believe a storage that suddenly has none of its files, and forget them",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
        parser.add_argument("--no-progress", action="store_true", help="no progress bar on a terminal")
        add_watch_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            # Called from other code, the signals are the caller's.
            tell = partial(self._last_words, as_object=options["json"])
            with Stop(enabled=getattr(self, "_called_from_command_line", False), tell=tell) as stop:
                self._handle(options, stop)
        except Ended:
            raise
        except CommandError as error:
            if options["json"]:
                self.stdout.write(as_json({"exit_code": error.returncode, "error": str(error)}))
            raise

    def _handle(self, options: dict[str, Any], stop: Stop) -> None:
        try:
            self._drain_and_report(options, stop)
        except KeyboardInterrupt:
            raise CommandError(
                "stopped. Nothing is lost: the next drain goes on from here.", returncode=stop.exit_code
            ) from None

    def _drain_and_report(self, options: dict[str, Any], stop: Stop) -> None:
        using = self.known_alias(options["database"])
        limit = options["limit"]
        if limit is not None and limit < 1:
            raise CommandError(f"--limit must be at least 1, not {limit}", returncode=WRONG_USAGE)
        grace = _seconds("--grace-period", options["grace_period"])
        wait = _seconds("--wait", options["wait"])
        if errors := refusals():
            raise CommandError(
                "nothing was deleted, because the settings are wrong:\n" + "\n".join(f"  {error}" for error in errors),
                returncode=REFUSED,
            )
        if problem := watch_misuse(options):
            raise CommandError(problem, returncode=WRONG_USAGE)
        if options["watch"]:
            self._watch(using, limit, grace, wait or timedelta(0), options, stop)
        report, listener, files = self._drain(using, limit, grace, wait or timedelta(0), options, stop)
        exit_code = stop.exit_code if report.stopped else report.exit_code
        if options["json"]:
            fields = {"database": using, **drain_fields(report), **({"files": files} if report.dry_run else {})}
            self.stdout.write(as_json({**fields, "exit_code": exit_code}))
        else:
            lines = drained_lines(report, listener, using, grace, _found(report, using))
            if report.stopped:
                text = f"Stopped by {stop.name} before the end. Nothing is lost: the next drain goes on from here."
                lines.append(Line(text, problem=True))
            if report.dry_run and options["verbosity"] > 1:
                lines += _planned(using)
            self.write_lines(lines, options["verbosity"])
        if exit_code:
            raise Ended("the drain reported problems", returncode=exit_code)

    def _watch(
        self,
        using: str,
        limit: int | None,
        grace: timedelta | None,
        wait: timedelta,
        options: dict[str, Any],
        stop: Stop,
    ) -> NoReturn:
        with ExitStack() as stack:
            if getattr(self, "_called_from_command_line", False):
                stack.enter_context(ending_the_process(partial(self._last_words, as_object=options["json"])))
            watch(using, self.stdout, options, stop, limit=limit, grace=grace, wait=wait)
        raise Ended("told to stop", returncode=stop.exit_code)

    def _drain(
        self,
        using: str,
        limit: int | None,
        grace: timedelta | None,
        wait: timedelta,
        options: dict[str, Any],
        stop: Stop,
    ) -> tuple[DrainReport, Listener, list[dict[str, Any]]]:
        files: list[dict[str, Any]] = []
        try:
            with ExitStack() as stack:
                # Called from other code, the process is not ours to end.
                if getattr(self, "_called_from_command_line", False):
                    stack.enter_context(ending_the_process(partial(self._last_words, as_object=options["json"])))
                listener = Listener(*self._others(stack, using, grace, files, options))
                report = drain(
                    using=using,
                    limit=limit,
                    grace_period=grace,
                    wait=wait,
                    dry_run=options["dry_run"],
                    accept_absent=options["accept_absent"],
                    progress=listener,
                    stop=stop,
                )
        except (DrainRefused, ImproperlyConfigured) as error:
            raise CommandError(f"nothing was deleted: {error}", returncode=REFUSED) from error
        except PgcleanupError as error:
            raise CommandError(str(error), returncode=FAILED) from error
        except DatabaseError as error:
            text = f'database "{using}" reports: {reported(using, error)}'
            raise CommandError(
                f"{text}\nNothing is lost: the next drain goes on from here.", returncode=FAILED
            ) from error
        return report, listener, files

    def _last_words(self, text: str, exit_code: int = FAILED, *, as_object: bool) -> None:
        """Say why the process ends. From another thread, while this one waits for a storage."""
        if as_object:
            self.stdout.write(as_json({"exit_code": exit_code, "error": text}))
        self.stdout.flush()
        self.stderr.write(f"CommandError: {text}")
        self.stderr.flush()

    def _others(
        self,
        stack: ExitStack,
        using: str,
        grace: timedelta | None,
        files: list[dict[str, Any]],
        options: dict[str, Any],
    ) -> Iterator[Callable[[FileResult], Any]]:
        """Yield who hears of each name besides the listener: the terminal, or the list for machines."""
        dry_run, verbosity = options["dry_run"], options["verbosity"]
        if options["json"]:
            if dry_run:
                yield lambda result: files.append(file_fields(result))
            return
        if verbosity >= (1 if dry_run else 2):
            hypothetical = dry_run or not settings.delete_files
            yield lambda result: self.stdout.write(line_of(result, hypothetical=hypothetical))
        elif verbosity and sys.stderr.isatty() and not options["no_progress"]:
            yield stack.enter_context(progress_on(sys.stderr, _due(using, grace)))


def _planned(using: str) -> list[Line]:
    try:
        return list(planned_lines(plan(using)))
    except DatabaseError as error:
        return [Line(f"The plan cannot be told at the moment: {str(error).splitlines()[0]}")]


def _found(report: DrainReport, using: str) -> Found:
    """Ask for what the report does not tell, where there is any of it."""
    inspection = inspect(using) if report.uncovered else None
    return Found(
        too_young=too_young(using) if report.waiting.get("upload_window") else (),
        enable=[statement for _, statement in coverage_of(inspection).disabled] if inspection is not None else (),
    )


def _seconds(option: str, value: float | None) -> timedelta | None:
    if value is None:
        return None
    try:
        duration: timedelta | None = timedelta(seconds=value)
    except (ValueError, OverflowError):
        duration = None
    if duration is None or not timedelta(0) <= duration <= LONGEST:
        longest = f"{LONGEST.total_seconds():.0f}"
        raise CommandError(
            f"{option} takes a number of seconds from 0 to {longest}, which is 100 years, not {value:.15g}",
            returncode=WRONG_USAGE,
        )
    return duration


def _due(using: str, grace: timedelta | None) -> int | None:
    """Return how many names a drain would deal with, for the length of a progress bar; None where nobody knows."""
    grace = settings.grace_period if grace is None else grace
    try:
        waiting = state.waiting(using, grace, find_file_columns(using))
    except DatabaseError:
        return None
    # What no drain has seen yet is seen by this one.
    return waiting.get("due", 0) + (0 if grace else waiting.get("grace_period", 0))
