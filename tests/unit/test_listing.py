"""Looking at many names by listing: it may prove too little, and never what is not so."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgcleanup.storages import Presence, Seen
from pgcleanup.storages.listing import Page, just_before, look_by_listing

KEYS = st.text("ab/é\U0010ffff", min_size=1, max_size=4)
HERE = Seen(Presence.PRESENT)


class Storage:
    """Lists its keys from a given one on, in pages no longer than asked for or than its own."""

    def __init__(self, keys: set[str], most: int = 1_000, *, reverse: bool = False) -> None:
        self.keys = sorted(keys, reverse=reverse)
        self.most = most
        self.asked: list[int] = []

    def __call__(self, keys: Sequence[str], size: int) -> Page:
        self.asked.append(size)
        after = [key for key in self.keys if key > just_before(keys[0])]
        page = after[: min(size, self.most)]
        return Page(dict.fromkeys(page, HERE), len(page) == len(after))


@given(there=st.sets(KEYS), wanted=st.sets(KEYS, min_size=1), most=st.integers(1, 5), reverse=st.booleans())
def test_what_is_found_is_there_and_was_asked_for(there, wanted, most, reverse):
    found = look_by_listing(list(wanted), Storage(there, most, reverse=reverse), lambda: False)

    assert set(found) <= there & wanted


@given(count=st.integers(200, 2_500), step=st.integers(1, 7))
def test_names_that_lie_densely_are_all_found(count, step):
    names = {f"docs/{number * step:05}" for number in range(count)}
    storage = Storage(names)

    found = look_by_listing(list(names), storage, lambda: False)

    assert set(found) == names
    assert len(storage.asked) <= 5


@given(key=KEYS, other=KEYS)
def test_key_just_before_another_sorts_before_it(key, other):
    assert just_before(key) < key


@pytest.mark.parametrize(
    ("key", "before"),
    [("docs/b", "docs/a\U0010ffff"), ("\ue000", "\ud7ff\U0010ffff"), ("a ", "a"), ("a\x01", "a")],
)
def test_key_just_before_another_is_valid_text(key, before):
    assert just_before(key) == before
    assert just_before(key).encode()


def test_listing_ends_where_it_is_not_worth_it():
    storage = Storage({f"{number:05}" for number in range(10_000)})
    wanted = [f"{number:05}" for number in range(0, 10_000, 50)]

    found = look_by_listing(wanted, storage, lambda: False)

    assert storage.asked == [100]
    assert set(found) == {"00000", "00050"}


def test_few_names_are_not_worth_a_listing():
    storage = Storage({"a", "b"})

    assert look_by_listing(["a", "b"], storage, lambda: False) == {}
    assert storage.asked == []


def test_listing_ends_when_it_is_told_to():
    storage = Storage({f"{number:05}" for number in range(1_000)})
    names = [f"{number:05}" for number in range(1_000)]

    found = look_by_listing(names, storage, lambda: len(storage.asked) == 1)

    assert set(found) == set(names[:100])


def test_storage_that_cannot_list_tells_nothing():
    assert look_by_listing([f"{number}" for number in range(100)], lambda keys, size: None, lambda: False) == {}
