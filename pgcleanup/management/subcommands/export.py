"""`manage.py pgcleanup export`."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import fields
from datetime import datetime, time
from itertools import chain
from typing import Any

from django.apps import apps
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.timezone import get_default_timezone, is_naive, make_aware

from pgcleanup.columns import find_file_columns
from pgcleanup.ledger import state
from pgcleanup.ledger.history import Asked, Event, events
from pgcleanup.management.output.base import WRONG_USAGE, as_json
from pgcleanup.management.subcommands.base import Subcommand
from pgcleanup.status.events import event_fields
from pgcleanup.status.words import in_utc, listed

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_VALUES = ("object", "name", "source")
COLUMNS = [*(field.name for field in fields(Event)), "sentence"]


class Export(Subcommand):
    """Writes what is known of files that went."""

    name = "export"
    help = "write the history as JSON or CSV"
    description = (
        "Writes what became of files, when, by whom and why, to standard output: what is pending, and what is in the "
        "history. Without a filter all of it. Exit code 0: done, also where there is nothing, which is said on "
        "standard error; 2: wrong usage, such as a model that there is not."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--object",
            action="append",
            metavar="app.Model:PK",
            help="files of this object, whatever its fields are called now; may be repeated",
        )
        parser.add_argument("--name", action="append", metavar="NAME", help="this file name; may be repeated")
        parser.add_argument(
            "--source", action="append", metavar="LABEL", help="files of this field: app.model.field; may be repeated"
        )
        parser.add_argument("--since", metavar="DATE", help="settled then or later: 2026-11-22, or with a time")
        parser.add_argument("--before", metavar="DATE", help="settled before then; leaves out what is pending")
        parser.add_argument("--format", choices=["json", "csv"], default="json", help="a JSON array (default), or CSV")

    def run(self, using: str, options: dict[str, Any]) -> None:
        asked = Asked(
            names=_tuple(options["name"]),
            sources=_tuple(source.lower() for source in options["source"]) if options["source"] else None,
            objects=tuple(pair for text in options["object"] for pair in _object(text)) if options["object"] else None,
            since=_moment("--since", options["since"]),
            before=_moment("--before", options["before"]),
        )
        self.inspection(using)
        found = events(using, asked)
        first = next(found, None)
        if first is None:
            self._doubt(using, options)
        sought = _Sought(options)
        found = sought.looked_at(chain([first] if first is not None else [], found))
        chunks = _as_json(found) if options["format"] == "json" else _as_csv(found)
        for chunk in chunks:
            self.command.stdout.write(chunk, ending="")
            if self.command.output_error is not None:
                return
        # Not on standard output, which is a file mostly, and is read by machines.
        for sentence in [_nothing(options)] if first is None else sought.missed():
            self.command.stderr.write(sentence)

    def _doubt(self, using: str, options: dict[str, Any]) -> None:
        """End with 2 where nothing was found since there can be nothing: of a model that is gone there may be."""
        stored = find_file_columns(using).stored
        sources = sorted({column.source for column in stored} | set(state.sources(using)))
        for source in options["source"] or ():
            if source.lower() not in sources:
                raise _unknown(f'--source {source}: there is no file field "{source}"', sources)
        labels = sorted({source.rpartition(".")[0] for source in sources})
        for text in options["object"] or ():
            if not {label for label, _ in _object(text)} & set(labels):
                raise _unknown(f"--object {text}: there is no such model with a file field", labels)
            _check_key(text)


class _Sought:
    """Which values of the filters an entry was found for. A mistyped key among good ones looks like an answer."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._objects = {text: set(_object(text)) for text in options["object"] or ()}
        self._missed = {(option, text): None for option in _VALUES for text in options[option] or ()}

    def looked_at(self, found: Iterable[Event]) -> Iterator[Event]:
        for event in found:
            if self._missed:
                for pair in [pair for pair in self._missed if self._is_of(event, *pair)]:
                    del self._missed[pair]
            yield event

    def _is_of(self, event: Event, option: str, text: str) -> bool:
        if option == "object":
            return (event.source.rpartition(".")[0], event.object_pk) in self._objects[text]
        return event.name == text if option == "name" else event.source == text.lower()

    def missed(self) -> list[str]:
        return [f"Nothing was found for --{option} {text}." for option, text in self._missed]


