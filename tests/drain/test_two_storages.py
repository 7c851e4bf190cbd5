"""One storage's trouble is not another's, also within one run over the names of both."""

from __future__ import annotations

import pytest
from django.core.files.storage import FileSystemStorage

from pgcleanup.drain import drain
from pgcleanup.ledger.fence import DRAIN_PARAMETERS
from pgcleanup.models import Outcome
from tests.drain.support import Stepped, let_go, pending, put, settled
from tests.project.models import Archive, Document, DocumentTwin, Ignored
from tests.storages import MemoryStorage


@pytest.fixture
def archive(store):
    storage = store(MemoryStorage(), Archive)
    for number in range(3):
        storage.put(f"docs/{number}.txt")
    return storage


def test_check_of_one_storage_that_fails_undoes_nothing_of_another(archive, session, heard, monkeypatch):
    """Nor does it make the other's receivers hear of a file twice."""
    monkeypatch.setitem(DRAIN_PARAMETERS, "lock_timeout", "100ms")
    monkeypatch.setattr("pgcleanup.ledger.fence.LOCK_SECONDS", 0.1)
    monkeypatch.setattr("pgcleanup.references.scans.SIZE_LOCK_TIMEOUT", "100ms")
    for number in range(3):
        let_go(f"docs/{number}.txt", model=Archive)
        let_go(f"locked/{number}.txt")
    run = Stepped()
    run.until("stamped")
    session().begin().run("LOCK TABLE project_document IN ACCESS EXCLUSIVE MODE")

    report = run.finish()

    assert report.counts == {Outcome.DELETED: 3}
    assert [outcome for _, outcome in settled()] == ["deleted"] * 3
    assert len(heard) == len(set(heard)) == 6
    assert pending() == [f"locked/{number}.txt" for number in range(3)]
    assert archive.files == {}


def test_names_of_two_storages_are_all_dealt_with_in_one_run(archive, monkeypatch):
    monkeypatch.setattr("pgcleanup.drain.run.BATCH_SIZE", 2)
    for number in range(3):
        let_go(f"docs/{number}.txt", model=Archive)
        let_go(f"docs/{number}.txt", model=Document)

    report = drain()

    assert report.counts == {Outcome.DELETED: 3, Outcome.ABSENT: 3}
    assert pending() == []
    assert archive.files == {}


def test_name_in_a_table_of_two_models_counts_in_the_storage_of_either(store, tmp_path):
    """Of the unmanaged one, the files are somewhere else."""
    archive = FileSystemStorage(tmp_path / "archive")
    for model in (Archive, Ignored, DocumentTwin):
        store(archive, model)
    path = put("shared.pdf", root=tmp_path / "archive")
    Document.objects.create(file="shared.pdf")
    let_go("shared.pdf", model=Archive)

    report = drain()

    assert report.counts == {Outcome.KEPT: 1}
    assert path.exists()
