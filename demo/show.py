"""Printing: no line longer than 100 columns, colours on a terminal only."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterable

from demo.facts import Done, Facts
from demo.story import File
from pgcleanup.status.words import listed, shown, size

WIDTH = 100
BOLD, GREEN, RED, DIM = "1", "32", "31", "2"


def say(text: str = "", style: str = "") -> None:
    """Print a line."""
    print(_styled(text, style), flush=True)


def heading(text: str) -> None:
    """Print a heading after an empty line."""
    say()
    say(text, BOLD)


def command(line: str, output: str) -> None:
    """Print a command and what it said."""
    say(f"  $ {line}", BOLD)
    for row in output.rstrip().splitlines():
        indent = " " * (4 + len(row) - len(row.lstrip()))
        # Only what is too long: wrapping also evens out the columns of a table.
        lines = textwrap.wrap(row, WIDTH, initial_indent=" " * 4, subsequent_indent=f"{indent}  ")
        say("\n".join(lines) if len(row) > WIDTH - 4 else f"    {row}")


def change(number: int, done: Done, facts: Facts) -> None:
    """Print one change with what became of its files, and mark what is not as it must be."""
    recorded = f"{done.recorded or 'nothing'} recorded"
    say(f" {number:>2}  {done.change.title:<78} {_styled(f'{recorded:>16}', DIM)}".rstrip())
    wanted = {**dict.fromkeys(done.expected.goes, True), **dict.fromkeys(done.expected.stays, False)}
    groups: dict[tuple[bool, bool, str], list[File]] = {}
    for file, must_go in wanted.items():
        went = facts.went(file)
        groups.setdefault((went, went == must_go, facts.reason(file)), []).append(file)
    for (went, as_promised, reason), files in groups.items():
        if went:
            reason = f"{reason}, {size(sum(facts.before.get(file, 0) for file in files))}"
        word = "went" if went else "stayed"
        _group(word if as_promised else f"{word}, BROKEN", files, reason, BOLD if as_promised else RED)


def promise(name: str, broken: list[str], holds: str) -> None:
    """Print whether a promise holds."""
    mark = _styled("BROKEN" if broken else "ok", RED if broken else GREEN)
    say(f"  {name:<16} {mark}  {listed(broken, 3) or holds}")


def _group(word: str, files: Iterable[File], reason: str, style: str) -> None:
    text = f"{', '.join(_names(files))}  ({reason})"
    indent = " " * 13
    lines = textwrap.wrap(text, WIDTH - len(indent), break_on_hyphens=False, break_long_words=False)
    first = f"{_styled(f'{word:<7}', style)} "
    say("\n".join(f"     {first}{line}" if index == 0 else indent + line for index, line in enumerate(lines)))


def _names(files: Iterable[File]) -> list[str]:
    """Return the names, each folder only once."""
    short, folder = [], ""
    for _, name in files:
        head, _, tail = name.rpartition("/")
        short.append(shown(tail if head == folder else name, 60))
        folder = head
    return short


def _styled(text: str, style: str) -> str:
    plain = not style or not sys.stdout.isatty() or "NO_COLOR" in os.environ
    return text if plain else f"\x1b[{style}m{text}\x1b[0m"
