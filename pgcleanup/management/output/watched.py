"""The log of a service: one line for each thing that happened, for people or for machines."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from pgcleanup.management.output.base import as_json

logger = logging.getLogger("pgcleanup.watch")


class Journal:
    """Tells of events: in LOGGING's way where it has a handler for `pgcleanup.watch`, else on standard output.

    With `as_objects` always on standard output, as one JSON object a line. With `problems_only` only what is wrong.
    """

    def __init__(
        self, write: Callable[[str], Any], using: str, *, as_objects: bool = False, problems_only: bool = False
    ) -> None:
        self._write = write
        self._using = using
        self._as_objects = as_objects
        self._problems_only = problems_only

    def tell(self, event: str, *, problem: bool = False, **fields: Any) -> None:
        """Tell of one event. A record of the logger has the fields as `record.pgcleanup`."""
        if self._problems_only and not problem:
            return
        values = {"event": event, "database": self._using, **fields}
        if self._as_objects:
            self._write(as_json({"at": _now(), **values}))
        elif logger.hasHandlers():
            level = logging.WARNING if problem else logging.INFO
            logger.log(level, "%s", line(values), extra={"pgcleanup": values})
        else:
            self._write(f"{_now()} {line(values)}")


def line(values: dict[str, Any]) -> str:
    """Return `event key=value ...`, with quotes where a value has more than one word."""
    event, *rest = values.items()
    return " ".join([str(event[1]), *(f"{key}={_shown(value)}" for key, value in rest)])


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    # One line stays one line, whatever an error says.
    plain = text and not any(
        character.isspace() or character in '"=' or not character.isprintable() for character in text
    )
    return text if plain else json.dumps(text, ensure_ascii=False)


def _now() -> str:
    return f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
