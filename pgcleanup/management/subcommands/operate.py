"""`manage.py pgcleanup retry` and `cancel`: by name, by filter, or all."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from django.core.management.base import CommandError, CommandParser

from pgcleanup.columns import find_file_columns
from pgcleanup.ledger import state
from pgcleanup.ledger.operating import Operated, Selection, names_by_storage, operate
from pgcleanup.management.output.base import FAILED, WRONG_USAGE, Ended
from pgcleanup.management.subcommands.base import Subcommand
from pgcleanup.status.words import listed, plural, shown

_EXIT_CODES = "Exit code 0: done; 1: not for all of them, or you said no; 2: wrong usage, or nobody could be asked."


class Operation(Subcommand):
    """What retry and cancel have in common: which names are meant, and what is said of them."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("names", nargs="*", metavar="NAME", help="a file name as the ledger has it")
        parser.add_argument(
            "--source", action="append", metavar="LABEL", help="files of this field: app.model.field; may be repeated"
        )
        parser.add_argument("--failed", action="store_true", help="files that failed for good")
        parser.add_argument("--all", action="store_true", help="all that is pending; asks first")
        self.add_yes_argument(parser)

    def run(self, using: str, options: dict[str, Any]) -> None:
        selection = self._selection(using, options)
        columns = find_file_columns(using)
        if options["all"]:
            self.confirm(self.question(using, sum(names_by_storage(using, columns).values())), options)
        done = operate(using, self.name, selection, columns)
        if options["verbosity"] or done.busy or done.not_pending:
            self._report(done)
        if done.busy or done.not_pending:
            raise Ended("not all of the files", returncode=FAILED)

    def _selection(self, using: str, options: dict[str, Any]) -> Selection:
        names, sources, failed = options["names"], options["source"], options["failed"]
        if options["all"] and (names or sources or failed):
            raise CommandError("--all stands for itself: give it alone.", returncode=WRONG_USAGE)
        if not (options["all"] or names or sources or failed):
            raise CommandError("which files? Give names, --source, --failed or --all.", returncode=WRONG_USAGE)
        self.inspection(using)
        known = {column.source for column in find_file_columns(using).stored}
        for source in sources or ():
            if source not in known and source not in (pending := state.sources(using)):
                there = listed(sorted({*known, *pending}), limit=20)
                raise CommandError(f'there is no file field "{source}". There are: {there}', returncode=WRONG_USAGE)
        return Selection(names=tuple(names) or None, sources=tuple(sources) if sources else None, failed=failed)

    def _report(self, done: Operated) -> None:
        if done.changed or not (done.unchanged or done.busy or done.not_pending):
            self.say(self.changed(done.changed))
        if done.unchanged:
            self.say(f"{self.unchanged}: {_named(done.unchanged)}.")
        if done.busy:
            self.say(
                f"Being worked on right now, so left as {'it is' if len(done.busy) == 1 else 'they are'}: "
                f"{_named(sorted(name for _, name in done.busy))}. Run the command again in a minute.",
                problem=True,
            )
        if done.not_pending:
            self.say(f"Not pending: {_named(done.not_pending)}.", problem=True)

    unchanged: str
    """What is said of names for which nothing had to be done."""

    @abstractmethod
    def question(self, using: str, names: int) -> str:
        """Return what to ask before all of so many names are changed."""

    @abstractmethod
    def changed(self, names: int) -> str:
        """Return what is said of so many names that were changed."""


class Retry(Operation):
    """Tries files again."""

    name = "retry"
    writes = True
    help = "try files again that failed, or that wait for a retry"
    description = (
        "Lets the next drain try files again that failed for good or wait for a retry, with all their attempts. Files "
        f"that wait for anything else go on waiting. {_EXIT_CODES}"
    )
    unchanged = "Nothing to retry, the next drain looks at it anyway"

    def question(self, using: str, names: int) -> str:
        return f'Try all of the {plural(names, "pending file")} of database "{using}" again that failed or wait?'

    def changed(self, names: int) -> str:
        return f"{plural(names, 'file')} will be tried again by the next drain." if names else "Nothing to retry."


class Cancel(Operation):
    """Lets files be kept."""

    name = "cancel"
    writes = True
    help = "keep files that are pending"
    description = (
        "Keeps files that are pending: they are settled as cancelled by the drain that would have deleted them, and "
        f"stay in the storage. A name that is let go once more later is a new entry. {_EXIT_CODES}"
    )
    unchanged = "Cancelled before"

    def question(self, using: str, names: int) -> str:
        return f'Keep all of the {plural(names, "pending file")} of database "{using}", for good?'

    def changed(self, names: int) -> str:
        if not names:
            return "Nothing to cancel."
        return f"{plural(names, 'file')} cancelled: {'it stays' if names == 1 else 'they stay'} in the storage."


def _named(names: Any) -> str:
    return listed([shown(name) for name in names])
