"""What the command hears while a drain runs: the names of a dry run, the reasons, a progress bar."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from pgcleanup.drain import FileResult
from pgcleanup.models import Outcome
from pgcleanup.status.words import ahead, kept_because, number, shown, size

_EXAMPLES = 3

_WOULD = {
    Outcome.DELETED: "would delete",
    Outcome.KEPT: "would keep",
    Outcome.ABSENT: "absent",
    Outcome.REJECTED: "would reject",
    Outcome.CANCELLED: "would cancel",
    Outcome.POSTPONED: "would fail",
    Outcome.EXHAUSTED: "would fail",
}


class Listener:
    """Counts what the report does not tell; its size does not grow with the number of names."""

    def __init__(self, *others: Callable[[FileResult], Any]) -> None:
        self.others = others
        """Who else hears of each name."""
        self.deleted_later = 0
        """In a dry run: how many of the names to delete are not due yet."""
        self._kept: Counter[str] = Counter()
        self._examples: dict[Outcome, list[str]] = {}

    def __call__(self, result: FileResult) -> None:
        """Hear of one name."""
        outcome = result.outcome
        if outcome is Outcome.KEPT:
            because = kept_because(result.detail)
            self._kept["still named by another row" if because.startswith("still named") else because] += 1
        elif outcome is Outcome.REJECTED:
            examples = self._examples.setdefault(outcome, [])
            if len(examples) < _EXAMPLES:
                examples.append(f"{shown(result.name, 40)} ({result.detail})")
        elif outcome is Outcome.DELETED and result.due_at is not None:
            self.deleted_later += 1
        for other in self.others:
            other(result)

    def kept_reasons(self, total: int) -> str:
        """Return why names were kept. Those settled without a look at their rows are not heard of one by one."""
        reasons = Counter(self._kept)
        if (rest := total - reasons.total()) > 0:
            reasons["a default of a field, or of an excluded column"] += rest
        if len(reasons) == 1:
            return next(iter(reasons))
        return ", ".join(f"{number(count)} {reason}" for reason, count in reasons.most_common())

    def examples(self, outcome: Outcome) -> str:
        """Return a few of the names with this outcome, and why."""
        return "; ".join(self._examples.get(outcome, []))


def line_of(result: FileResult, *, hypothetical: bool) -> str:
    """Return what became of a name, or what would, as one line."""
    if result.outcome is None:
        verb, detail = "would wait" if hypothetical else "waits", result.detail
        if result.waiting == "upload_window":
            detail += ", within PGCLEANUP_UPLOAD_WINDOW"
    elif result.outcome is Outcome.DELETED:
        verb, detail = _WOULD[result.outcome] if hypothetical else "deleted", size(result.bytes)
    else:
        verb = _WOULD[result.outcome] if hypothetical else str(result.outcome.label)
        detail = result.detail
        if result.outcome is Outcome.KEPT:
            detail = kept_because(detail)
    due = f"due {ahead(result.due_at)}" if result.due_at is not None else ""
    note = "; ".join(part for part in (detail, due) if part)
    return f"{verb:<13} {shown(result.name)}" + (f"   {note}" if note else "")