def _nothing(options: dict[str, Any]) -> str:
    """Say that nothing was found, and for what."""
    given = [f"--{option} {text}" for option in _VALUES for text in options[option] or ()]
    given += [f"--{option} {options[option]}" for option in ("since", "before") if options[option]]
    if not given:
        return "Nothing was found: nothing is pending, and the history is empty."
    return f"Nothing was found for {' '.join(given)}."


def _unknown(sentence: str, there: list[str]) -> CommandError:
    return CommandError(f"{sentence}. There are: {listed(there, limit=20)}", returncode=WRONG_USAGE)


def _check_key(text: str) -> None:
    label, _, key = text.partition(":")
    try:
        field = apps.get_model(label)._meta.pk
        field.to_python(key)
    except LookupError:
        return
    except ValidationError as error:
        sentence = f"--object {text}: {key} is no primary key of {label}: {' '.join(error.messages)}"
        raise CommandError(sentence, returncode=WRONG_USAGE) from error


def _as_json(found: Iterable[Event]) -> Iterator[str]:
    separator = "[\n"
    for event in found:
        yield separator + as_json(event_fields(event))
        separator = ",\n"
    yield "[]\n" if separator == "[\n" else "\n]\n"


def _as_csv(found: Iterable[Event]) -> Iterator[str]:
    line = _Line()
    writer = csv.DictWriter(line, COLUMNS)
    writer.writeheader()
    yield line.text
    for event in found:
        writer.writerow({name: _plain(value) for name, value in event_fields(event).items()})
        yield line.text


class _Line:
    """Where csv writes one line after the other."""

    text = ""

    def write(self, text: str) -> None:
        self.text = text


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return in_utc(value).isoformat()
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    # A spreadsheet takes such a cell for a formula, and a file name may be anybody's.
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _object(text: str) -> Iterator[tuple[str, str]]:
    """Yield the model and key that the entries of an object have: of its own table, and of those it inherits from."""
    label, colon, key = text.partition(":")
    if not colon or not key or label.count(".") != 1:
        raise CommandError(
            f'--object {text}: an object is "app.Model:primary key", for example shop.Product:17',
            returncode=WRONG_USAGE,
        )
    try:
        model = apps.get_model(label)
    except LookupError:
        # Its entries have outlived it.
        yield label.lower(), key
        return
    meta = model._meta.concrete_model._meta
    if len(meta.pk_fields) > 1:
        yield meta.label_lower, _composite(text, key, len(meta.pk_fields))
        return
    for written in _as_recorded(meta.pk, key):
        yield meta.label_lower, written
        yield from ((parent._meta.label_lower, written) for parent in meta.all_parents)


def _as_recorded(field: Any, key: str) -> set[str]:
    """Return a key as it was given, and as the database writes it: a UUID with its hyphens, 17 for 017."""
    try:
        return {key, str(field.to_python(key))}
    except ValidationError:
        return {key}


def _composite(text: str, key: str, parts: int) -> str:
    """Return a composite key as the triggers write it: a JSON array of strings."""
    try:
        value = json.loads(key)
    except ValueError:
        value = None
    if not isinstance(value, list) or len(value) != parts:
        raise CommandError(
            f"--object {text}: its key has {parts} parts. Write it as JSON, for example "
            f"'{text.partition(':')[0]}:{json.dumps(['1'] * parts)}'",
            returncode=WRONG_USAGE,
        )
    return json.dumps([part if isinstance(part, str) else str(part) for part in value], ensure_ascii=False)


def _moment(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        value = parse_datetime(text) if len(text) > 10 else parse_date(text)
    except ValueError:
        value = None
    if value is None:
        raise CommandError(
            f"{option} {text}: give a date, 2026-11-22, or a time, 2026-11-22T14:30:00+00:00", returncode=WRONG_USAGE
        )
    moment = value if isinstance(value, datetime) else datetime.combine(value, time())
    return make_aware(moment, get_default_timezone()) if is_naive(moment) else moment


def _tuple(values: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)
