"""However many rows let a name go: one look, one deletion, one pair of signals, one count."""

from __future__ import annotations

import pytest

from pgcleanup.drain import drain
from pgcleanup.models import Outcome
from tests.drain.support import Stepped, let_go, orphaned, pending, put, results, settled
from tests.project.models import Attachment, Document
from tests.storages import MemoryStorage


def test_many_rows_letting_one_name_go_make_one_deletion_and_one_pair_of_signals(store, heard):
    storage = store(MemoryStorage(), Document)
    storage.put("docs/a.txt")
    let_go(*["docs/a.txt"] * 20)

    report = drain()

    assert report.counts == {Outcome.DELETED: 1}
    assert storage.called("delete") == ["docs/a.txt"]
    assert heard == [("pre", "docs/a.txt"), ("post", "docs/a.txt")]
    assert settled("outcome") == [("deleted",)] * 20


def test_rows_of_several_models_letting_one_name_go_are_told_of_once_as_the_newest(receive):
    put("docs/a.txt")
    let_go("docs/a.txt")
    let_go("docs/a.txt", model=Attachment)
    senders = []
    receive(before=lambda sender, **kwargs: senders.append(sender))

    drain()

    assert senders == [Attachment]


def test_progress_hears_of_each_name_once():
    let_go(*["docs/a.txt"] * 5, *["docs/b.txt"] * 5)

    report, heard = results()

    assert sorted(heard) == ["docs/a.txt", "docs/b.txt"]
    assert report.counts == {Outcome.ABSENT: 2}


def test_limit_counts_names_and_not_entries():
    let_go(*["docs/a.txt"] * 5, *["docs/b.txt"] * 5, *["docs/c.txt"] * 5)

    report = drain(limit=2)

    assert report.counts == {Outcome.ABSENT: 2}
    assert report.waiting == {"due": 1}
    assert pending() == ["docs/c.txt"] * 5


@pytest.mark.parametrize("limit", [1, 2, 7, 100])
def test_no_more_names_than_the_limit_are_dealt_with(limit, monkeypatch):
    monkeypatch.setattr("pgcleanup.drain.run.BATCH_SIZE", 3)
    let_go(*(f"docs/{number}.txt" for number in range(10)))

    report = drain(limit=limit)

    assert sum(report.counts.values()) == min(limit, 10)
    assert len(pending()) == max(10 - limit, 0)


def test_more_names_than_a_batch_holds_are_all_deleted_in_one_run(monkeypatch):
    monkeypatch.setattr("pgcleanup.drain.run.BATCH_SIZE", 100)
    paths = [put(f"docs/{number}.txt") for number in range(150)]
    let_go(*(f"docs/{number}.txt" for number in range(150)))

    run = Stepped()
    steps = list(run.steps)

    assert steps.count("committed") == 2
    assert run.run.report().counts == {Outcome.DELETED: 150}
    assert not any(path.exists() for path in paths)
    assert pending() == []


def test_more_entries_of_one_name_than_a_batch_holds_do_not_hide_the_next_name(monkeypatch):
    monkeypatch.setattr("pgcleanup.drain.run.BATCH_SIZE", 10)
    let_go(*["docs/a.txt"] * 55)
    path = orphaned("docs/b.txt")

    report = drain()

    assert report.counts == {Outcome.ABSENT: 1, Outcome.DELETED: 1}
    assert not path.exists()
    assert pending() == []


def test_oldest_names_go_first():
    orphaned("docs/b.txt")
    orphaned("docs/a.txt")

    drain(limit=1)

    assert settled() == [("docs/b.txt", "deleted")]


def test_bytes_of_the_report_are_those_of_the_deleted_files():
    put("docs/a.txt", b"1234")
    put("docs/b.txt", b"56")
    let_go("docs/a.txt", "docs/a.txt", "docs/b.txt", "docs/absent.txt")

    assert drain().bytes_deleted == 6
