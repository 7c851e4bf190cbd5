"""Numbers as people read them: 1,204 files, 3.1 GB, 1 h 00 min, 14:32:05 UTC."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

from django.utils.timezone import get_default_timezone, is_naive, make_aware

_SIZES = ("bytes", "KB", "MB", "GB", "TB", "PB")
_PERIODS = (("day", 86_400), ("hour", 3_600), ("minute", 60))
_KEPT = {
    "default": "a default of its field",
    "keep()": "let go under keep()",
    "cleanup_pre_delete": "kept by a cleanup_pre_delete receiver",
    "excluded": "of an excluded column",
}


def number(value: int) -> str:
    """Return 1204 as 1,204."""
    return f"{value:,}"


def plural(value: int, noun: str, many: str = "") -> str:
    """Return "1 file" or "1,204 files"."""
    return f"{value:,} {noun if value == 1 else many or noun + 's'}"


def size(value: int) -> str:
    """Return a number of bytes in the unit that leaves it between 1 and 1,000: 812 bytes, 3.1 GB."""
    amount = float(value)
    for unit in _SIZES:
        if amount < 999.5 or unit == _SIZES[-1]:
            break
        amount /= 1000
    if unit == "bytes":
        return plural(value, "byte")
    return f"{amount:.1f} {unit}" if amount < 99.95 else f"{amount:,.0f} {unit}"


def duration(value: timedelta) -> str:
    """Return how long something took or takes, in two units at most: 45 s, 12 min, 1 h 00 min, 3 d 04 h."""
    seconds = max(round(value.total_seconds()), 0)
    if seconds < 60:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02} min"
    days, hours = divmod(hours, 24)
    return f"{days:,} d {hours:02} h"


def period(value: timedelta) -> str:
    """Return a duration as somebody set it: "1 hour", "90 minutes"; "0 seconds" for none at all."""
    seconds = value.total_seconds()
    for unit, length in _PERIODS:
        if seconds >= length and seconds % length == 0:
            return plural(int(seconds // length), unit)
    return plural(int(seconds), "second") if seconds == int(seconds) else f"{seconds:g} seconds"


def in_utc(value: datetime) -> datetime:
    """Return a time in UTC. With USE_TZ = False the database's times come without an offset, in TIME_ZONE."""
    aware = make_aware(value, get_default_timezone()) if is_naive(value) else value
    return aware.astimezone(timezone.utc)


def moment(value: datetime) -> str:
    """Return a time of day in UTC, with its date where that is not today."""
    value = in_utc(value)
    today = datetime.now(timezone.utc).date()
    return value.strftime("%H:%M:%S UTC" if value.date() == today else "%Y-%m-%d %H:%M:%S UTC")


def ahead(value: datetime) -> str:
    """Return a time to come and how far off it is: "14:32:05 UTC, in 1 h 00 min"."""
    left = in_utc(value) - datetime.now(timezone.utc)
    return f"{moment(value)}, in {duration(left)}" if left > timedelta(0) else moment(value)


def kept_because(reason: str) -> str:
    """Return the words for the reason of a kept name: one of ours, or the source that still names it."""
    return _KEPT.get(reason, f"still named by {reason}")


def ended(text: str) -> str:
    """Return a text that another sentence follows, with a full stop: a server's messages have none."""
    return text if text.endswith((".", "!", "?")) else f"{text}."


def listed(items: Sequence[str], limit: int = 5) -> str:
    """Return the first few of some names, and how many more there are."""
    rest = len(items) - limit
    return ", ".join(items[:limit]) + (f" and {number(rest)} more" if rest > 0 else "")


def shown(name: str, limit: int = 80) -> str:
    """Return a file name fit for one line: what a terminal would act on is escaped, a long one is cut."""
    text = name if name.isprintable() and name == name.strip() and name else repr(name)
    return text if len(text) <= limit else f"{text[: limit // 2 - 1]}…{text[-limit // 2 :]}"
