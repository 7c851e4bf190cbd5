"""A storage that suddenly has nothing is a storage that failed: never is a backlog settled as absent in silence."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pgcleanup.drain import drain
from pgcleanup.models import Outcome
from tests.drain.support import Stepped, agree, end_retry_waits, entries, let_go, orphaned, pending, put, settled
from tests.project.models import Archive, Cover, Document
from tests.storages import FailingStorage, MemoryStorage

NAMES = [f"docs/{number}.txt" for number in range(6)]


def deleted_before(count: int = 1) -> None:
    """Have files deleted by an earlier drain."""
    for number in range(count):
        orphaned(f"before/{number}.txt")
    drain()


@pytest.fixture
def gone(media_root: Path):
    """Return a function that takes the volume away."""
    return lambda: shutil.rmtree(media_root)


def test_storage_whose_root_is_gone_is_not_believed(gone):
    for name in NAMES:
        put(name)
    let_go(*NAMES)
    gone()

    report = drain()

    assert report.exit_code == 1
    assert report.counts == {Outcome.POSTPONED: 6}
    assert "is not there" in report.problems[0]
    assert "--accept-absent" in report.problems[0]
    assert pending() == NAMES
    assert {attempts for (attempts,) in entries("attempts")} == {0}


def test_single_absent_file_is_not_believed_where_the_root_is_gone(gone):
    orphaned("docs/a.txt")
    gone()

    assert drain().counts == {Outcome.POSTPONED: 1}
    assert pending() == ["docs/a.txt"]


def test_empty_root_is_not_believed_where_files_were_deleted_before(gone, media_root: Path):
    deleted_before()
    orphaned("docs/a.txt")
    gone()
    media_root.mkdir()

    report = drain()

    assert report.counts == {Outcome.POSTPONED: 1}
    assert "holds no file at all" in report.problems[0]
    assert pending() == ["docs/a.txt"]


def test_batch_of_which_most_is_absent_is_not_believed_where_most_was_there_before():
    deleted_before(3)
    let_go(*NAMES)

    report = drain()

    assert report.counts == {Outcome.POSTPONED: 6}
    assert "6 of 6 files are not there" in report.problems[0]
    assert report.exit_code == 1
    assert pending() == NAMES


def test_files_that_are_there_go_although_the_absent_ones_are_not_believed():
    deleted_before(3)
    path = put("docs/here.txt")
    let_go(*NAMES, "docs/here.txt")

    report = drain()

    assert report.counts == {Outcome.POSTPONED: 6, Outcome.DELETED: 1}
    assert not path.exists()
    assert pending() == NAMES


def test_a_few_absent_files_among_many_are_believed():
    deleted_before(3)
    for name in NAMES:
        put(name)
    let_go(*NAMES, "docs/absent.txt")

    report = drain()

    assert report.counts == {Outcome.DELETED: 6, Outcome.ABSENT: 1}
    assert report.exit_code == 0


def test_accept_absent_settles_them(heard):
    deleted_before(3)
    let_go(*NAMES)
    drain()
    end_retry_waits()
    del heard[:]

    report = drain(accept_absent=True)

    assert report.counts == {Outcome.ABSENT: 6}
    assert report.exit_code == 0
    assert pending() == []
    assert len(heard) == 12


def test_accept_absent_settles_them_where_the_root_is_gone(gone):
    orphaned("docs/a.txt")
    gone()

    assert drain(accept_absent=True).counts == {Outcome.ABSENT: 1}


def test_names_that_were_not_believed_are_deleted_once_the_volume_is_back(gone):
    for name in NAMES:
        put(name)
    let_go(*NAMES)
    gone()
    drain()
    paths = [put(name) for name in NAMES]
    end_retry_waits()

    report = drain()

    assert report.counts == {Outcome.DELETED: 6}
    assert not any(path.exists() for path in paths)


def test_storage_that_is_not_believed_is_left_alone_for_the_rest_of_the_run(gone, monkeypatch):
    monkeypatch.setattr("pgcleanup.drain.run.BATCH_SIZE", 2)
    for name in NAMES:
        put(name)
    let_go(*NAMES)
    gone()

    report = drain()

    assert report.counts == {Outcome.POSTPONED: 2}
    assert pending() == NAMES


def test_no_receiver_hears_of_names_that_are_not_believed(gone, heard):
    orphaned("docs/a.txt")
    gone()

    drain()

    assert heard == []


def test_absent_names_of_a_project_that_deletes_its_files_itself_are_believed():
    """They were mostly absent before, too."""
    let_go("before/1.txt", "before/2.txt", "before/3.txt")
    orphaned("before/4.txt")
    drain()
    let_go(*NAMES)

    report = drain()

    assert report.counts == {Outcome.ABSENT: 6}


def test_absent_name_settles_with_no_bytes():
    let_go("docs/a.txt")

    drain()

    assert settled("outcome, bytes, reason") == [("absent", None, "")]


def test_backlog_of_a_first_drain_is_not_settled_as_absent_where_the_root_is_empty():
    """A volume that was not mounted when the first drain ran."""
    let_go(*(f"docs/{number}.txt" for number in range(50)))

    drain()

    assert len(pending()) == 50


ROWS = [f"rows/{number}.txt" for number in range(4)]


def rows(*names: str) -> None:
    """Commit rows that name files."""
    Document.objects.bulk_create([Document(file=name) for name in names or ROWS])


@pytest.mark.parametrize("count", [1, 4, 6])
def test_mount_point_with_a_stray_file_is_not_believed_where_it_has_no_file_that_rows_name(gone, media_root, count):
    rows()
    for name in (*NAMES[:count], *ROWS):
        put(name)
    let_go(*NAMES[:count])
    gone()
    put("stray.txt")

    report = drain()

    assert report.counts == {Outcome.POSTPONED: count}
    assert "it does not have any of 4 files either that rows name, such as rows/" in report.problems[0]
    assert pending() == NAMES[:count]


def test_one_row_without_its_file_is_enough_where_files_were_deleted_before(gone):
    deleted_before()
    rows(ROWS[0])
    let_go("docs/a.txt")
    gone()
    put("stray.txt")

    report = drain()

    assert report.counts == {Outcome.POSTPONED: 1}
    assert "it does not have rows/0.txt either, which a row names" in report.problems[0]


def test_one_row_without_its_file_is_not_enough_where_none_was_ever_deleted():
    rows(ROWS[0])
    let_go("docs/a.txt")

    assert drain().counts == {Outcome.ABSENT: 1}


def test_many_absent_files_are_believed_where_the_files_of_rows_are_there():
    """The application deletes its files itself since its last release."""
    deleted_before(3)
    rows()
    for name in ROWS:
        put(name)
    let_go(*NAMES)

    report = drain()

    assert report.counts == {Outcome.ABSENT: 6}
    assert report.exit_code == 0


def test_what_a_killed_drain_deleted_is_believed_to_be_absent_where_the_files_of_rows_are_there():
    deleted_before(3)
    rows()
    for name in (*NAMES, *ROWS):
        put(name)
    let_go(*NAMES)
    run = Stepped()
    run.until("deleted")
    run.crash()

    report = drain()

    assert report.counts == {Outcome.ABSENT: 6}
    assert report.exit_code == 0


def test_volume_that_goes_in_the_midst_of_a_batch_is_not_believed_from_then_on(media_root, receive):
    rows()
    for name in (*NAMES, *ROWS):
        put(name)
    let_go(*NAMES)
    deleted: list[str] = []

    def after(file_name, **kwargs):
        deleted.append(file_name)
        if len(deleted) == 4:
            media_root.rename(media_root.parent / "elsewhere")
            media_root.mkdir()

    receive(after=after)

    assert drain().counts == {Outcome.DELETED: 4, Outcome.POSTPONED: 2}


def test_default_that_was_never_stored_is_no_witness():
    """Many a project serves its default image from the static files."""
    deleted_before()
    put("stray.txt")
    Cover.objects.bulk_create([Cover() for _ in range(5)])
    let_go("docs/a.txt")

    assert drain().counts == {Outcome.ABSENT: 1}


def test_files_of_another_storage_are_no_witnesses(store):
    archive = store(MemoryStorage(), Archive)
    Archive.objects.bulk_create([Archive(file=name) for name in ROWS])
    let_go("docs/a.txt")

    assert drain().counts == {Outcome.ABSENT: 1}
    assert archive.calls == []


def test_witnesses_that_raise_do_not_vouch(store):
    rows()
    store(FailingStorage(names=ROWS), Document)
    let_go("docs/a.txt")

    assert drain().counts == {Outcome.POSTPONED: 1}


def test_dry_run_asks_the_same_witnesses():
    rows()
    let_go("docs/a.txt")

    report = drain(dry_run=True)

    assert report.counts == {Outcome.POSTPONED: 1}
    assert "cannot be trusted" in report.problems[0]


def test_batch_with_most_of_its_files_asks_no_witness(store):
    rows()
    storage = store(MemoryStorage(), Document)
    for name in NAMES[1:]:
        storage.put(name)
    let_go(*NAMES)

    report = drain()

    assert report.counts == {Outcome.ABSENT: 1, Outcome.DELETED: 5}
    assert set(storage.called("exists")) == set(NAMES)


def test_rows_without_a_name_do_not_hide_those_that_have_one(gone, media_root):
    """A volume is gone, and its mount point has a stray file."""
    Document.objects.bulk_create([Document() for _ in range(1_200)])
    rows()
    deleted_before()
    let_go("docs/a.txt")
    gone()
    (media_root / "lost+found").mkdir(parents=True)

    report = drain()

    assert report.counts == {Outcome.POSTPONED: 1}
    assert report.exit_code == 1


def test_rows_that_cannot_be_asked_let_nothing_settle_as_absent(session, monkeypatch):
    """Their table is locked from the moment of the look on."""
    monkeypatch.setattr("pgcleanup.references.sampling.SAMPLE_TIMEOUTS", {"lock_timeout": "50ms"})
    let_go(*NAMES)
    run = Stepped()
    run.until("looked")
    locker = session().begin()
    locker.run("LOCK TABLE project_document IN ACCESS EXCLUSIVE MODE")

    report = run.finish()

    assert report.counts == {Outcome.POSTPONED: 6}
    assert "cannot be asked at the moment" in report.problems[0]
    assert {attempts for (attempts,) in entries("attempts")} == {0}


@pytest.fixture
def mounted(media_root: Path) -> Callable[[], None]:
    """Return a function that unmounts a volume from the folder `a`, of which rows name files, as of `b`."""
    for folder in "ab":
        rows(*[f"{folder}/rows/{number}.txt" for number in range(4)])
        for number in range(4):
            put(f"{folder}/rows/{number}.txt")

    def unmount() -> None:
        shutil.move(media_root / "a", media_root.parent / "volume")
        (media_root / "a").mkdir()

    return unmount


def test_folder_on_another_volume_that_is_gone_is_not_believed(mounted):
    names = [f"{folder}/{number:02}.txt" for number in range(10) for folder in "ab"]
    for name in names:
        put(name)
    let_go(*names)
    mounted()

    report = drain()

    assert report.counts == {Outcome.DELETED: 10, Outcome.POSTPONED: 10}
    assert "folder a cannot be trusted" in report.problems[0]
    assert {name[0] for name in pending()} == {"a"}
    assert {attempts for (attempts,) in entries("attempts")} == {0}


def test_dry_run_does_not_believe_that_folder_either(mounted):
    names = [f"{folder}/{number:02}.txt" for number in range(10) for folder in "ab"]
    for name in names:
        put(name)
    let_go(*names)
    mounted()

    report = drain(dry_run=True)

    assert report.counts == {Outcome.DELETED: 10, Outcome.POSTPONED: 10}
    assert "folder a cannot be trusted" in report.problems[0]


def test_folder_whose_other_files_are_there_is_believed(mounted):
    names = [f"{folder}/{number:02}.txt" for number in range(10) for folder in "ab"]
    for name in names[1::2]:
        put(name)
    let_go(*names)

    assert drain().counts == {Outcome.DELETED: 10, Outcome.ABSENT: 10}


def test_folder_that_no_row_names_a_file_of_may_be_empty():
    """As one that a killed drain has emptied."""
    rows()
    names = [f"{folder}/{number:02}.txt" for number in range(10) for folder in "ab"]
    for name in (*names[1::2], *ROWS):
        put(name)
    let_go(*names)

    assert drain().counts == {Outcome.DELETED: 10, Outcome.ABSENT: 10}


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user than the owner of the folder")
def test_root_that_may_not_be_listed_is_no_error(media_root, settings):
    let_go(*NAMES)
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o711)  # noqa: S103 -- that is the case
        settings.MEDIA_ROOT = folder
        agree()
        os.seteuid(65534)
        try:
            report = drain()
        finally:
            os.seteuid(0)

    assert report.counts == {Outcome.ABSENT: 6}
