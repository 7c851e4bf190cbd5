"""What no file of the repository may contain, and how long a module may be."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PACKAGE = CHECKOUT / "pgcleanup"
LONGEST_MODULE = 260

# In pieces, so that this file does not contain what it looks for.
FORBIDDEN = {
    "a path of a build machine": re.compile(rb"/(?:wor[k]|far[m]|roo[t])/"),
    "the host of a package registry": re.compile(
        rb"pyp[i]\.org|python[h]osted\.org|registry\.npm[j]s|deb\.debia[n]\.org|registry\.yarn[p]kg|index\.cra[t]es\.io"
    ),
}


def repository_files() -> list[Path]:
    """Return the tracked files and those that `git add` would track; in a copy without git, all but caches."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    if listed.returncode == 0:
        candidates = [CHECKOUT / name for name in listed.stdout.split("\0") if name]
    else:
        candidates = [
            path
            for path in CHECKOUT.rglob("*")
            if not any(part.startswith((".", "_")) and part != ".ci" for part in path.relative_to(CHECKOUT).parts[:-1])
        ]
    return sorted(path for path in candidates if path.is_file())


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_contains(what: str) -> None:
    pattern = FORBIDDEN[what]
    hits = [
        f"{path.relative_to(CHECKOUT)}:{number}"
        for path in repository_files()
        for number, line in enumerate(path.read_bytes().splitlines(), start=1)
        if pattern.search(line)
    ]

    assert not hits, f"{what} stands in {hits}"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_is_short_enough_to_read(path: Path) -> None:
    lines = len(path.read_text().splitlines())

    assert lines <= LONGEST_MODULE, f"{lines} lines: make it a package of several files"
