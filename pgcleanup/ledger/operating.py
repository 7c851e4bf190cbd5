"""What people do to pending names: try them again, or cancel them. By whole names, as a drain claims them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pgcleanup import sql
from pgcleanup.columns import FileColumns
from pgcleanup.ledger.fence import drain_transaction

_PAGE_SIZE = 5_000

Name = tuple[str, str]  # storage key, name
Ids = tuple[int, int]  # after the first, up to the second
_LAST = 2**63 - 1

# What each of the two has to do with an entry, and what it does. A cancelled name gives up its wait, too:
# one that failed for good would never be picked, and so never be settled.
_CHANGES = {
    "retry": (
        "(p.attempts > 0 OR p.retry_at IS NOT NULL OR p.exhausted_at IS NOT NULL)",
        "attempts = 0, retry_at = NULL, exhausted_at = NULL",
    ),
    "cancel": (
        "(p.cancelled_at IS NULL OR p.retry_at IS NOT NULL)",
        "cancelled_at = coalesce(p.cancelled_at, clock_timestamp()), retry_at = NULL, exhausted_at = NULL",
    ),
}

_LAST_ID = "SELECT coalesce(max(id), 0) FROM pending_file_deletion"

_PAGE = """
SELECT p.id, p.source, p.name
  FROM pending_file_deletion p
 WHERE p.id > %(after)s AND p.id <= %(until)s
   AND (%(sources)s::text[] IS NULL OR p.source = ANY (%(sources)s))
   AND (p.exhausted_at IS NOT NULL OR NOT %(failed)s)
   AND {condition}
 ORDER BY p.id
 LIMIT %(limit)s
"""

# Two branches, since the index of names has no unstamped entries.
_NAMED = """
SELECT DISTINCT p.source, p.name, p.exhausted_at IS NOT NULL
  FROM (SELECT * FROM pending_file_deletion
         WHERE hashtextextended(name, 0) IN (SELECT hashtextextended(unnest(%(names)s::text[]), 0))
           AND stamp_id IS NOT NULL
         UNION ALL
        SELECT * FROM pending_file_deletion WHERE stamp_id IS NULL) p
 WHERE p.name IN (SELECT unnest(%(names)s::text[]))
"""

_WANTED = """
WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest(%(names)s::text[], %(places)s::text[]) AS w(name, place)
), places AS MATERIALIZED (
    SELECT * FROM unnest(%(sources)s::text[], %(source_places)s::text[]) AS s(source, place)
)"""

# SKIP LOCKED: what a drain has claimed it is about to settle, and nobody waits for its storage calls.
# LATERAL: one look-up in the index for each name, as in a claim.
_STAMPED = """
SELECT e.id, w.place, w.name
  FROM wanted w
 CROSS JOIN LATERAL (
    SELECT p.id
      FROM pending_file_deletion p
     WHERE hashtextextended(p.name, 0) = hashtextextended(w.name, 0) AND p.name = w.name AND p.stamp_id IS NOT NULL
       AND (p.source, w.place) IN (SELECT source, place FROM places)
       AND {condition}
       {lock}) e
"""
_UNSTAMPED = """
SELECT p.id, w.place, w.name
  FROM pending_file_deletion p
  JOIN places s ON s.source = p.source
  JOIN wanted w ON w.name = p.name AND w.place = s.place
 WHERE p.stamp_id IS NULL AND p.id > %(after)s AND p.id <= %(until)s AND {condition}
 {lock}
