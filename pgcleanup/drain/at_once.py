"""Names that are kept without a look: before grace and fence, by row limit, never loaded into Python whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from pgcleanup.columns import default_names, ignored_sources
from pgcleanup.drain import closing
from pgcleanup.drain.agreement import ADVICE, disagreements
from pgcleanup.drain.context import Context, Name
from pgcleanup.drain.report import FileResult
from pgcleanup.ledger import settling, state
from pgcleanup.models import Outcome
from pgcleanup.triggers import Inspection


def settle_at_once(context: Context, inspection: Inspection) -> Iterator[str]:
    """Settle as kept the names that are defaults, and those of columns that are excluded by now.

    Not where this process and the database disagree about the columns of a storage: what is a default or
    excluded here may be neither.
    """
    for key in context.stores:
        for name in sorted(_agreed_defaults(context, inspection, key)):
            sources = context.sources_of(key)
            yield from _kept(context, partial(settling.settle_default, context.using, name, sources), "default")
    excluded = _excluded(context, inspection)
    if excluded:
        yield from _kept(context, partial(settling.settle_excluded, context.using, excluded), "excluded")


def find_defaults(context: Context) -> None:
    """Note the names that are a field's default, by storage. One whose default fails is refused."""
    for key, store in context.stores.items():
        try:
            context.defaults[key] = default_names(c for c in context.columns.stored if c.storage_key == key)
        except Exception as error:  # whatever a callable default raises: no name may go that could be one
            context.tally.refused[key] = f"{store.label}: a default of its fields fails: {error!r}"


def _agreed_defaults(context: Context, inspection: Inspection, key: str) -> set[str]:
    known = [(row.source, row.storage_key) for row in inspection.known]
    if context.compare_columns and disagreements(context.columns, known, key):
        return set()
    return context.defaults.get(key, set())


def _excluded(context: Context, inspection: Inspection) -> list[str]:
    """Return the excluded sources that the database does not record any more.

    One that it still records is excluded by this process alone, which runs other settings than the last
    `migrate` did: nothing of its storage is touched.
    """
    known = {row.source for row in inspection.known}
    agreed = [source for source in ignored_sources() if source not in known or not context.compare_columns]
    excluded = [column for column in context.columns.stored if column.excluded]
    # Of a long ledger it takes as long as the deletion of some hundred files.
    pending = state.sources(context.using) if excluded else []
    for column in excluded:
        if column.source not in pending or column.storage_key not in context.stores:
            continue
        if context.compare_columns and inspection.still_records(column):
            context.tally.refused[column.storage_key] = (
                f"{context.stores[column.storage_key].label}: {column.source} is excluded here, but the database "
                f"records it. {ADVICE}"
            )
        else:
            agreed.append(column.source)
    return agreed


def _kept(context: Context, settle: Callable[[str], set[Name]], reason: str) -> Iterator[str]:
    """Settle round by round, each committed by itself, and count each name once."""
    before: set[Name] = set()
    while taken := closing.in_transaction(context.using, partial(settle, context.drained_by)):
        for source, name in taken - before:
            context.tally.add(FileResult(source, name, Outcome.KEPT, detail=reason))
        before = taken
        yield "settled at once"
