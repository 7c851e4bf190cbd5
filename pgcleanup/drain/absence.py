"""Whether to believe a storage that says its files are not there.

An unmounted volume or a wrong MEDIA_ROOT looks just like a storage whose files have all been deleted. A
backlog must never be settled as absent because of it. The best witnesses are the files of rows that are
still there: a few of them are looked for. Where no row names a file, the history must do.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from pgcleanup import references, sql
from pgcleanup.columns import FileColumns
from pgcleanup.drain.store import Store
from pgcleanup.models import Outcome
from pgcleanup.storages import Adapter, Presence, unclean

_SUSPICIOUS_NAMES = 5
_WITNESSES = 12
# So many, or half of those that were asked, speak for the whole storage.
_ENOUGH = 3

# The last thousand settlements of any source: a bounded look at the primary key's end.
_LATELY = """
SELECT count(*) FILTER (WHERE outcome = 'deleted'), count(*) FILTER (WHERE outcome = 'absent')
  FROM (SELECT source, outcome FROM settled_file_deletion ORDER BY id DESC LIMIT 1000) lately
 WHERE source = ANY (%s)
"""


@dataclass(slots=True)
class Looked:
    """What was found of the names of a batch, in a storage or in one of its folders."""

    absent: int = 0
    present: int = 0
    found_last: bool = False

    def add(self, *, is_there: bool) -> None:
        """Count one, in the order of the looks."""
        self.found_last = is_there
        self.present += is_there
        self.absent += not is_there


@dataclass(slots=True)
class Witnesses:
    """What became of a few names that rows still name, when they were looked for."""

    asked: int = 0
    found: int = 0
    raised: int = 0
    example: str = ""
    """One that was not found."""
    unasked: bool = False
    """Whether there are rows that could not be asked for names."""

    @property
    def vouch(self) -> bool:
        """Whether enough of their files are there."""
        return self.found >= _ENOUGH or 0 < self.asked <= 2 * self.found


def call_witnesses(
    using: str, columns: FileColumns, store: Store, defaults: Collection[str] = (), folder: str = ""
) -> Witnesses:
    """Look for a few files that rows name, of a folder alone if it is given.

    Defaults are left out: many a project has none where it says. Touches no file. In a transaction, the locks on the
    users' tables are let go before the first look.
    """
    names, is_complete = references.sample(using, columns, store.key, _WITNESSES, defaults, folder)
    random.shuffle(names)
    seen = Witnesses(unasked=not is_complete)
    for source, name in names:
        if seen.asked == _WITNESSES or seen.found == _ENOUGH:
            break
        if unclean(name):
            continue
        seen.asked += 1
        try:
            is_there = store.adapters.get(source, store.adapter).look(name).presence is Presence.PRESENT
        except Exception:  # whatever a storage raises
            seen.raised += 1
            is_there = False
        seen.found += is_there
        if not is_there:
            seen.example = name
    return seen


def settled_lately(using: str, sources: Sequence[str]) -> dict[Outcome, int]:
    """Count the recent entries of these sources that were deleted and that were absent."""
    deleted, absent = sql.fetch(using, _LATELY, [list(sources)])[0]
    return {Outcome.DELETED: deleted, Outcome.ABSENT: absent}


def cannot_be_trusted(storage: str, reason: str) -> str:
    """Return the sentence for people, with what to do."""
    return (
        f"storage {storage} cannot be trusted: {reason}. Is the volume mounted, is MEDIA_ROOT right? "
        "If the files are really gone: manage.py drain_deletions --accept-absent"
    )


def folder_of(name: str) -> str:
    """Return the uppermost folder of a name, where another volume may be mounted; "" where it is in none."""
    folder, slash, _ = name.partition("/")
    return folder if slash else ""


def distrusted_folders(
    adapter: Adapter, absent: Iterable[str], filled: Collection[str], witnesses: Callable[[str], Witnesses]
) -> dict[str, str]:
    """Return the folders not to be believed about these names, which they say are absent, each with the reason.

    Another volume may have been mounted there. Asked are only those in which none of the batch's names was there
    (`filled` has the others), and none is believed that has no file of those that rows name in it. Where no row names
    one, it may be empty rightly, and a drain that was killed may have emptied it.
    """
    if not adapter.has_folders:
        return {}
    counts = Counter(folder for name in absent if (folder := folder_of(name)) and folder not in filled)
    reasons = {}
    for folder, count in counts.items():
        if count >= _SUSPICIOUS_NAMES and (reason := _without_named_files(witnesses(f"{folder}/"), _ENOUGH)):
            reasons[folder] = reason
    return reasons


def _without_named_files(seen: Witnesses, enough: int) -> str | None:
    """Say so where enough files were looked for that rows name, and none was there."""
    if seen.found or not seen.asked or seen.asked < enough:
        return None
    if seen.asked == 1:
        return f"it does not have {seen.example} either, which a row names"
    return f"it does not have any of {seen.asked} files either that rows name, such as {seen.example}"


def distrust(
    adapter: Adapter,
    looked: Looked,
    lately: dict[Outcome, int],
    witnesses: Callable[[], Witnesses],
) -> str | None:
    """Say why the storage is not to be believed about names that it says are absent, or return None.

    Believed is one that has most of what was looked for, the last one with it: a volume may be unmounted in the
    midst of a batch. Else one whose root is gone is not, nor one that has
    no file that a row names. Where no row can tell, not one that is empty, if files were deleted in it before or
    many are looked for; nor one where most is absent although most of the names before were not.
    """
    absent, present = looked.absent, looked.present
    if absent == 0:
        return None
    if (trouble := adapter.trouble()) is not None:
        return trouble
    if looked.found_last and present >= absent:
        return None
    seen = witnesses()
    if seen.vouch:
        return None
    # One or two rows, whose files may have been lost long ago, speak only where files were deleted before.
    enough = 1 if lately[Outcome.DELETED] and not present else _ENOUGH
    if (reason := _without_named_files(seen, enough)) is not None:
        return reason
    if not seen.asked and seen.unasked:
        return "files are not there, and the rows that could name others cannot be asked at the moment"
    if (lately[Outcome.DELETED] or absent >= _SUSPICIOUS_NAMES) and adapter.is_empty():
        return "it holds no file at all"
    if absent >= _SUSPICIOUS_NAMES and lately[Outcome.DELETED] > lately[Outcome.ABSENT]:
        return f"{absent} of {absent + present} files are not there, although most were before"
    return None
