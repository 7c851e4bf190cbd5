"""A name that the database itself refuses to settle holds up no other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pgcleanup import sql
from pgcleanup.drain import drain
from pgcleanup.models import Outcome
from tests.drain.support import end_retry_waits, entries, let_go, orphaned, pending, put, settled
from tests.project.models import Document

POISON = """
CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN IF NEW.name = 'docs/bad.txt' THEN RAISE EXCEPTION 'no such thing'; END IF; RETURN NEW; END $$;
CREATE TRIGGER poison BEFORE INSERT ON settled_file_deletion FOR EACH ROW EXECUTE FUNCTION poison();
"""
ANTIDOTE = "DROP TRIGGER IF EXISTS poison ON settled_file_deletion; DROP FUNCTION IF EXISTS poison()"


@pytest.fixture(autouse=True)
def poison(database: None) -> Iterator[None]:
    """Make the database refuse one name."""
    sql.execute("default", POISON)
    yield
    sql.execute("default", ANTIDOTE)


def test_the_other_names_of_the_batch_are_settled():
    good = [orphaned("docs/1.txt"), orphaned("docs/2.txt")]
    orphaned("docs/bad.txt")

    report = drain()

    assert [name for name, _ in settled()] == ["docs/1.txt", "docs/2.txt"]
    assert pending() == ["docs/bad.txt"]
    assert not any(path.exists() for path in good)
    assert report.counts[Outcome.POSTPONED] == 1
    assert report.exit_code == 1


def test_poisoned_name_is_postponed_with_the_databases_error():
    orphaned("docs/bad.txt")

    drain()

    attempts, error = entries("attempts, last_error")[0]
    assert attempts == 1
    assert "no such thing" in error


def test_poisoned_name_is_not_tried_again_before_its_wait_is_over():
    orphaned("docs/bad.txt")
    drain()

    assert drain().counts == {}


def test_poisoned_name_settles_once_the_cause_is_gone():
    path = orphaned("docs/bad.txt")
    drain()
    sql.execute("default", ANTIDOTE)
    end_retry_waits()

    drain()

    assert [name for name, _ in settled()] == ["docs/bad.txt"]
    assert not path.exists()


def test_other_names_of_the_batch_are_settled_as_deleted_and_told_of_once(heard):
    """Their files are gone by the time that the settlement fails: it is told again, not done again."""
    for name in ("docs/1.txt", "docs/2.txt", "docs/bad.txt"):
        orphaned(name)

    report = drain()

    assert report.counts == {Outcome.DELETED: 2, Outcome.POSTPONED: 1}
    assert settled() == [("docs/1.txt", "deleted"), ("docs/2.txt", "deleted")]
    assert len([call for call in heard if call[1] != "docs/bad.txt"]) == 4


def test_kept_names_beside_it_are_kept():
    path = put("docs/kept.txt")
    Document.objects.create(file="docs/kept.txt")
    let_go("docs/kept.txt", "docs/bad.txt")

    drain()

    assert settled() == [("docs/kept.txt", "kept")]
    assert path.exists()


def test_poisoned_name_is_exhausted_in_the_end(settings):
    settings.PGCLEANUP_MAX_ATTEMPTS = 2
    orphaned("docs/bad.txt")
    drain()
    end_retry_waits()

    report = drain()

    assert report.counts == {Outcome.EXHAUSTED: 1}


@pytest.mark.parametrize("state", ["40001", "40P01"], ids=["serialization failure", "deadlock"])
def test_settlement_that_somebody_was_in_the_way_of_is_written_again_and_nobody_told_twice(session, heard, state):
    names = [f"docs/{number}.txt" for number in range(3)]
    for name in names:
        put(name)
    let_go(*names)
    other = session()
    # A sequence counts on, whatever is rolled back.
    other.run(
        "CREATE SEQUENCE tries; CREATE FUNCTION fail_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF nextval('tries') = 1 THEN RAISE EXCEPTION 'in the way' USING ERRCODE = '{state}'; END IF; "
        "RETURN NULL; END $$"
    )
    other.run("CREATE TRIGGER fail_once BEFORE INSERT ON settled_file_deletion EXECUTE FUNCTION fail_once()")
    try:
        report = drain()
    finally:
        other.run("DROP FUNCTION fail_once() CASCADE; DROP SEQUENCE tries")

    assert report.counts == {Outcome.DELETED: 3}
    assert report.exit_code == 0
    assert sorted(heard) == sorted((kind, name) for kind in ("pre", "post") for name in names)
