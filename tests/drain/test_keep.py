"""`keep()` to its end: a job that moves files itself loses none, and keeps none for ever."""

from __future__ import annotations

from pathlib import Path

from pgcleanup import keep
from pgcleanup.drain import drain
from tests.drain.support import let_go, put, settled
from tests.project.models import Document


def test_file_that_a_job_moved_is_there_under_its_new_name(media_root: Path) -> None:
    put("old.txt")
    document = Document.objects.create(file="old.txt")

    with keep():
        (media_root / "old.txt").rename(media_root / "new.txt")
        document.file.name = "new.txt"
        document.save()
    drain()

    assert settled() == [("old.txt", "kept")]
    assert (media_root / "new.txt").exists()


def test_file_that_was_let_go_once_with_keep_and_once_without_stays() -> None:
    path = put("shared.txt")
    row = Document.objects.create(file="shared.txt")
    with keep():
        row.delete()
    let_go("shared.txt")

    drain()

    assert settled() == [("shared.txt", "kept"), ("shared.txt", "kept")]
    assert path.exists()


def test_file_that_is_let_go_again_after_it_was_kept_goes() -> None:
    path = put("a.txt")
    with keep():
        let_go("a.txt")
    drain()
    let_go("a.txt")

    drain()

    assert settled() == [("a.txt", "kept"), ("a.txt", "deleted")]
    assert not path.exists()
