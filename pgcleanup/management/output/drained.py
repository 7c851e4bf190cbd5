"""A drain's report as lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from django.utils.text import capfirst

from pgcleanup.conf import settings
from pgcleanup.drain import DrainReport
from pgcleanup.management.output.base import Line
from pgcleanup.management.output.left import Found, due_lines, left_sentence, trouble_lines
from pgcleanup.management.output.listener import Listener
from pgcleanup.management.output.waiting import error_lines, held_lines
from pgcleanup.models import Outcome
from pgcleanup.status.words import duration, number, period, plural, size

ORDER = [
    Outcome.DELETED,
    Outcome.KEPT,
    Outcome.ABSENT,
    Outcome.CANCELLED,
    Outcome.REJECTED,
    Outcome.POSTPONED,
    Outcome.EXHAUSTED,
]
_TO_COME = {
    Outcome.DELETED: "to delete",
    Outcome.KEPT: "to keep",
    Outcome.ABSENT: "absent",
    Outcome.CANCELLED: "cancelled",
    Outcome.REJECTED: "to reject",
    Outcome.POSTPONED: "to retry",
    Outcome.EXHAUSTED: "to give up",
}


@dataclass(frozen=True, slots=True)
class Printed:
    """A report with all that its text depends on."""

    report: DrainReport
    listener: Listener
    using: str
    asked_grace: timedelta | None
    delete_files: bool
    found: Found

    @property
    def hypothetical(self) -> bool:
        """Whether the counts are of what would happen."""
        return self.report.dry_run or not self.delete_files

    @property
    def nothing_done(self) -> bool:
        """Whether no name was dealt with."""
        return not any(self.report.counts.values())

    @property
    def nothing_but_grace(self) -> bool:
        """Whether all that there is waits out its grace period, as it should."""
        return self.nothing_done and set(self.report.waiting) == {"grace_period"}

    @property
    def late(self) -> bool:
        """Whether the oldest file is over PGCLEANUP_MAX_AGE, and nobody wants it so."""
        oldest = self.report.oldest_pending
        return oldest is not None and oldest > settings.max_age and self.delete_files

    @property
    def held(self) -> int:
        """Names that are past their grace period and wait for a transaction."""
        waiting = self.report.waiting
        return waiting.get("transaction", 0) + (waiting.get("due", 0) if self.report.prepared else 0)

    def lines(self) -> Iterator[Line]:
        """Yield the whole report: what went wrong, what was done, what is left and why, what to do."""
        report = self.report
        for sentence in (*report.refused, *report.problems):
            yield Line(f"{capfirst(sentence)}.".replace("..", "."), problem=True)
        headline = self._headline()
        yield Line(headline)
        yield from self._table()
        if self.held:
            if headline != self._held_headline():
                yield Line(self._held_headline().removeprefix("Nothing deleted: "))
            yield from held_lines(report.holders, report.prepared, self.held)
        if self.nothing_but_grace:
            # A dry run has said it of each name.
            yield from () if report.dry_run else due_lines(report.first_names, report.waiting["grace_period"])
        elif report.waiting:
            yield Line(left_sentence(report, late=self.late))
        if report.waiting.get("upload_window") and not report.dry_run:
            yield from due_lines(self.found.too_young, report.waiting["upload_window"])
        yield from error_lines(report.errors, self.using)
        yield from self._late()
        yield from trouble_lines(report, self.found.enable, self._command)
        yield from self._grace_kept()
        yield from self._first_steps()

    def _headline(self) -> str:
        report = self.report
        deleted = report.counts.get(Outcome.DELETED, 0)
        files = f"{plural(deleted, 'file')} ({size(report.bytes_deleted)})" if deleted else "no file"
        if report.dry_run:
            later = self.listener.deleted_later
            when = ", not due yet" if later == deleted else f", {number(later)} of them not due yet"
            return f"Dry run, nothing was changed: would delete {files}{when if later else ''}."
        if not self.delete_files:
            return f"Would delete {files}; nothing is deleted because PGCLEANUP_DELETE_FILES is False."
        if deleted:
            return f"Deleted {files} in {report.seconds:.1f} s."
        if not self.nothing_done:
            return f"Nothing deleted, but {plural(sum(report.counts.values()), 'name')} looked at:"
        if self.held:
            return self._held_headline()
        if self.nothing_but_grace:
            waiting = report.waiting["grace_period"]
            verb = "waits" if waiting == 1 else "wait"
            own = "PGCLEANUP_GRACE_PERIOD" if report.grace_period == settings.grace_period else "--grace-period"
            return (
                f"Nothing deleted yet: {plural(waiting, 'file')} {verb} out the grace period of "
                f"{period(report.grace_period)} ({own})."
            )
        return "Nothing deleted." if report.waiting else "Nothing to delete: no file is waiting."

    def _held_headline(self) -> str:
        report = self.report
        verb = "is past its grace period but waits" if self.held == 1 else "are past the grace period but wait"
        if report.prepared:
            what = plural(len(report.prepared), "prepared transaction")
        else:
            what = plural(len(report.holders), "open transaction") if report.holders else "open transactions"
        its = "its name" if self.held == 1 else "their names"
        return f"Nothing deleted: {plural(self.held, 'file')} {verb} for {what}, which could still write {its} back."

    def _table(self) -> Iterator[Line]:
        counts = self.report.counts
        found = [outcome for outcome in ORDER if counts.get(outcome)]
        if found == [Outcome.DELETED]:
            return  # the headline has said it
        words = {outcome: _TO_COME[outcome] if self.hypothetical else str(outcome.label) for outcome in found}
        width = max(map(len, words.values()), default=0)
        digits = max((len(number(counts[outcome])) for outcome in found), default=0)
        for outcome in found:
            text = f"  {words[outcome]:<{width}}  {number(counts[outcome]):>{digits}}   {self._note(outcome)}"
            yield Line(text, problem=outcome in (Outcome.POSTPONED, Outcome.EXHAUSTED))

    def _note(self, outcome: Outcome) -> str:
        match outcome:
            case Outcome.DELETED:
                return size(self.report.bytes_deleted)
            case Outcome.KEPT:
                return self.listener.kept_reasons(self.report.counts[outcome])
            case Outcome.ABSENT:
                return "was already gone" if self.report.counts[outcome] == 1 else "were already gone"
            case Outcome.CANCELLED:
                return "cancelled before the file was due"
            case Outcome.REJECTED:
                return f"not the name of a file to delete: {self.listener.examples(outcome)}"
            case Outcome.POSTPONED:
                return "could not be deleted, and will be tried again"
        return "could not be deleted, and no attempt is left"

    def _late(self) -> Iterator[Line]:
        oldest = self.report.oldest_pending
        if self.late and oldest is not None:
            began = " It waits on, since that began with the first drain that saw it." if self.nothing_but_grace else ""
            yield Line(
                f"Behind: the oldest pending file is {duration(oldest)} past its grace period, more than "
                f"PGCLEANUP_MAX_AGE ({period(settings.max_age)}).{began} "
                f"Details: {self._command('pgcleanup status')}",
                problem=True,
            )
        elif self.report.problems:
            yield Line(
                "Nothing is lost: the next drains retry, and an outage uses up no attempts. "
                f"Details: {self._command('pgcleanup status')}"
            )

    def _grace_kept(self) -> Iterator[Line]:
        if self.asked_grace is not None and self.asked_grace < self.report.grace_period:
            yield Line(
                f"The grace period was {period(self.report.grace_period)} all the same (PGCLEANUP_GRACE_PERIOD): other "
                "databases of the project may name the same files, and nothing else protects those."
            )

    def _first_steps(self) -> Iterator[Line]:
        report = self.report
        if not report.first_drain or report.dry_run:
            return
        triggers = "" if report.uncovered else ", all triggers are in place"
        watched = f"{plural(report.columns, 'file column')} in {plural(report.tables, 'table')}"
        verb = "is" if report.columns == 1 else "are"
        yield Line(f"First drain of this database. {watched} {verb} watched{triggers}.")
        drain = self._command("drain_deletions")
        yield Line(f"Next: run this command every few minutes, for example from cron: */5 * * * * {drain} -v 0")

    def _command(self, command: str) -> str:
        return f"manage.py {command}" + ("" if self.using == "default" else f" --database {self.using}")


def drained_lines(
    report: DrainReport, listener: Listener, using: str, asked_grace: timedelta | None, found: Found
) -> list[Line]:
    """Return the text of a report; `asked_grace` is the grace period that somebody asked for, if any."""
    return list(Printed(report, listener, using, asked_grace, settings.delete_files, found).lines())
