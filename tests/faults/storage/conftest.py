"""Fixtures of the storage faults: those of the drain's tests, and disks that can be broken."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.drain.conftest import _django_db_helper, alias, database, heard, receive, session, store
from tests.drain.support import ALIASES

__all__ = ["_django_db_helper", "alias", "database", "heard", "receive", "session", "store"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say that each test here uses both databases, for pytest-django to make them."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.django_db(transaction=True, databases=list(ALIASES)))


def privileged(*command: str) -> None:
    """Run what only root may, in a container perhaps not even root: else skip the test, and say why."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{' '.join(command[:3])}: {done.stderr.strip()}")


@pytest.fixture
def mount(media_root: Path, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Return a function that mounts with the options given; unmounts in the end, whatever is still there."""
    places: list[str] = []

    def make(*options: str) -> None:
        privileged("mount", *options)
        places.append(options[-1])

    yield make
    for place in reversed(places):
        subprocess.run(["umount", "--lazy", place], capture_output=True)


@pytest.fixture
def volume(mount: Callable[..., None], media_root: Path, tmp_path: Path) -> Path:
    """Make MEDIA_ROOT the mount point of a volume, and return where the volume is besides."""
    behind = tmp_path / "volume"
    behind.mkdir()
    mount("--bind", str(behind), str(media_root))
    return behind


@pytest.fixture
def immutable() -> Iterator[Callable[[Path], None]]:
    """Return a function after which not even root can delete a file."""
    paths: list[Path] = []

    def make(path: Path) -> None:
        privileged("chattr", "+i", str(path))
        paths.append(path)

    yield make
    for path in paths:
        subprocess.run(["chattr", "-i", str(path)], capture_output=True)
