"""S3 by the real client library, against servers that hang, refuse, or lose their answer."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from pgcleanup.drain import drain
from pgcleanup.models import Outcome
from pgcleanup.storages import adapter_for
from tests.clouds.fake_s3 import Bucket, serving, storage_at
from tests.drain.support import end_retry_waits, entries, let_go, pending
from tests.project.models import Document

NAMES = [f"docs/{number:02}.txt" for number in range(12)]


@pytest.fixture
def bucket(store: Callable[..., Any]) -> Iterator[Bucket]:
    """Put the files of Document into a bucket."""
    made = Bucket()
    made.keys.update(NAMES)
    with serving(made) as endpoint:
        store(storage_at(endpoint), Document)
        yield made


def attempts() -> set[int]:
    return {number for (number,) in entries("attempts")}


def drained_to_the_end() -> dict[Outcome, int]:
    end_retry_waits()
    report = drain()
    assert (pending(), report.exit_code) == ([], 0)
    return report.counts


def test_server_that_never_answers_is_given_up_by_the_client_within_the_timeout(store, settings, injected):
    settings.PGCLEANUP_STORAGE_TIMEOUT = timedelta(seconds=1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store(storage_at(f"http://127.0.0.1:{silent.getsockname()[1]}"), Document)
        let_go(*NAMES)
        began = time.monotonic()

        report = drain()

        took = time.monotonic() - began
    injected("S3 server that never answers", verified="left alone, no attempt used up")
    assert report.counts == {Outcome.POSTPONED: 12}
    assert "ReadTimeoutError" in report.problems[0]
    assert attempts() == {0}
    # Boto3's own minute and five attempts would be 5 minutes for each of the 5 names that it takes.
    assert took < 60


def test_client_makes_one_attempt_since_a_second_deletion_would_not_look_first(bucket, injected):
    """The first one is carried out, its answer is lost, and an upload takes the free name."""
    bucket.loses_answers = True
    let_go(NAMES[0])

    report = drain()
    injected("S3 answer to a deletion lost", verified="sent once, and then settled as absent")

    assert bucket.requests["DELETE"] == 1
    assert report.counts == {Outcome.POSTPONED: 1}
    bucket.loses_answers = False
    assert drained_to_the_end() == {Outcome.ABSENT: 1}
    assert bucket.requests["DELETE"] == 1


def test_bucket_that_may_not_be_listed_answers_403_for_a_missing_key(bucket, injected):
    Document.objects.create(file="rows/a.txt")
    bucket.keys.add("rows/a.txt")
    bucket.missing = 403
    bucket.keys -= set(NAMES[:6])
    let_go(*NAMES)

    report = drain()
    injected("403 for missing keys", times=6, verified="those that are there go, no attempt used up, a hint")

    assert report.counts == {Outcome.POSTPONED: 6, Outcome.DELETED: 6}
    assert attempts() == {0}
    assert "s3:ListBucket" in report.errors[0].error
    bucket.missing = 404
    assert drained_to_the_end() == {Outcome.ABSENT: 6}
    assert bucket.keys == {"rows/a.txt"}


@pytest.mark.parametrize("code", ["AccessDenied", "InternalError"])
def test_bucket_that_lets_no_key_be_deleted_costs_no_attempt(bucket, code, injected):
    bucket.errors = dict.fromkeys(NAMES, code)
    let_go(*NAMES)

    report = drain()
    injected(f"{code} for every key", times=12, verified="no attempt used up, all deleted in the end")

    assert report.counts == {Outcome.POSTPONED: 12}
    assert attempts() == {0}
    assert bucket.requests["DELETE_MANY"] == 1
    bucket.errors = {}
    assert drained_to_the_end() == {Outcome.DELETED: 12}


@pytest.mark.parametrize("status", [403, 500])
def test_bucket_that_answers_no_deletion_costs_no_attempt(bucket, status, injected):
    bucket.delete_many, bucket.code = status, "InternalError"
    let_go(*NAMES)

    report = drain()
    injected(f"{status} for a deletion of many", verified="no attempt used up, all deleted in the end")

    assert report.counts == {Outcome.POSTPONED: 12}
    assert attempts() == {0}
    bucket.delete_many = 200
    assert drained_to_the_end() == {Outcome.DELETED: 12}


def test_deletion_of_many_that_fails_for_some_keys_is_told_apart_key_by_key(bucket, injected):
    failing = NAMES[3:6]
    bucket.errors = dict.fromkeys(failing, "InternalError")
    let_go(*NAMES)

    report = drain()
    injected("3 of 12 keys fail in one call", verified="the others are settled, those 3 have one attempt less")

    assert report.counts == {Outcome.DELETED: 9, Outcome.POSTPONED: 3}
    assert sorted(bucket.keys) == pending() == failing
    assert attempts() == {1}
    bucket.errors = {}
    assert drained_to_the_end() == {Outcome.DELETED: 3}


def test_answer_to_a_deletion_of_many_that_is_lost_is_asked_for_by_looks(bucket, injected):
    Document.objects.create(file="rows/a.txt")
    bucket.keys.add("rows/a.txt")
    bucket.loses_answers = True
    let_go(*NAMES)

    report = drain()
    injected("S3 answer to a deletion of many lost", verified="sent once, and then settled as absent")

    assert report.counts == {Outcome.POSTPONED: 12}
    assert bucket.requests["DELETE_MANY"] == 1
    bucket.loses_answers = False
    assert drained_to_the_end() == {Outcome.ABSENT: 12}
    assert bucket.requests["DELETE_MANY"] == 1


def test_server_that_asks_for_fewer_requests_gets_them_after_a_while(bucket, injected):
    bucket.throttled = 2
    let_go(*NAMES)

    report = drain()
    injected("SlowDown", times=2, verified="asked again after a while, in the same drain")

    assert report.counts == {Outcome.DELETED: 12}


def test_server_that_asks_for_fewer_requests_all_the_time_costs_no_attempt(bucket, injected):
    bucket.throttled = 1_000
    let_go(*NAMES)

    report = drain()
    injected("SlowDown for all requests", times=1_000 - bucket.throttled, verified="left alone, no attempt used up")

    assert report.counts == {Outcome.POSTPONED: 12}
    assert attempts() == {0}
    bucket.throttled = 0
    assert drained_to_the_end() == {Outcome.DELETED: 12}


def test_server_that_is_gone_costs_no_attempt_of_a_single_name_where_rows_can_tell(bucket, store, injected):
    Document.objects.create(file="rows/a.txt")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    store(storage_at(f"http://127.0.0.1:{port}"), Document)
    let_go(NAMES[0])

    report = drain()
    injected("S3 server gone", verified="no attempt used up, even of one name")

    assert report.counts == {Outcome.POSTPONED: 1}
    assert attempts() == {0}


def test_drain_works_on_a_copy_of_the_storage_and_leaves_the_projects_own_alone(bucket):
    own = Document._meta.get_field("file").storage

    copy = adapter_for(own).storage

    assert own.client_config.read_timeout == 60
    assert (copy.client_config.read_timeout, copy.client_config.connect_timeout) == (7.5, 7.5)
    assert copy.client_config.retries["total_max_attempts"] == 1
    assert copy.client_config.s3 == own.client_config.s3
    assert adapter_for(own).storage is copy


def test_shorter_timeouts_of_the_project_stay(bucket, settings):
    own = storage_at("http://127.0.0.1:1")
    own.client_config = own.client_config.merge(type(own.client_config)(read_timeout=2))

    assert adapter_for(own).storage.client_config.read_timeout == 2


def test_timeout_of_zero_leaves_the_client_as_it_is(bucket, settings):
    settings.PGCLEANUP_STORAGE_TIMEOUT = timedelta(0)
    own = Document._meta.get_field("file").storage

    assert adapter_for(own).storage is own
