"""Every setting: name, type, default. Read from Django's settings at each use, so overrides in tests work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Generic, TypeVar, overload

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

PREFIX = "PGCLEANUP_"
LONGEST = timedelta(days=36_500)
"""Of a duration, also of one on a command line: a moment so long ago, or so far ahead, is still one of a calendar."""
NO_NAMES: tuple[str, ...] = ()
T = TypeVar("T")


class Setting(Generic[T]):
    """One `PGCLEANUP_*` setting, as an attribute of `Settings`."""

    name: str

    def __init__(self, default: T, parse: Callable[[Any], T]) -> None:
        self.default = default
        self.parse = parse

    def __set_name__(self, owner: type, attribute: str) -> None:
        self.name = PREFIX + attribute.upper()

    @overload
    def __get__(self, settings: None, owner: type) -> Setting[T]: ...
    @overload
    def __get__(self, settings: object, owner: type) -> T: ...
    def __get__(self, settings: object | None, owner: type) -> Setting[T] | T:
        if settings is None:
            return self
        value = getattr(django_settings, self.name, self.default)
        try:
            return self.parse(value)
        except ValueError as error:
            raise ImproperlyConfigured(f"{self.name} = {value!r}: {error}") from error


def _duration(value: Any) -> timedelta:
    if not isinstance(value, timedelta):
        raise ValueError("a duration is a datetime.timedelta, for example timedelta(minutes=10)")
    if value < timedelta(0):
        raise ValueError("a duration cannot be negative")
    if value > LONGEST:
        raise ValueError("a duration is at most 100 years")
    return value


def _lock_timeout(value: Any) -> timedelta:
    duration = _duration(value)
    # PostgreSQL counts it in milliseconds, with 31 bits.
    if duration > timedelta(days=1):
        raise ValueError("must be at most a day")
    return duration


def _call_duration(value: Any) -> timedelta:
    duration = _duration(value)
    # PostgreSQL ends the drain's idle session after ten minutes, and its claims with it: the call must end before.
    if duration > timedelta(minutes=5):
        raise ValueError("must be at most five minutes")
    return duration


def _duration_or_none(value: Any) -> timedelta | None:
    return None if value is None else _duration(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be True or False")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError("must be a whole number of at least 1")
    return value


def _names(value: Any, example: str = "shop.Product") -> tuple[str, ...]:
    if not isinstance(value, list | tuple | set | frozenset) or not all(isinstance(name, str) for name in value):
        raise ValueError(f'must be a list of strings, for example ["{example}"]')
    return tuple(value)


def _roles(value: Any) -> tuple[str, ...]:
    return _names(value, example="reporting")


def _labels(value: Any) -> tuple[str, ...]:
    names = _names(value)
    for name in names:
        if len(name.split(".")) not in (2, 3):
            raise ValueError(f'{name!r} is neither "app_label.Model" nor "app_label.Model.field"')
    return names


def _field_labels(value: Any) -> tuple[str, ...]:
    names = _names(value, example="shop.Product.image")
    for name in names:
        if len(name.split(".")) != 3:
            raise ValueError(f'{name!r} is not "app_label.Model.field"')
    return names


def _columns(value: Any) -> str:
    if value not in ("all", "selected"):
        raise ValueError('must be "all" or "selected"')
    return str(value)


class Settings:
    """The settings by attribute: `settings.grace_period` is `PGCLEANUP_GRACE_PERIOD`.

    Reading one raises ImproperlyConfigured for a value that makes no sense; `problems()` lists all such.
    """

    grace_period = Setting(timedelta(hours=1), _duration)
    upload_window = Setting(timedelta(seconds=60), _duration)
    unfenced_roles = Setting(NO_NAMES, _roles)
    delete_files = Setting(True, _flag)
    drain_on_commit = Setting(False, _flag)
    max_attempts = Setting(10, _count)
    max_age = Setting(timedelta(days=1), _duration)
    history_retention = Setting[timedelta | None](timedelta(days=365), _duration_or_none)
    columns = Setting("all", _columns)
    include = Setting(NO_NAMES, _labels)
    exclude = Setting(NO_NAMES, _labels)
    extra_references = Setting(NO_NAMES, _field_labels)
    ignore_references = Setting(NO_NAMES, _labels)
    sync_on_migrate = Setting(True, _flag)
    lock_timeout = Setting(timedelta(seconds=2), _lock_timeout)
    scan_interval = Setting(timedelta(hours=1), _duration)
    storage_timeout = Setting(timedelta(seconds=30), _call_duration)
    record_dropped = Setting(True, _flag)
    delete_versions = Setting(False, _flag)


settings = Settings()


def all_settings() -> dict[str, Setting[Any]]:
    """Return every setting by its full name, in the order of their definition."""
    return {item.name: item for item in vars(Settings).values() if isinstance(item, Setting)}


def problems() -> Iterator[str]:
    """Yield a sentence for each bad value."""
    for setting in all_settings().values():
        try:
            setting.__get__(settings, Settings)
        except ImproperlyConfigured as error:
            yield str(error)


def unknown_names() -> list[str]:
    """Return the `PGCLEANUP_*` names in Django's settings that are no setting of ours, sorted."""
    return sorted(name for name in dir(django_settings) if name.startswith(PREFIX) and name not in all_settings())


def autocommit_problem(using: str) -> str | None:
    """Return what is wrong with a database whose connections commit nothing by themselves, and what to do."""
    if connections[using].settings_dict.get("AUTOCOMMIT", True):
        return None
    return (
        f'DATABASES["{using}"]["AUTOCOMMIT"] is False, so nothing would be committed. Take it out of the settings: '
        "drains and commands commit by themselves"
    )
