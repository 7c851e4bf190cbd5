"""How S3 is asked: how often, for how much at a time, and what becomes of answers that are not the usual ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from django.core.files.base import ContentFile

from pgcleanup.drain import drain
from pgcleanup.exceptions import ConnectionLost
from pgcleanup.models import Outcome
from pgcleanup.storages import Changed, Presence, Seen, adapter_for
from pgcleanup.storages.errors import is_throttled
from tests.clouds.fake_s3 import Bucket
from tests.clouds.servers import moto
from tests.drain.support import entries, let_go, pending, results
from tests.project.models import Document

DENSE = [f"docs/{number:05}.txt" for number in range(2_400)]
SCATTERED = [f"{number:04x}/a.txt" for number in range(0, 65_536, 1_000)]
CROWD = [f"{number:04x}/a.txt" for number in range(0, 65_536, 8)]


@pytest.fixture
def adapter(bucket: Bucket):
    return adapter_for(Document._meta.get_field("file").storage)


def test_names_that_lie_densely_are_looked_at_a_thousand_a_call(bucket, adapter):
    bucket.keys.update(DENSE)

    seen = adapter.look_many(DENSE)

    assert {one.presence for one in seen.values()} == {Presence.PRESENT}
    assert set(seen) == set(DENSE)
    assert bucket.requests == {"LIST": 4}


def test_names_that_are_scattered_cost_one_short_listing_and_a_look_each(bucket, adapter):
    bucket.keys.update(CROWD)

    seen = adapter.look_many(SCATTERED)

    assert {one.presence for one in seen.values()} == {Presence.PRESENT}
    assert bucket.requests["LIST"] == 1
    assert len(SCATTERED) - 5 < bucket.requests["HEAD"] <= len(SCATTERED)


def test_listing_without_a_name_proves_nothing(bucket, adapter):
    """Servers differ in their order, and a listing may be a moment old."""
    bucket.keys.update(DENSE)
    hidden = DENSE[70]
    bucket.unlisted = {hidden}

    seen = adapter.look_many(DENSE[:200])

    assert seen[hidden].presence is Presence.PRESENT
    assert bucket.requests["HEAD"] == 1


def test_bucket_that_may_not_be_listed_is_asked_for_each_name(bucket, adapter):
    bucket.keys.update(DENSE[:100])
    bucket.may_list = False

    seen = adapter.look_many(DENSE[:100])
    adapter.look_many(DENSE[:100])

    assert {one.presence for one in seen.values()} == {Presence.PRESENT}
    assert bucket.requests == {"LIST": 1, "HEAD": 200}


@pytest.mark.parametrize(("files", "calls"), [(2, 1), (100, 1), (250, 3), (2_400, 4), (4_100, 5)])
def test_files_go_in_a_few_calls_none_of_them_for_more_than_a_thousand(bucket, adapter, files, calls):
    names = [f"docs/{number:05}.txt" for number in range(files)]
    bucket.keys.update(names)

    answers = adapter.delete_many(dict.fromkeys(names, Seen(Presence.PRESENT, version='"etag"')))

    assert answers == dict.fromkeys(names)
    assert bucket.requests == {"DELETE_MANY": calls}
    assert bucket.keys == set()


def test_calls_for_many_files_are_made_at_the_same_time(bucket, adapter):
    bucket.keys.update(DENSE)
    together = threading.Barrier(4, timeout=20)
    bucket.before_delete = together.wait

    answers = adapter.delete_many(dict.fromkeys(DENSE, Seen(Presence.PRESENT, version='"etag"')))

    assert answers == dict.fromkeys(DENSE)


def test_no_more_than_four_calls_for_many_files_are_made_at_the_same_time(bucket, adapter):
    names = [f"docs/{number:05}.txt" for number in range(5_500)]
    bucket.keys.update(names)
    lock, running, most, four = threading.Lock(), [], [], threading.Event()

    def begin() -> None:
        with lock:
            running.append(1)
            most.append(len(running))
        if len(most) >= 4:
            four.set()
        assert four.wait(60)
        # A fifth one would come now.
        time.sleep(0.3)

    bucket.before_delete, bucket.after_delete = begin, running.pop
    adapter.delete_many(dict.fromkeys(names, Seen(Presence.PRESENT, version='"etag"')))

    assert max(most) == 4
    assert len(most) == 6


def test_call_that_runs_when_the_drain_loses_its_claims_is_over_before_the_drain_is(bucket, adapter):
    bucket.keys.update(DENSE)
    begun, over = [], []
    bucket.before_delete = lambda: (begun.append(1), time.sleep(0.5))
    bucket.after_delete = lambda: over.append(1)
    asked = iter([None, None, ConnectionLost("gone")])

    def alive() -> None:
        if (error := next(asked)) is not None:
            # What was submitted before has begun.
            while len(begun) < 2:
                time.sleep(0.01)
            raise error

    adapter.calls.alive = alive
    with pytest.raises(ConnectionLost):
        adapter.delete_many(dict.fromkeys(DENSE, Seen(Presence.PRESENT, version='"etag"')))

    assert len(begun) == len(over) == 2


def test_call_for_many_files_is_noted_with_a_name_that_the_drain_knows(bucket, adapter, monkeypatch):
    """As what hangs, if it does not come back: that name uses up an attempt, and the others do not."""
    monkeypatch.setattr(adapter.storage, "location", "media")
    names = DENSE[:300]
    bucket.keys.update(f"media/{name}" for name in names)
    noted = []
    bucket.before_delete = lambda: noted.append(adapter.calls.current or adapter.calls.awaited)

    assert adapter.delete_many(dict.fromkeys(names, Seen(Presence.PRESENT, version='"etag"'))) == dict.fromkeys(names)

    assert {name for _, _, name in filter(None, noted)} <= {names[0], names[100], names[200]}
    assert any(noted)


def test_files_of_a_call_that_went_through_are_not_deleted_again_where_another_was_not_understood(
    bucket, adapter, monkeypatch
):
    """Uploads may have taken their names meanwhile."""
    monkeypatch.setattr(adapter, "_if_match", False)
    bucket.keys.update(DENSE)
    bucket.dislikes, bucket.code = DENSE[3], "MalformedXML"

    answers = adapter.delete_many(dict.fromkeys(DENSE, Seen(Presence.PRESENT, version='"etag"')))

    assert answers == dict.fromkeys(DENSE)
    assert bucket.requests == {"DELETE_MANY": 4, "DELETE": 600}


@pytest.mark.parametrize(("code", "calls"), [("SlowDown", 3), ("ServiceUnavailable", 1), ("", 1)])
def test_call_for_many_files_is_repeated_only_if_s3_itself_has_refused_it(bucket, adapter, code, calls):
    """The 503 of a gateway may come after all of them are deleted."""
    bucket.keys.update(DENSE[:20])
    bucket.delete_many, bucket.code = 503, code

    answers = adapter.delete_many(dict.fromkeys(DENSE[:20], Seen(Presence.PRESENT, version='"etag"')))

    assert all(is_throttled(answer) for answer in answers.values())
    assert bucket.requests == {"DELETE_MANY": calls}


def test_one_call_for_many_files_that_fails_is_about_its_files_alone(bucket, adapter):
    bucket.keys.update(DENSE)
    bucket.dislikes, bucket.code = DENSE[700], "AccessDenied"

    answers = adapter.delete_many(dict.fromkeys(DENSE, Seen(Presence.PRESENT, version='"etag"')))

    failed = {name for name, answer in answers.items() if answer is not None}
    assert failed == bucket.keys == set(DENSE[600:1_200])
    assert all("AccessDenied" in str(answers[name]) for name in failed)


@pytest.mark.parametrize("names", [DENSE[:1], DENSE[:20]])
def test_file_that_is_written_over_between_the_look_and_the_deletion_stays(bucket, names):
    bucket.keys.update(names)
    let_go(*names)
    bucket.before_delete = lambda: bucket.etags.update({names[0]: '"another"'})

    report, told = results()

    assert bucket.keys == {names[0]}
    assert told[names[0]].waiting == "upload_window"
    assert report.counts.get(Outcome.DELETED, 0) == len(names) - 1
    assert pending() == [names[0]]
    assert entries("attempts") == [(0,)]


def test_storage_that_gives_each_upload_a_free_name_needs_no_condition(bucket, store, monkeypatch):
    """Some servers do not know the condition, and none can write over a file that has its name to itself."""
    monkeypatch.setattr(Document._meta.get_field("file").storage, "file_overwrite", False)
    bucket.keys.update(DENSE[:2])
    let_go(*DENSE[:2])
    bucket.before_delete = lambda: bucket.etags.update({DENSE[0]: '"another"'})

    assert drain().counts == {Outcome.DELETED: 2}


@pytest.mark.parametrize(("status", "code"), [(501, "NotImplemented"), (400, "MalformedXML")])
def test_server_that_cannot_delete_many_at_a_time_is_asked_for_each(bucket, status, code):
    bucket.keys.update(DENSE[:20])
    bucket.delete_many, bucket.code = status, code
    let_go(*DENSE[:20])

    report = drain()

    assert report.counts == {Outcome.DELETED: 20}
    assert bucket.requests["DELETE_MANY"] == 1
    assert bucket.requests["DELETE"] == 20


def test_server_that_does_not_know_conditions_is_asked_without(bucket):
    bucket.keys.add(DENSE[0])
    bucket.knows_conditions = False
    let_go(DENSE[0])

    assert drain().counts == {Outcome.DELETED: 1}
    assert bucket.requests["DELETE"] == 2


def test_some_keys_that_are_throttled_are_asked_for_again(bucket, adapter):
    bucket.keys.update(DENSE[:20])
    bucket.errors = {DENSE[3]: "SlowDown"}
    files = dict.fromkeys(DENSE[:20], Seen(Presence.PRESENT, version='"etag"'))
    bucket.after_delete = bucket.errors.clear

    assert adapter.delete_many(files) == dict.fromkeys(DENSE[:20])
    assert bucket.requests == {"DELETE_MANY": 1, "DELETE": 1}


@pytest.fixture(scope="module")
def make() -> Iterator:
    """Return what makes storages on a server that somebody else has written."""
    with moto() as make:
        yield make


class TestMoto:
    @pytest.mark.parametrize("location", ["", "media/public"])
    def test_names_lie_in_the_location_of_the_storage(self, make, store, location):
        storage = store(make(location=location), Document)
        names = [storage.save(f"docs/{number:03}.txt", ContentFile(b"x")) for number in range(30)]
        let_go(*names[:20])

        report = drain()

        assert report.counts == {Outcome.DELETED: 20}
        assert sorted(storage.listdir("docs")[1]) == [f"{number:03}.txt" for number in range(20, 30)]

    def test_single_file_that_was_written_again_since_the_look_stays(self, make, store):
        storage = store(make(), Document)
        storage.save("docs/a.txt", ContentFile(b"x"))
        adapter = adapter_for(storage)
        seen = adapter.look_many(["docs/a.txt"])
        storage.save("docs/a.txt", ContentFile(b"another"))

        assert isinstance(adapter.delete_many(seen)["docs/a.txt"], Changed)
        assert storage.size("docs/a.txt") == 7
