"""A real disk that refuses, by the kernel's own errors: nothing is lost, nothing goes early, all goes in the end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import FileSystemStorage
from django.db import connections

from pgcleanup.drain import drain
from pgcleanup.models import Outcome
from tests.drain.support import agree, end_retry_waits, entries, let_go, pending, put
from tests.faults.storage.conftest import privileged
from tests.project import database_url
from tests.project.models import Document
from tests.support import MANAGE, manage, with_settings

NAMES = [f"docs/{number:02}.txt" for number in range(30)]
ROWS = [f"rows/{number}.txt" for number in range(6)]


def stored(*names: str) -> list[Path]:
    return [put(name) for name in names]


def rows() -> list[Path]:
    """Store files, and commit the rows that name them."""
    Document.objects.bulk_create([Document(file=name) for name in ROWS])
    return stored(*ROWS)


def environment(folder: Path, root: Path) -> dict[str, str]:
    """Return that of a process that drains this test's databases, with files in `root`."""
    return with_settings(
        {
            **os.environ,
            "DATABASE_URL": database_url.render(connections["default"].settings_dict),
            "OTHER_DATABASE_URL": database_url.render(connections["other"].settings_dict),
            "PGCLEANUP_TEST_MEDIA": str(root),
        },
        folder,
        PGCLEANUP_GRACE_PERIOD=timedelta(0),
        PGCLEANUP_UPLOAD_WINDOW=timedelta(0),
        PGCLEANUP_STORAGE_TIMEOUT=timedelta(seconds=0.3),
    )


def drained_to_the_end(media_root: Path) -> dict[Outcome, int]:
    """Drain once the fault is over, and see that nothing was lost: what rows name is there, and nothing else is."""
    end_retry_waits()
    report = drain()
    named = set(Document.objects.values_list("file", flat=True))
    on_disk = {str(path.relative_to(media_root)) for path in media_root.rglob("*.txt")}
    assert (pending(), report.exit_code) == ([], 0)
    assert on_disk == named
    return report.counts


@pytest.mark.parametrize("count", [1, 30])
def test_read_only_disk_costs_no_attempt_and_all_goes_once_it_can_be_written(volume, media_root, count, injected):
    rows()
    paths = stored(*NAMES[:count])
    let_go(*NAMES[:count])
    privileged("mount", "-o", "remount,bind,ro", str(media_root))

    report = drain()
    injected("EROFS", verified="no attempt used up, all deleted once the disk can be written")

    assert report.exit_code == 1
    assert "Read-only file system" in report.problems[0]
    assert {attempts for (attempts,) in entries("attempts")} == {0}
    assert all(path.exists() for path in paths)
    subprocess.run(["mount", "-o", "remount,bind,rw", str(media_root)], check=True)
    assert drained_to_the_end(media_root) == {Outcome.DELETED: count}


def test_disk_that_becomes_read_only_in_the_midst_of_a_run(volume, media_root, receive, injected):
    rows()
    stored(*NAMES)
    let_go(*NAMES)
    seen: list[str] = []

    def remount(file_name, **kwargs):
        seen.append(file_name)
        if len(seen) == 10:
            privileged("mount", "-o", "remount,bind,ro", str(media_root))

    receive(before=remount)

    report = drain()
    injected("EROFS in the midst of a batch", verified="what went before is settled, no attempt used up")

    assert report.counts == {Outcome.DELETED: 9, Outcome.POSTPONED: 21}
    assert {attempts for (attempts,) in entries("attempts")} == {0}
    subprocess.run(["mount", "-o", "remount,bind,rw", str(media_root)], check=True)
    assert drained_to_the_end(media_root) == {Outcome.DELETED: 21}


