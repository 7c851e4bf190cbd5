"""Looking at many names by listing, where they lie so densely that it pays."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pgcleanup.storages.base import Seen

# A listing costs as much as looks at so many of its names: first a short one, to see how many of them are asked for.
PROBE = 100
WORTH_LISTING = 0.1
AT_ONCE = 1_000


class Page(NamedTuple):
    """A part of the storage in the order of its keys."""

    there: dict[str, Seen]
    is_last: bool


def look_by_listing(
    keys: Sequence[str], list_from: Callable[[Sequence[str], int], Page | None], enough: Callable[[], bool]
) -> dict[str, Seen]:
    """Return those keys that listings show, as long as they show enough of them.

    A listing proves presence, never absence: whoever sorts in another way leaves out what is there.

    Args:
        keys: what is looked for.
        list_from: returns up to so many keys of the storage, from the first of these on; None where it cannot.
        enough: asked between two listings whether to make no more.
    """
    found: dict[str, Seen] = {}
    # By code points, which is the order of UTF-8.
    keys = sorted(keys)
    start, size = 0, PROBE
    while len(keys) - start > WORTH_LISTING * size and not enough():
        page = list_from(keys[start:], size)
        if page is None:
            break
        end = len(keys)
        if not page.is_last and page.there:
            end = max(bisect_right(keys, max(page.there)), start + 1)
        hits = {key: page.there[key] for key in keys[start:end] if key in page.there}
        found |= hits
        density = len(hits) / size
        if density < WORTH_LISTING:
            break
        start, size = end, min(AT_ONCE, int((len(keys) - end) / density) + 1)
    return found


def just_before(key: str) -> str:
    """Return a key that sorts before `key`, and after almost any other that does."""
    last = ord(key[-1]) - 1
    if last <= 0x1F:
        return key[:-1]
    # There are no characters in the range of surrogates.
    return key[:-1] + chr(0xD7FF if 0xD800 <= last <= 0xDFFF else last) + "\U0010ffff"
