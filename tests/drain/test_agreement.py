"""A process that runs other code or settings than the database was migrated with deletes nothing."""

from __future__ import annotations

import pytest
from django.core.files.storage import FileSystemStorage

from pgcleanup import sql
from pgcleanup.drain import drain
from pgcleanup.models import Outcome
from tests.drain.support import Stepped, agree, entries, let_go, orphaned, pending, put, settled
from tests.project.models import Archive

UNKNOWN_HERE = """
INSERT INTO file_deletion_column (source, storage_key)
SELECT 'shop.newer.file', storage_key FROM file_deletion_column WHERE source = 'project.document.file'
"""
ANY_STORAGE = "INSERT INTO file_deletion_column (source) VALUES ('shop.newer.text')"
UNKNOWN_THERE = "DELETE FROM file_deletion_column WHERE source = 'project.attachment.file'"
OTHER_PLACE = "UPDATE file_deletion_column SET storage_key = 'elsewhere' WHERE source = 'project.document.file'"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(
            UNKNOWN_HERE, "shop.newer.file is known to the database, but not to this process", id="older code"
        ),
        pytest.param(
            ANY_STORAGE, "shop.newer.text is known to the database, but not to this process", id="older settings"
        ),
        pytest.param(UNKNOWN_THERE, "project.attachment.file is unknown to the database", id="newer code"),
        pytest.param(OTHER_PLACE, "project.document.file is in another storage for the database", id="other storage"),
    ],
)
@pytest.mark.parametrize("dry_run", [False, True], ids=["drain", "dry run"])
def test_storage_is_left_alone_by_a_process_with(change, says, dry_run):
    path = orphaned("docs/a.txt")
    sql.execute("default", change)

    report = drain(dry_run=dry_run)

    assert report.counts == {}
    assert report.exit_code == 3
    assert says in report.refused[0]
    assert "manage.py migrate" in report.refused[0]
    assert entries("name, attempts, retry_at") == [("docs/a.txt", 0, None)]
    assert path.exists()


def test_other_storages_go_on(store, tmp_path):
    store(FileSystemStorage(tmp_path / "archive"), Archive)
    path = put("docs/a.txt", root=tmp_path / "archive")
    let_go("docs/a.txt", model=Archive)
    kept = orphaned("docs/a.txt")
    sql.execute("default", UNKNOWN_THERE)

    report = drain()

    assert report.counts == {Outcome.DELETED: 1}
    assert report.exit_code == 3
    assert not path.exists()
    assert kept.exists()
    assert settled() == [("docs/a.txt", "deleted")]


def test_moved_media_root_is_such_a_difference(settings, tmp_path):
    path = orphaned("docs/a.txt")
    settings.MEDIA_ROOT = tmp_path / "wrong"
    settings.MEDIA_ROOT.mkdir()

    report = drain()

    assert report.exit_code == 3
    assert "is in another storage for the database" in report.refused[0]
    assert pending() == ["docs/a.txt"]
    assert path.exists()


def test_next_drain_goes_on_once_they_agree_again():
    path = orphaned("docs/a.txt")
    sql.execute("default", UNKNOWN_THERE)
    drain()

    agree()

    assert drain().counts == {Outcome.DELETED: 1}
    assert not path.exists()


def test_difference_that_comes_up_in_mid_drain_is_seen_in_the_snapshot_of_the_check(session):
    path = orphaned("docs/a.txt")
    run = Stepped()
    run.until("claimed")
    session().run(UNKNOWN_THERE)

    report = run.finish()

    assert report.exit_code == 3
    assert path.exists()


def test_tests_that_move_media_root_can_leave_the_comparison_out(settings, tmp_path):
    orphaned("docs/a.txt")
    settings.MEDIA_ROOT = tmp_path / "moved"
    path = put("docs/a.txt")

    report = Stepped(compare_columns=False).finish()

    assert report.counts == {Outcome.DELETED: 1}
    assert not path.exists()
