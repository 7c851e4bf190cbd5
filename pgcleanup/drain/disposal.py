"""What the ledger is to be told of a batch, and what to report of it once that is committed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from pgcleanup.drain.decide import Left, Settled
from pgcleanup.drain.report import FileResult
from pgcleanup.drain.store import error_text
from pgcleanup.ledger.claims import Claim
from pgcleanup.ledger.settling import PUT_OFF, Leave, Postponement, Record, Settlement, down_wait
from pgcleanup.models import Outcome

_OUTCOMES = {outcome.value: outcome for outcome in Outcome}


@dataclass(slots=True)
class Disposal:
    """What the ledger is to be told of a batch."""

    records: list[tuple[Claim, Record]] = field(default_factory=list)
    held: list[Claim] = field(default_factory=list)
    """Names that were stamped anew, and wait for the transactions of that stamp."""

    def settle(self, claim: Claim, outcome: str, reason: str = "", size: int | None = None) -> None:
        """The name is done with."""
        self.records.append((claim, Settlement(claim.ids, outcome, reason, size)))

    def leave(self, claim: Claim, left: Left) -> None:
        """The name waits."""
        self.records.append((claim, Leave(claim.ids, left.wait, f"{left.waiting}: {left.detail}")))

    def decide(self, claim: Claim, decision: Settled | Left) -> None:
        """The name is settled or waits, as decided."""
        if isinstance(decision, Settled):
            self.settle(claim, decision.outcome.value, decision.reason)
        else:
            self.leave(claim, decision)

    def postpone(self, claim: Claim, error: Exception) -> None:
        """The name failed, and is retried as long as it has attempts left."""
        self.records.append((claim, Postponement(claim.ids, claim.attempts + 1, error_text(error))))

    def put_off(self, claim: Claim, reason: str, wait: timedelta | None = None) -> None:
        """The storage as a whole failed: retried, without counting an attempt."""
        self.records.append((claim, Leave(claim.ids, wait or down_wait(), PUT_OFF + reason)))

    def results(self) -> Iterator[FileResult]:
        """Yield what to report of each name, once it is committed."""
        yield from (_result(claim, record) for claim, record in self.records)
        for claim in self.held:
            yield FileResult(claim.source, claim.name, waiting="transaction", detail="it may have been read there")


def _result(claim: Claim, record: Record) -> FileResult:
    if isinstance(record, Settlement):
        return FileResult(
            claim.source,
            claim.name,
            _OUTCOMES[record.outcome],
            detail=record.reason,
            bytes=record.bytes or 0,
            pending_seconds=claim.pending_seconds,
        )
    if isinstance(record, Postponement):
        outcome = Outcome.EXHAUSTED if record.is_last else Outcome.POSTPONED
        return FileResult(claim.source, claim.name, outcome, detail=record.error)
    if record.reason.startswith(PUT_OFF):
        return FileResult(claim.source, claim.name, Outcome.POSTPONED, detail=record.reason.removeprefix(PUT_OFF))
    waiting, _, detail = record.reason.partition(": ")
    return FileResult(claim.source, claim.name, waiting=waiting, detail=detail)
