"""Which PostgreSQL, Django and Python are tested together."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pair:
    """One combination; "pair" is the word for it, as a database with a Python environment."""

    postgres: str
    django: str
    python: str

    @property
    def name(self) -> str:
        """How it is asked for: make test-matrix PAIRS=NAME."""
        return f"{self.postgres}-{self.django}-{self.python}"

    @property
    def title(self) -> str:
        """How it is printed."""
        return f"PostgreSQL {self.postgres}  Django {self.django}  Python {self.python}"


# Every version at least once, each Django on the oldest and on a new PostgreSQL and Python that it takes: the full
# product would tell little more. Django 6 needs Python 3.12, Django 6.1 needs PostgreSQL 15.
# `make test` is one more: the embedded PostgreSQL 18 on whatever Python is there.
PAIRS = (
    Pair("14", "5.2", "3.10"),
    Pair("15", "5.2", "3.11"),
    Pair("17", "5.2", "3.13"),
    Pair("14", "6.0", "3.12"),
    Pair("16", "6.0", "3.13"),
    Pair("15", "6.1", "3.12"),
    Pair("17", "6.1", "3.12"),
    Pair("18", "6.1", "3.13"),
)


class UnknownPair(ValueError):
    """A name that is not of the form POSTGRESQL-DJANGO-PYTHON, or a combination that Django refuses."""


def choose(names: list[str]) -> list[Pair]:
    """Return the pairs of these names, or all of the matrix without a name.

    A pair need not be in the matrix.

    Raises:
        UnknownPair: a name is none, or Django does not run on such a combination.
    """
    return [_parse(name) for name in names] or list(PAIRS)


def _parse(name: str) -> Pair:
    parts = name.split("-")
    try:
        postgres, django, python = parts
        numbers = int(postgres), _version(django), _version(python)
    except ValueError:
        raise UnknownPair(f"'{name}' names no pair; one reads {PAIRS[0].name}: PostgreSQL, Django, Python") from None
    if numbers[1] >= (6, 0) and numbers[2] < (3, 12):
        raise UnknownPair(f"'{name}': Django {django} needs Python 3.12 or newer")
    if numbers[1] >= (6, 1) and numbers[0] < 15:
        raise UnknownPair(f"'{name}': Django {django} needs PostgreSQL 15 or newer")
    return Pair(postgres, django, python)


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)
