"""Settings: read at each use, checked when read, and listed when they make no sense."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from pgcleanup import conf

DEFAULTS = {
    "PGCLEANUP_GRACE_PERIOD": timedelta(hours=1),
    "PGCLEANUP_UPLOAD_WINDOW": timedelta(seconds=60),
    "PGCLEANUP_UNFENCED_ROLES": (),
    "PGCLEANUP_DELETE_FILES": True,
    "PGCLEANUP_DRAIN_ON_COMMIT": False,
    "PGCLEANUP_MAX_ATTEMPTS": 10,
    "PGCLEANUP_MAX_AGE": timedelta(days=1),
    "PGCLEANUP_HISTORY_RETENTION": timedelta(days=365),
    "PGCLEANUP_COLUMNS": "all",
    "PGCLEANUP_INCLUDE": (),
    "PGCLEANUP_EXCLUDE": (),
    "PGCLEANUP_EXTRA_REFERENCES": (),
    "PGCLEANUP_IGNORE_REFERENCES": (),
    "PGCLEANUP_SYNC_ON_MIGRATE": True,
    "PGCLEANUP_LOCK_TIMEOUT": timedelta(seconds=2),
    "PGCLEANUP_SCAN_INTERVAL": timedelta(hours=1),
    "PGCLEANUP_STORAGE_TIMEOUT": timedelta(seconds=30),
    "PGCLEANUP_RECORD_DROPPED": True,
    "PGCLEANUP_DELETE_VERSIONS": False,
}
DURATIONS = [name for name, value in DEFAULTS.items() if isinstance(value, timedelta)]
FLAGS = [name for name, value in DEFAULTS.items() if isinstance(value, bool)]
LISTS = [name for name, value in DEFAULTS.items() if isinstance(value, tuple)]


def value_of(name: str) -> object:
    return getattr(conf.settings, name.removeprefix("PGCLEANUP_").lower())


def test_settings_are_the_documented_ones() -> None:
    assert set(conf.all_settings()) == set(DEFAULTS)


@pytest.mark.parametrize(("name", "default"), DEFAULTS.items())
def test_default_of(name: str, default: object) -> None:
    assert value_of(name) == default


def test_value_is_read_at_each_use(settings: Settings) -> None:
    before = conf.settings.max_attempts

    settings.PGCLEANUP_MAX_ATTEMPTS = 3

    assert (before, conf.settings.max_attempts) == (10, 3)


@pytest.mark.parametrize("name", DURATIONS)
@pytest.mark.parametrize("value", [3600, 1.5, "1 hour"])
def test_duration_as_a_number_is_an_error_that_names_timedelta(settings: Settings, name: str, value: object) -> None:
    setattr(settings, name, value)

    with pytest.raises(ImproperlyConfigured, match=f"{name} = .*timedelta"):
        value_of(name)


@pytest.mark.parametrize("name", DURATIONS)
def test_duration_cannot_be_negative(settings: Settings, name: str) -> None:
    setattr(settings, name, timedelta(seconds=-1))

    with pytest.raises(ImproperlyConfigured, match="negative"):
        value_of(name)


@pytest.mark.parametrize("name", DURATIONS)
@pytest.mark.parametrize("value", [timedelta.max, timedelta(days=36_501)], ids=["the longest there is", "100 years"])
def test_duration_has_to_lead_to_a_moment_of_the_calendar(settings: Settings, name: str, value: timedelta) -> None:
    setattr(settings, name, value)

    with pytest.raises(ImproperlyConfigured, match="at most 100 years"):
        value_of(name)


def test_lock_timeout_has_to_be_one_that_the_server_takes(settings: Settings) -> None:
    settings.PGCLEANUP_LOCK_TIMEOUT = timedelta(days=30)

    with pytest.raises(ImproperlyConfigured, match="at most a day"):
        value_of("PGCLEANUP_LOCK_TIMEOUT")


@pytest.mark.parametrize("name", DURATIONS)
def test_duration_can_be_zero(settings: Settings, name: str) -> None:
    setattr(settings, name, timedelta(0))

    assert value_of(name) == timedelta(0)


def test_storage_call_may_not_outlive_the_session_that_holds_its_claim(settings: Settings) -> None:
    settings.PGCLEANUP_STORAGE_TIMEOUT = timedelta(minutes=6)

    with pytest.raises(ImproperlyConfigured, match="at most five minutes"):
        value_of("PGCLEANUP_STORAGE_TIMEOUT")


def test_history_may_be_kept_for_ever(settings: Settings) -> None:
    settings.PGCLEANUP_HISTORY_RETENTION = None

    assert conf.settings.history_retention is None


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("value", [1, 0, "False", None])
def test_flag_is_true_or_false(settings: Settings, name: str, value: object) -> None:
    setattr(settings, name, value)

    with pytest.raises(ImproperlyConfigured, match="True or False"):
        value_of(name)


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "10", None])
def test_attempts_are_a_whole_number_of_at_least_one(settings: Settings, value: object) -> None:
    settings.PGCLEANUP_MAX_ATTEMPTS = value

    with pytest.raises(ImproperlyConfigured, match="whole number"):
        value_of("PGCLEANUP_MAX_ATTEMPTS")


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("value", ["project.Document.file", [1], [None], None, 7], ids=repr)
def test_list_is_one_of_strings(settings: Settings, name: str, value: object) -> None:
    setattr(settings, name, value)

    with pytest.raises(ImproperlyConfigured, match=f"{name}.*list of strings"):
        value_of(name)


@pytest.mark.parametrize("name", ["PGCLEANUP_INCLUDE", "PGCLEANUP_EXCLUDE", "PGCLEANUP_IGNORE_REFERENCES"])
def test_label_names_a_model_or_a_field(settings: Settings, name: str) -> None:
    setattr(settings, name, ["a.Model", "a.Model.field"])
    assert value_of(name) == ("a.Model", "a.Model.field")

    setattr(settings, name, ["Model"])
    with pytest.raises(ImproperlyConfigured, match=r"app_label\.Model"):
        value_of(name)


def test_extra_reference_names_a_field(settings: Settings) -> None:
    settings.PGCLEANUP_EXTRA_REFERENCES = ["a.Model"]

    with pytest.raises(ImproperlyConfigured, match=r"app_label\.Model\.field"):
        value_of("PGCLEANUP_EXTRA_REFERENCES")


@pytest.mark.parametrize("value", ["some", "ALL", None, ["all"]])
def test_columns_are_all_or_selected(settings: Settings, value: object) -> None:
    settings.PGCLEANUP_COLUMNS = value

    with pytest.raises(ImproperlyConfigured, match='"all" or "selected"'):
        value_of("PGCLEANUP_COLUMNS")


def test_problems_lists_every_bad_value(settings: Settings) -> None:
    settings.PGCLEANUP_GRACE_PERIOD = 60
    settings.PGCLEANUP_MAX_ATTEMPTS = 0

    assert [problem.split(" = ")[0] for problem in conf.problems()] == [
        "PGCLEANUP_GRACE_PERIOD",
        "PGCLEANUP_MAX_ATTEMPTS",
    ]


def test_problems_is_empty_for_the_defaults() -> None:
    assert list(conf.problems()) == []


def test_unknown_names_are_found(settings: Settings) -> None:
    settings.PGCLEANUP_GRACE_PERIODS = timedelta(0)
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(0)

    assert conf.unknown_names() == ["PGCLEANUP_GRACE_PERIODS"]
