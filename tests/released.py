"""The digests of the templates, by the version that released them first: `make templates` brings the list up to date.

What users' databases and migrations were made from never changes. Only a template of a version that is not released
yet gets a new digest.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pgcleanup import __version__

CHECKOUT = Path(__file__).parents[1]
TEMPLATES = CHECKOUT / "migrations_templates"
DIGESTS = "digests.txt"


def is_released(version: str, changelog: str) -> bool:
    """Tell whether a version has a date in the changelog."""
    return f"## [{version}] - unreleased" not in changelog


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def templates(folder: Path) -> list[Path]:
    """Return the templates: every file with a version in its name."""
    return sorted(path for path in folder.iterdir() if ".v" in path.name)


def listed(folder: Path) -> dict[str, tuple[str, str]]:
    """Return version and digest of every template that is listed, by its name."""
    lines = (folder / DIGESTS).read_text().splitlines() if (folder / DIGESTS).exists() else []
    return {name: (version, sha) for sha, version, name in (line.split() for line in lines)}


def update(folder: Path, changelog: str, current: str = __version__) -> None:
    """List what is not listed, and what is not released yet anew."""
    found = {
        name: entry for name, entry in listed(folder).items() if is_released(entry[0], changelog) or entry[0] != current
    }
    for path in templates(folder):
        found.setdefault(path.name, (current, digest(path)))
    lines = [f"{sha}  {version}  {name}\n" for name, (version, sha) in sorted(found.items())]
    (folder / DIGESTS).write_text("".join(lines))


def problems(folder: Path, changelog: str) -> list[str]:
    """Return a sentence for each template that is not as it was listed."""
    known, there = listed(folder), {path.name: digest(path) for path in templates(folder)}
    found = [f"{name} is not listed. Run: make templates" for name in sorted(there.keys() - known.keys())]
    for name, (version, sha) in known.items():
        if there.get(name) != sha:
            what = f"{name} is not what {version} released: put it back, and make a new version of it"
            found.append(what if is_released(version, changelog) else f"{name} changed. Run: make templates")
    return found


if __name__ == "__main__":
    update(TEMPLATES, (CHECKOUT / "CHANGELOG.md").read_text())
