"""Times of S3 are read quickly, and as botocore itself would read them."""

from __future__ import annotations

from datetime import datetime, timezone
from email.utils import format_datetime

import pytest
from botocore.utils import parse_timestamp
from hypothesis import given
from hypothesis import strategies as st

from pgcleanup.storages.clients import with_deadline
from pgcleanup.storages.s3_times import read_time
from tests.clouds.fake_s3 import storage_at

moments = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(timezone.utc))


@given(moments, st.sampled_from(["seconds", "milliseconds", "microseconds"]))
def test_time_of_a_listing_is_what_botocore_reads(moment, precision):
    written = moment.isoformat(timespec=precision).replace("+00:00", "Z")
    assert read_time(written) == parse_timestamp(written)
    assert read_time(written).utcoffset() == parse_timestamp(written).utcoffset()


@given(moments)
def test_time_of_a_head_is_what_botocore_reads(moment):
    written = format_datetime(moment, usegmt=True)
    assert read_time(written) == parse_timestamp(written)
    assert read_time(written).utcoffset() == parse_timestamp(written).utcoffset()


@pytest.mark.parametrize(
    "written",
    ["2026-01-01T00:00:00.1234567Z", "2026-01-01T00:00:00", "20260101T000000Z", "Thu Jan  1 00:00:00 2026", 1767225600],
)
def test_time_written_in_another_way_is_left_to_botocore(written):
    assert read_time(written) == parse_timestamp(written)


def test_what_is_no_time_is_an_error_as_it_is_botocores():
    with pytest.raises(ValueError, match="Invalid timestamp"):
        read_time("yesterday or so")


def test_client_of_the_drain_reads_times_quickly_and_the_projects_own_as_ever():
    theirs = storage_at("http://127.0.0.1:1")
    ours = with_deadline(theirs)

    parsers = [
        storage.connection.meta.client._endpoint._response_parser_factory.create_parser("rest-xml")._timestamp_parser
        for storage in (ours, theirs)
    ]

    assert parsers == [read_time, parse_timestamp]


def test_release_of_the_client_that_works_in_another_way_is_left_as_it_is(monkeypatch):
    storage = storage_at("http://127.0.0.1:1")
    monkeypatch.setattr(type(storage), "_create_session", lambda self: object())
    ours = with_deadline(storage)
    assert type(ours._create_session()) is object