def test_file_that_may_not_be_deleted_keeps_no_other_from_going(immutable, media_root, injected):
    rows()
    paths = stored(*NAMES)
    let_go(*NAMES)
    immutable(paths[3])

    report = drain()
    injected("EPERM for one file", verified="the others go, the one is retried with its error")

    assert report.counts == {Outcome.DELETED: 29, Outcome.POSTPONED: 1}
    assert entries("name, attempts") == [(NAMES[3], 1)]
    assert "PermissionError" in entries("last_error")[0][0]
    subprocess.run(["chattr", "-i", str(paths[3])], check=True)
    assert drained_to_the_end(media_root) == {Outcome.DELETED: 1}


def test_folder_that_may_not_be_written_keeps_no_other_folder_from_being_drained(immutable, media_root, injected):
    rows()
    stored(*NAMES)
    others = [f"other/{number}.txt" for number in range(5)]
    stored(*others)
    let_go(*NAMES, *others)
    folder = put("docs/00.txt").parent
    immutable(folder)

    report = drain()
    injected("EPERM for one folder", verified="other folders are drained, its files are retried")

    assert report.counts == {Outcome.DELETED: 5, Outcome.POSTPONED: 30}
    assert report.problems == ()
    subprocess.run(["chattr", "-i", str(folder)], check=True)
    assert drained_to_the_end(media_root) == {Outcome.DELETED: 30}


@pytest.fixture
def public_root(settings: Any) -> Iterator[Path]:
    """Put MEDIA_ROOT where everybody may go: another run of pytest closes the folder that all tmp_paths are in."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        settings.MEDIA_ROOT = folder
        agree()
        yield Path(folder)


@pytest.fixture
def unprivileged() -> Iterator[Callable[[], None]]:
    """Return a function from which on the tests are not root's, as a drain in the crontab of the wrong user."""
    if os.geteuid():
        pytest.skip("only root can become somebody else")
    yield lambda: os.seteuid(65534)
    os.seteuid(0)


@pytest.mark.parametrize("folders", [1, 10])
def test_drain_of_the_wrong_user_costs_no_attempt(public_root, unprivileged, folders, injected):
    rows()
    names = [f"folder{number % folders}/{number:02}.txt" for number in range(30)]
    stored(*names)
    let_go(*names)
    unprivileged()

    report = drain()
    injected("EACCES for all files", verified="no attempt used up, all deleted by the right user")

    assert report.exit_code == 1
    assert "lets no file be deleted" in report.problems[0]
    assert {attempts for (attempts,) in entries("attempts")} == {0}
    os.seteuid(0)
    assert drained_to_the_end(public_root) == {Outcome.DELETED: 30}


def test_file_in_use_by_the_kernel_is_retried(mount, tmp_path, media_root, injected):
    """EBUSY: something is mounted on it. An open file can be deleted, as everywhere but on Windows."""
    rows()
    paths = stored(*NAMES)
    other = tmp_path / "other"
    other.touch()
    let_go(*NAMES)
    mount("--bind", str(other), str(paths[0]))

    with paths[1].open():
        report = drain()
    injected("EBUSY", verified="the others go, the one is retried")

    assert report.counts == {Outcome.DELETED: 29, Outcome.POSTPONED: 1}
    assert "busy" in entries("last_error")[0][0]
    subprocess.run(["umount", str(paths[0])], check=True)
    assert drained_to_the_end(media_root) == {Outcome.DELETED: 1}


@pytest.mark.parametrize("count", [1, 4, 30])
@pytest.mark.parametrize("stray", [False, True], ids=["empty mount point", "stray file"])
def test_volume_that_is_not_mounted_is_not_believed(volume, media_root, count, stray, injected):
    rows()
    stored(*NAMES[:count])
    let_go(*NAMES[:count])
    subprocess.run(["umount", str(media_root)], check=True)
    if stray:
        put("stray.txt")

    report = drain()
    injected("volume not mounted", verified="nothing settled as absent, all deleted once it is mounted")

    assert report.counts == {Outcome.POSTPONED: count}
    assert report.exit_code == 1
    assert "--accept-absent" in report.problems[0]
    subprocess.run(["mount", "--bind", str(volume), str(media_root)], check=True)
    assert drained_to_the_end(media_root) == {Outcome.DELETED: count}


