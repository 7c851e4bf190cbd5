"""Names that are a field's default, and columns that are left alone: kept at once, without a look."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.core.files.storage import FileSystemStorage

from pgcleanup.drain import drain
from pgcleanup.models import Outcome
from pgcleanup.triggers import sync
from tests.drain.support import Stepped, agree, let_go, orphaned, pending, put, results, settled
from tests.project.models import Archive, Attachment, Avatar, Cover, Document

KEPT = [("kept", "default")]


@pytest.mark.parametrize(
    ("model", "field", "name"),
    [
        pytest.param(Avatar, "image", "avatars/default.png", id="a plain value"),
        pytest.param(Cover, "front", "covers/default.png", id="a callable"),
        pytest.param(Cover, "back", "covers/back.png", id="the database"),
        pytest.param(Document, "file", "avatars/default.png", id="another field of the storage"),
    ],
)
def test_default_is_kept_where_it_comes_from(model, field, name):
    path = put(name)
    let_go(name, model=model, field=field)

    drain()

    assert ("kept", "default") in settled("outcome, reason")
    assert path.exists()


def test_default_is_kept_before_its_grace_period_is_over_and_while_transactions_are_open(session, settings):
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(hours=1)
    session().begin()
    let_go("docs/a.txt")
    let_go("covers/default.png")

    report = drain()

    assert settled("name, outcome, reason") == [("covers/default.png", "kept", "default")]
    assert report.waiting == {"grace_period": 1}


def test_name_that_is_a_default_in_another_storage_is_deleted(store, tmp_path):
    store(FileSystemStorage(tmp_path / "archive"), Archive)
    path = put("avatars/default.png", root=tmp_path / "archive")
    let_go("avatars/default.png", model=Archive)

    assert drain().counts == {Outcome.DELETED: 1}
    assert not path.exists()


def test_thousands_of_entries_of_a_default_are_one_name_and_are_never_loaded_at_once(monkeypatch):
    monkeypatch.setattr("pgcleanup.ledger.settling._AT_ONCE_LIMIT", 400)
    let_go(*["covers/default.png"] * 1_000)
    heard = []

    run = Stepped(progress=heard.append)
    steps = list(run.steps)

    assert steps.count("settled at once") == 3
    assert [(one.name, one.outcome) for one in heard] == [("covers/default.png", Outcome.KEPT)]
    assert run.run.report().counts == {Outcome.KEPT: 1}
    assert settled("outcome, reason") == KEPT * 1_000


def test_default_does_not_use_up_the_limit_of_a_drain_for_more_than_one_name():
    let_go(*["covers/default.png"] * 50, model=Cover, field="front")
    path = orphaned("docs/a.txt")

    drain(limit=10)

    assert not path.exists()


@pytest.fixture
def exclude(settings) -> Iterator[Callable[[str], None]]:
    """Return what excludes a model and lets `migrate` know of it; the triggers are put back afterwards."""

    def excluded(label: str) -> None:
        settings.PGCLEANUP_EXCLUDE = [label]
        sync("default", triggers=True)

    yield excluded
    settings.PGCLEANUP_EXCLUDE = []
    sync("default", triggers=True)


def test_entries_of_a_column_that_is_excluded_by_now_are_kept_at_once(settings, exclude):
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(hours=1)
    path = put("docs/a.txt")
    let_go("docs/a.txt", model=Attachment)
    exclude("project.Attachment")

    report = drain()

    assert report.counts == {Outcome.KEPT: 1}
    assert settled("outcome, reason") == [("kept", "excluded")]
    assert path.exists()


def test_entries_of_a_column_that_no_longer_counts_are_kept_at_once(settings):
    path = put("docs/a.txt")
    let_go("docs/a.txt", model=Attachment)
    settings.PGCLEANUP_IGNORE_REFERENCES = ["project.Attachment.file"]
    agree()

    report = drain()

    assert report.counts == {Outcome.KEPT: 1}
    assert report.unresolved == ()
    assert path.exists()


def test_entry_of_an_excluded_column_does_not_keep_a_name_that_another_column_lets_go(exclude):
    path = put("docs/a.txt")
    let_go("docs/a.txt", model=Attachment)
    let_go("docs/a.txt")
    exclude("project.Attachment")

    drain()

    assert settled("source, outcome") == [("project.attachment.file", "kept"), ("project.document.file", "deleted")]
    assert not path.exists()
    assert pending() == []


def test_dry_run_says_that_a_default_would_be_kept():
    put("avatars/default.png")
    let_go("avatars/default.png", model=Avatar, field="image")

    report, heard = results(dry_run=True)

    assert report.counts == {Outcome.KEPT: 1}
    assert heard["avatars/default.png"].detail == "default"


def test_dry_run_says_that_the_file_of_an_excluded_column_would_be_kept(exclude):
    put("docs/a.txt")
    let_go("docs/a.txt", model=Attachment)
    exclude("project.Attachment")

    assert drain(dry_run=True).counts == {Outcome.KEPT: 1}


def test_column_that_only_this_process_excludes_is_left_alone(settings):
    """A service with other settings than the last `migrate` had: settled as kept, the file would stay for ever."""
    path = put("docs/a.txt")
    let_go("docs/a.txt", model=Attachment)
    settings.PGCLEANUP_EXCLUDE = ["project.Attachment"]
    agree()

    report = drain()

    assert report.exit_code == 3
    assert "project.attachment.file is excluded here, but the database records it" in report.refused[0]
    assert len(pending()) == 1
    assert path.exists()


def test_default_that_another_drain_stamped_meanwhile_is_kept(session):
    """It was not in the ledger when the run settled its defaults."""
    path = put("avatars/default.png")
    orphaned("docs/a.txt")
    run = Stepped()
    run.until("claimed")
    other = session()
    other.let_go("avatars/default.png")
    other.run("INSERT INTO file_deletion_stamp (fence) VALUES ('{}')")
    other.run(
        "UPDATE pending_file_deletion SET stamp_id = (SELECT max(id) FROM file_deletion_stamp) WHERE stamp_id IS NULL"
    )

    report = run.finish()

    assert report.counts == {Outcome.DELETED: 1, Outcome.KEPT: 1}
    assert path.exists()
