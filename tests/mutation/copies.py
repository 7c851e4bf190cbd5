"""Copies of the checkout in which a safety step is switched off. The checkout itself is never touched."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
_COPIED = ("pgcleanup", "migrations_templates", "tests", "pyproject.toml")


class DoesNotApply(Exception):
    """The code that a step is switched off in reads differently by now."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One change to one file. How `old` is broken into lines does not matter, so that a formatter is no news to it."""

    path: str
    old: str
    new: str

    def apply(self, root: Path) -> None:
        """Change the file below `root`.

        Raises:
            DoesNotApply: the text is not there exactly once, or what comes out of it is no Python.
        """
        file = root / self.path
        text = file.read_text() if file.exists() else ""
        # Any white space for white space, and none beside brackets, where a formatter may break the line.
        parts = [re.escape(part) for part in re.split(r"\s+|(?<=[(\[{])|(?=[)\]}])", self.old.strip()) if part]
        found = list(re.finditer(r"\s*".join(parts), text))
        if len(found) != 1:
            raise DoesNotApply(
                f"{self.path} holds {len(found) or 'no'} places that read\n\n{self.old.strip()}\n\n"
                "It was rewritten, it seems. Bring tests/mutation/steps.py up to it: what switches the step off now?"
            )
        changed = text[: found[0].start()] + self.new + text[found[0].end() :]
        if file.suffix == ".py":
            try:
                compile(changed, self.path, "exec")
            except SyntaxError as error:
                raise DoesNotApply(f"{self.path} is no Python any more once it is changed: {error}") from error
        file.write_text(changed)


def copy_checkout(to: Path, of: Path = CHECKOUT) -> Path:
    """Copy what the tests need to run on their own, and return where it is."""
    for name in _COPIED:
        if (of / name).is_dir():
            shutil.copytree(of / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            to.mkdir(parents=True, exist_ok=True)
            shutil.copy2(of / name, to / name)
    return to