"""
_UPDATE = """
, mine AS MATERIALIZED ({found}), changed AS (
    UPDATE pending_file_deletion p SET {change} FROM mine WHERE p.id = mine.id RETURNING mine.place, mine.name
)
SELECT DISTINCT place, name FROM changed
"""
_LOCK = "FOR UPDATE OF p SKIP LOCKED"

_NAMES_BY_STORAGE = """
SELECT coalesce(w.place, 'source ' || p.source), count(DISTINCT p.name)
  FROM pending_file_deletion p
  LEFT JOIN unnest(%(sources)s::text[], %(places)s::text[]) AS w(source, place) USING (source)
 GROUP BY 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which pending names are meant; what is not given does not restrict."""

    names: tuple[str, ...] | None = None
    sources: tuple[str, ...] | None = None
    failed: bool = False


@dataclass(slots=True)
class Operated:
    """What was done, in names."""

    changed: int = 0
    busy: set[Name] = field(default_factory=set)
    """A drain works on them right now, or somebody else does: at least one entry of each was left as it is."""
    unchanged: tuple[str, ...] = ()
    """Of the names that were asked for: those that are as they should be already."""
    not_pending: tuple[str, ...] = ()
    """Of the names that were asked for: those that no entry has."""


def operate(using: str, action: str, selection: Selection, columns: FileColumns) -> Operated:
    """Try the selected names again ("retry"), or let their files be kept ("cancel"), each with all its entries.

    Page by page, each committed by itself, and without a wait for anybody's lock. What is recorded while it
    runs may be left out.
    """
    done = Operated()
    places = {column.source: str(column.storage_key) for column in columns.stored}
    if selection.names is not None:
        found = _named(using, selection, places)
        changed = _change(using, action, sorted(found), places, done, ids=(0, _LAST))
        names = dict.fromkeys(selection.names)
        known = {name for _, name in found}
        done.changed = len(changed - done.busy)
        touched = {name for _, name in changed | done.busy}
        done.not_pending = tuple(name for name in names if name not in known)
        done.unchanged = tuple(name for name in names if name in known - touched)
        return done
    whole = selection.sources is None and not selection.failed
    counted: set[int] = set()  # by their hash: names may be long, and millions
    for page, ids in _pages(using, action, selection, places):
        wanted = [name for name in page if name not in done.busy]
        # Of the whole ledger each page looks after its own: all that is unseen would be read for each of them.
        changed = _change(using, action, wanted, places, done, ids=ids if whole else (0, _LAST))
        counted.update(map(hash, changed))
    done.changed = len(counted - set(map(hash, done.busy)))
    return done


def names_by_storage(using: str, columns: FileColumns) -> dict[str, int]:
    """Count the pending names by the key of their storage, or by their source where that is not known."""
    places = {column.source: str(column.storage_key) for column in columns.stored}
    values = {"sources": list(places), "places": list(places.values())}
    return dict(sql.fetch(using, _NAMES_BY_STORAGE, values))


def _pages(using: str, action: str, selection: Selection, places: dict[str, str]) -> Iterator[tuple[list[Name], Ids]]:
    """Yield the selected names, oldest entry first, until the newest of now is reached, and whose ids they are."""
    condition, _ = _CHANGES[action]
    until, after = sql.fetch(using, _LAST_ID)[0][0], 0
    values = {"until": until, "sources": _sources(selection), "failed": selection.failed, "limit": _PAGE_SIZE}
    while rows := sql.fetch(using, _PAGE.format(condition=condition), {**values, "after": after}):
        names = dict.fromkeys((_place(source, places), name) for _, source, name in rows)
        yield list(names), (after, rows[-1][0])
        after = rows[-1][0]


def _named(using: str, selection: Selection, places: dict[str, str]) -> set[Name]:
    rows = sql.fetch(using, _NAMED, {"names": sql.text_array(selection.names or ())})
    return {
        (_place(source, places), name)
        for source, name, failed in rows
        if (selection.sources is None or source in selection.sources) and (failed or not selection.failed)
    }


def _change(
    using: str, action: str, wanted: Sequence[Name], places: dict[str, str], done: Operated, *, ids: Ids
) -> set[Name]:
    """Change these names in a transaction of its own; of the entries that no drain has seen, those in the range.

    Returns:
        The names of which an entry was changed.
    """
    if not wanted:
        return set()
    condition, change = _CHANGES[action]
    values = {
        "places": sql.text_array(place for place, _ in wanted),
        "names": sql.text_array(name for _, name in wanted),
        "sources": list(places),
        "source_places": list(places.values()),
        "after": ids[0],
        "until": ids[1],
    }
    changed: set[Name] = set()
    with drain_transaction(using):
        # Of the other branch the planner may know nothing yet, and would look at every pair of names.
        for branch, nested in ((_STAMPED, "on"), (_UNSTAMPED, "off")):
            sql.set_local(using, enable_nestloop=nested)
            found = branch.format(condition=condition, lock=_LOCK)
            changed.update(sql.fetch(using, _WANTED + _UPDATE.format(found=found, change=change), values))
            # What can be seen unchanged now is locked by somebody.
            rest = branch.format(condition=condition, lock="")
            done.busy.update((place, name) for _, place, name in sql.fetch(using, _WANTED + rest, values))
    return changed


def _sources(selection: Selection) -> list[str] | None:
    return None if selection.sources is None else list(selection.sources)


def _place(source: str, places: dict[str, str]) -> str:
    """Return the storage's key. A source of no installed model is a place by itself, and is noted as such."""
    return places.setdefault(source, f"source {source}")
