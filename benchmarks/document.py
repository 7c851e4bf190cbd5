"""The table in docs/performance.md."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from benchmarks.figures import Figure

_PLACE = re.compile(r"(?<=<!-- measured -->\n).*?(?=<!-- end -->)", re.DOTALL)


def write(path: str, machine: str, figures: Sequence[Figure]) -> None:
    """Put the figures between the marks of this document, in place of those that are there."""
    lines = [f"{date.today():%d %B %Y}, {machine}.", "", "| what | target | measured | |", "|---|---|---|---|"]
    lines += (f"| {_cell(figure.what)} | {figure.target} | {figure.result} | {figure.verdict} |" for figure in figures)
    before = Path(path).read_text()
    after, count = _PLACE.subn(lambda _: "\n" + "\n".join(lines) + "\n\n", before)
    if count != 1:
        raise SystemExit(f"{path} has no place for the table: <!-- measured --> and <!-- end -->")
    Path(path).write_text(after)


def _cell(what: str) -> str:
    # Markdown takes no indentation in a table.
    return "… " + what.strip() if what.startswith(" ") else what