@pytest.mark.parametrize("after", [10, 20, 29])
def test_volume_that_is_unmounted_in_the_midst_of_a_batch_is_not_believed_from_then_on(
    volume, media_root, store, after, injected
):
    class Unmounts(FileSystemStorage):
        """Takes the volume away after so many deletions."""

        left = after

        def delete(self, name: str) -> None:
            super().delete(name)
            self.left -= 1
            if not self.left:
                subprocess.run(["umount", "--lazy", str(media_root)], check=True)

    store(Unmounts(media_root), Document)
    rows()
    stored(*NAMES)
    let_go(*NAMES)

    report = drain()
    injected("volume unmounted in the midst of a batch", verified="nothing settled as absent from then on")

    assert report.counts == {Outcome.DELETED: after, Outcome.POSTPONED: 30 - after}
    subprocess.run(["mount", "--bind", str(volume), str(media_root)], check=True)
    assert drained_to_the_end(media_root) == {Outcome.DELETED: 30 - after}


def test_drain_with_another_media_root_than_the_database_knows_touches_nothing(media_root, tmp_path, injected):
    """In the crontab of a user whose environment names another folder; even one with files of the same names."""
    rows()
    stored(*NAMES)
    let_go(*NAMES)
    copy = tmp_path / "copy"
    shutil.copytree(media_root, copy)

    done = manage(environment(tmp_path, copy), "drain_deletions", check=False)
    injected("another MEDIA_ROOT", verified="refused with 3, no file touched")

    assert done.returncode == 3
    assert "Run manage.py migrate with the settings that your site runs with" in done.stdout
    assert len(list(copy.rglob("*.txt"))) == len(list(media_root.rglob("*.txt"))) == 36
    assert drained_to_the_end(media_root) == {Outcome.DELETED: 30}


@pytest.fixture
def freezer(mount, tmp_path: Path, media_root: Path) -> Iterator[Callable[..., None]]:
    """Make MEDIA_ROOT a file system of its own, and return a function that lets no call to it come back."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(16 * 1024**2)
    privileged("mkfs.ext4", "-q", str(image))
    mount("-o", "loop", str(image), str(media_root))
    subprocess.run(["rm", "-rf", str(media_root / "lost+found")], check=True)

    def freeze(option: str = "--freeze") -> None:
        privileged("fsfreeze", option, str(media_root))

    yield freeze
    subprocess.run(["fsfreeze", "--unfreeze", str(media_root)], capture_output=True)


def test_disk_that_hangs_in_the_kernel_keeps_its_claims_until_the_process_can_end(
    freezer, media_root, tmp_path, session, injected
):
    """Not even SIGKILL ends a process in such a call; as long as that may delete, no other drain may."""
    rows()
    stored(*NAMES)
    let_go(*NAMES)
    freezer()
    process = subprocess.Popen(
        [sys.executable, str(MANAGE), "drain_deletions"],
        env=environment(tmp_path, media_root),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = process.stderr.readline()
    hanging = process.poll() is None
    free = session().run("SELECT id FROM pending_file_deletion FOR UPDATE SKIP LOCKED")
    freezer("--unfreeze")
    process.communicate(timeout=60)
    injected("disk that hangs", verified="ended with 1 once the kernel lets it, claims held until then")

    assert "has not answered for 0.3 s" in said
    assert process.returncode == 1
    assert not hanging or free == []
    # Once thawed, it may have finished its batch before it came to its end. Else the server carries its note out.
    limit = time.monotonic() + 20
    while pending() and not all(error for (error,) in entries("last_error")) and time.monotonic() < limit:
        time.sleep(0.01)
    drained_to_the_end(media_root)
