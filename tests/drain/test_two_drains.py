"""Any number of drains at once: none waits for another, and no file is told of twice."""

from __future__ import annotations

import pytest

from pgcleanup.models import Outcome
from tests.drain.support import Stepped, before_statement, entries, let_go, orphaned, pending, put, settled
from tests.project.models import Document
from tests.storages import FailingStorage


@pytest.fixture
def second(alias):
    return alias("second")


def test_second_drain_passes_over_what_the_first_has_claimed(second, heard):
    first_path = orphaned("docs/a.txt")
    second_path = orphaned("docs/b.txt")
    first = Stepped(limit=1)
    first.until("claimed")

    report_of_second = Stepped(second).finish()
    report_of_first = first.finish()

    assert report_of_second.counts == {Outcome.DELETED: 1}
    assert report_of_first.counts == {Outcome.DELETED: 1}
    assert sorted(settled()) == [("docs/a.txt", "deleted"), ("docs/b.txt", "deleted")]
    assert sorted(heard) == [(when, name) for when in ("post", "pre") for name in ("docs/a.txt", "docs/b.txt")]
    assert not first_path.exists()
    assert not second_path.exists()


@pytest.mark.parametrize("steps", range(1, 8))
def test_second_drain_from_start_to_end_after_any_step_of_the_first(second, heard, steps):
    paths = [orphaned(f"docs/{number}.txt") for number in range(4)]
    first = Stepped()
    for _ in range(steps):
        next(first.steps)

    Stepped(second).finish()
    first.finish()

    assert len(heard) == len(set(heard)) == 8
    assert settled() == [(f"docs/{number}.txt", "deleted") for number in range(4)]
    assert not any(path.exists() for path in paths)


def test_two_drains_in_lockstep_tell_of_each_name_once(second, heard):
    for number in range(6):
        orphaned(f"docs/{number}.txt")
    drains = [Stepped().steps, Stepped(second).steps]

    while drains:
        drains = [steps for steps in drains if next(steps, None) is not None]

    assert len(heard) == len(set(heard)) == 12
    assert pending() == []


def test_drain_that_picked_a_name_which_another_has_failed_with_does_not_try_it_again_at_once(second, store, heard):
    store(FailingStorage(), Document)
    let_go("docs/a.txt", "docs/b.txt")
    first = Stepped()
    first.until("stamped")
    picked = Stepped(second, limit=1)
    picked.until("stamped")
    other_done: list[object] = []

    def let_the_other_do_it():
        other_done.append(first.finish())

    # Right before the claim of the second drain, which has picked by then.
    with before_statement(_number_of("FOR UPDATE OF p SKIP LOCKED", second), let_the_other_do_it, second):
        picked.finish()

    assert other_done
    assert entries("attempts") == [(1,), (1,)]


def _number_of(text: str, using: str) -> int:
    """Return which statement of a drain holds the text, counted from where a drain is after its stamp."""
    run = Stepped(using, limit=1)
    run.until("stamped")
    with before_statement(-1, lambda: None, using) as statements:
        run.until("claimed")
    run.crash()
    return next(number for number, statement in enumerate(statements) if text in statement)


def test_batch_of_another_drain_is_an_open_transaction_like_any_other(second, session):
    """It holds a name that was let go meanwhile, for as long as it lasts; neither drain waits."""
    orphaned("docs/a.txt")
    first = Stepped()
    first.until("claimed")
    path = put("docs/b.txt")
    session().let_go("docs/b.txt")

    report = Stepped(second).finish()
    first.finish()

    assert report.waiting == {"due": 1, "transaction": 1}
    assert settled() == [("docs/a.txt", "deleted"), ("docs/b.txt", "deleted")]
    assert not path.exists()


def test_name_let_go_again_while_a_drain_holds_it_is_left_by_the_other(second, session, heard):
    path = orphaned("docs/a.txt")
    first = Stepped()
    first.until("checked")
    session().let_go("docs/a.txt")

    report = Stepped(second).finish()
    told_by_second = list(heard)
    first.finish()

    assert report.counts == {}
    assert told_by_second == []
    assert not path.exists()
    # Its receivers are told, and by then there is the other entry: the first drain takes both together.
    assert settled() == [("docs/a.txt", "deleted"), ("docs/a.txt", "deleted")]
    assert pending() == []
