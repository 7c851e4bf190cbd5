"""What a drain would do to each name, changing nothing: no stamp, no lock, no signal, no deletion."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from django.db import DatabaseError

from pgcleanup import references
from pgcleanup.conf import settings
from pgcleanup.drain import absence, decide
from pgcleanup.drain.agreement import refusal
from pgcleanup.drain.closing import close_storage
from pgcleanup.drain.context import Context, Name
from pgcleanup.drain.decide import Left, Settled
from pgcleanup.drain.guard import is_lost
from pgcleanup.drain.poison import is_about_the_check
from pgcleanup.drain.report import FileResult
from pgcleanup.drain.store import Store, error_text
from pgcleanup.exceptions import OtherDatabaseFailed
from pgcleanup.ledger import fence, state
from pgcleanup.ledger.claims import Claim
from pgcleanup.ledger.fence import drain_transaction
from pgcleanup.models import Outcome
from pgcleanup.references import Answer
from pgcleanup.storages import Adapter, Seen

_PAGE = 1_000
_EXHAUSTED, _FENCED = 8, 11  # in a row of state.pages


def forecast(context: Context, limit: int | None, *, due_only: bool = False) -> None:
    """Tell the context's tally what would become of up to `limit` names, oldest entry first.

    A name in several pages of the ledger counts in the first. With `due_only`, names that still wait are
    left out.
    """
    told: set[Name] = set()
    context.prepared = fence.prepared_names(context.using)
    results = (result for page in state.pages(context.using, _PAGE) for result in _page(context, page, told))
    if due_only:
        results = (result for result in results if result.due_at is None)
    for result in islice(results, limit):
        context.tally.add(result)


def _page(context: Context, rows: list[tuple[Any, ...]], told: set[Name]) -> Iterator[FileResult]:
    sources = {column.source: column for column in context.columns.stored}
    groups: dict[Name, list[tuple[Any, ...]]] = {}
    for row in rows:
        column = sources.get(row[1])
        if column is not None and column.storage_key is not None and (column.storage_key, row[2]) not in told:
            groups.setdefault((column.storage_key, row[2]), []).append(row)
    told.update(groups)
    # A storage that cannot be set up has no entry among the stores; a check names it.
    for key in dict.fromkeys(key for key, _ in groups if key in context.stores):
        mine = {name: entries for (place, name), entries in groups.items() if place == key}
        answer = _answer(context, key, mine)
        if answer is None:
            continue
        now = state.now(context.using)
        yield from _trusted(context, key, _results(context, key, mine, answer, now))


def _trusted(context: Context, key: str, results: list[FileResult]) -> list[FileResult]:
    """Return the results, with another one for absent files where the storage is not to be believed about them."""
    store, looked, filled = context.stores[key], absence.Looked(), set[str]()
    for result in results:
        if result.outcome in (Outcome.ABSENT, Outcome.DELETED) or result.waiting == "upload_window":
            looked.add(is_there=result.outcome is not Outcome.ABSENT)
            if looked.found_last:
                filled.add(absence.folder_of(result.name))
    if not looked.absent or context.accept_absent:
        return results
    lately = absence.settled_lately(context.using, context.sources_of(key))
    witnesses = context.witnesses(key)
    reason = absence.distrust(store.adapter, looked, lately, witnesses)
    absent = [result.name for result in results if result.outcome is Outcome.ABSENT]
    folders = {} if reason else absence.distrusted_folders(store.adapter, absent, filled, witnesses)
    if reason is not None:
        context.tally.problem(absence.cannot_be_trusted(store.label, reason))
    for folder, why in folders.items():
        context.tally.problem(absence.cannot_be_trusted(f"{store.label}, folder {folder}", why))
    return [_distrusted(result, reason or folders.get(absence.folder_of(result.name))) for result in results]


def _distrusted(result: FileResult, reason: str | None) -> FileResult:
    if reason is None or result.outcome is not Outcome.ABSENT:
        return result
    return result._replace(outcome=Outcome.POSTPONED, detail=reason)


def _answer(context: Context, key: str, groups: dict[str, list[tuple[Any, ...]]]) -> Answer | None:
    names = list(groups)
    try:
        with drain_transaction(context.using):
            answer = references.check(context.using, context.columns, key, names, None, context.grace)
        answer.add(context.elsewhere.check(key, names, context.grace))
    except OtherDatabaseFailed as error:
        close_storage(context, key, error)
        return None
    except DatabaseError as error:
        if is_lost(context.using, context.session) or not is_about_the_check(error):
            raise
        close_storage(context, key, error)
        return None
    store = context.stores[key]
    why = refusal(context.columns, answer, key, store.adapter.storage)
    if context.compare_columns and why is not None:
        context.tally.refused[key] = f"{store.label}: {why}"
        return None
    return answer


def _results(
    context: Context, key: str, groups: dict[str, list[tuple[Any, ...]]], answer: Answer, now: datetime
) -> list[FileResult]:
    claims = [_claim(key, name, entries) for name, entries in groups.items()]
    early = {claim.name: _without_look(context, claim, groups[claim.name], answer, now) for claim in claims}
    seen = _look(context.stores[key], [claim for claim in claims if early[claim.name] is None])
    return [
        early[claim.name] or _after_look(claim, seen[claim.name], _due_at(groups[claim.name], context.grace, now), now)
        for claim in claims
    ]


def _look(store: Store, claims: list[Claim]) -> dict[str, Seen | Exception]:
    """Look at all names, as many together as a drain would at most."""
    by_adapter: dict[Adapter, list[str]] = {}
    for claim in claims:
        by_adapter.setdefault(store.adapter_of(claim), []).append(claim.name)
    unanswered: Seen | Exception = ConnectionError("nothing else was answered either, so this name was not asked for")
    found = {claim.name: unanswered for claim in claims}
    for adapter, names in by_adapter.items():
        for start in range(0, len(names), adapter.at_once):
            together = names[start : start + adapter.at_once]
            try:
                found |= adapter.look_many(together)
            except Exception as error:  # whatever a storage raises
                found |= dict.fromkeys(together, error)
    return found


def _without_look(
    context: Context, claim: Claim, entries: list[tuple[Any, ...]], answer: Answer, now: datetime
) -> FileResult | None:
    """Return what is known of a name without a look at its file."""
    due_at = _due_at(entries, context.grace, now)
    if all(entry[_EXHAUSTED] for entry in entries):
        return FileResult(claim.source, claim.name, waiting="failed", detail="no attempt left")
    if any(entry[_FENCED] for entry in entries) or context.prepared:
        held = "held by a prepared transaction" if context.prepared else "held by an open transaction"
        return FileResult(claim.source, claim.name, waiting="transaction", detail=held, due_at=due_at)
    if (reason := context.kept_at_once(claim)) is not None:
        return FileResult(claim.source, claim.name, Outcome.KEPT, detail=reason)
    decision = decide.before_looking(claim, answer)
    return None if decision is None else _decided(claim, decision, due_at)


def _after_look(claim: Claim, seen: Seen | Exception, due_at: datetime | None, now: datetime) -> FileResult:
    if isinstance(seen, Exception):
        return FileResult(claim.source, claim.name, Outcome.POSTPONED, detail=error_text(seen), due_at=due_at)
    decision = decide.after_looking(seen, settings.upload_window)
    # Too young now, but not any more once it is due.
    if decision is None or (isinstance(decision, Left) and due_at and due_at - now >= decision.wait):
        return FileResult(claim.source, claim.name, Outcome.DELETED, bytes=seen.size or 0, due_at=due_at)
    return _decided(claim, decision, due_at)


def _decided(claim: Claim, decision: Settled | Left, due_at: datetime | None) -> FileResult:
    if isinstance(decision, Settled):
        return FileResult(claim.source, claim.name, decision.outcome, detail=decision.reason, due_at=due_at)
    return FileResult(claim.source, claim.name, waiting=decision.waiting, detail=decision.detail, due_at=due_at)


def _claim(key: str, name: str, entries: list[tuple[Any, ...]]) -> Claim:
    newest = entries[-1]
    return Claim(
        storage_key=key,
        name=name,
        ids=tuple(entry[0] for entry in entries),
        keep=any(entry[5] for entry in entries),
        cancelled=any(entry[6] for entry in entries),
        attempts=max(entry[7] for entry in entries),
        sources=tuple(sorted({entry[1] for entry in entries})),
        source=newest[1],
    )


def _due_at(entries: list[tuple[Any, ...]], grace: timedelta, now: datetime) -> datetime | None:
    """Return when the name is due at the earliest, or None where it is due now, by the database's time.

    One that no drain has seen yet is due a grace period after the next drain, which may be now.
    """
    times = []
    for _, _, _, _, _, _, _, _, _, stamped_at, retry_at, fenced in entries:
        due = (stamped_at or now) + grace
        times.append(max(due, retry_at or due, now if fenced else due))
    latest = max(times)
    return latest if latest > now else None
