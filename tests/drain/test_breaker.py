"""A storage that fails as a whole is called no more for a while, and its names keep their attempts."""

from __future__ import annotations

import errno
import json
import os
import time
from datetime import timedelta

import pytest
from django.core.files.storage import FileSystemStorage
from django.core.management import CommandError, call_command

from pgcleanup import sql
from pgcleanup.drain import drain
from pgcleanup.drain.decide import from_elsewhere_first
from pgcleanup.ledger import outages
from pgcleanup.ledger.claims import Claim
from pgcleanup.models import Outcome
from tests.drain.support import end_retry_waits, entries, let_go, pending, put, settled
from tests.project.models import Archive, Document
from tests.storages import DeletesAndRaises, FailingStorage, MemoryStorage, SwitchedStorage

NAMES = [f"docs/{number:02}.txt" for number in range(20)]
ROWS = [f"rows/{number}.txt" for number in range(5)]


def filled(storage: MemoryStorage, *names: str) -> MemoryStorage:
    for name in names or (*NAMES, *ROWS):
        storage.put(name)
    return storage


def rows() -> None:
    """Commit rows whose files are in the storage, for it to be asked about."""
    Document.objects.bulk_create([Document(file=name) for name in ROWS])


def attempts() -> set[int]:
    return {number for (number,) in entries("attempts")}


@pytest.mark.parametrize("methods", [("exists", "delete"), ("delete",)], ids=["everything", "deletions"])
def test_storage_that_goes_down_after_successes_costs_no_attempt(store, methods):
    storage = store(filled(SwitchedStorage(after=6, methods=methods)), Document)
    let_go(*NAMES)

    report = drain()

    assert report.counts == {Outcome.DELETED: 6, Outcome.POSTPONED: 14}
    assert report.exit_code == 1
    assert attempts() == {0}
    assert len(storage.called("delete")) <= 6 + 8


def test_storage_that_goes_down_is_left_alone_for_the_rest_of_the_run(store, monkeypatch):
    monkeypatch.setattr("pgcleanup.drain.run.BATCH_SIZE", 10)
    storage = store(filled(SwitchedStorage(after=0)), Document)
    let_go(*NAMES)

    report = drain()

    assert len(storage.calls) == 5
    assert report.counts == {Outcome.POSTPONED: 10}
    assert "is left alone for now: ConnectionError: no route to the bucket" in report.problems[0]


@pytest.mark.parametrize("method", ["exists", "delete"])
def test_storage_that_takes_as_long_as_a_batch_for_each_failure_costs_no_attempt(store, monkeypatch, method):
    """As one does whose calls run into a timeout."""
    monkeypatch.setattr("pgcleanup.drain.batch.BATCH_SECONDS", 0.05)
    monkeypatch.setattr("pgcleanup.drain.batch.CHECK_SHARE", 0)

    def time_out() -> Exception:
        time.sleep(0.06)
        return ConnectionError("timed out")

    store(filled(FailingStorage(error=time_out, method=method)), Document)
    let_go(*NAMES)

    report = drain()

    assert attempts() == {0}
    assert "is left alone for now" in report.problems[0]


def test_storage_that_goes_down_in_a_second_batch_costs_no_attempt(store, monkeypatch):
    monkeypatch.setattr("pgcleanup.drain.run.BATCH_SIZE", 6)
    store(filled(SwitchedStorage(after=6)), Document)
    let_go(*NAMES)

    report = drain()

    assert report.counts == {Outcome.DELETED: 6, Outcome.POSTPONED: 6}
    assert attempts() == {0}


@pytest.mark.parametrize("count", [1, 4])
def test_few_names_of_an_outage_cost_no_attempt_where_the_files_of_rows_cannot_be_looked_at_either(store, count):
    rows()
    store(filled(FailingStorage()), Document)
    let_go(*NAMES[:count])

    report = drain()

    assert attempts() == {0}
    assert report.counts == {Outcome.POSTPONED: count}
    assert "does not answer" in report.problems[0]


def test_few_names_that_fail_cost_an_attempt_where_the_files_of_rows_can_be_looked_at(store):
    rows()
    store(filled(FailingStorage(names=NAMES[:4])), Document)
    let_go(*NAMES[:4])

    report = drain()

    assert attempts() == {1}
    assert report.problems == ()


def test_many_names_that_fail_are_their_own_fault_where_the_files_of_rows_can_be_looked_at(store):
    """One folder that nobody may look into, for example: the others go on."""
    rows()
    storage = store(filled(FailingStorage(names=NAMES[:12])), Document)
    let_go(*NAMES)

    report = drain()

    assert report.counts == {Outcome.POSTPONED: 12, Outcome.DELETED: 8}
    assert attempts() == {1}
    assert sorted(storage.files) == sorted([*NAMES[:12], *ROWS])


def test_folder_that_nothing_can_be_deleted_from_does_not_make_the_storage_down(store):
    others = [f"other/{number}.txt" for number in range(3)]
    locked = [f"locked/{number:02}.txt" for number in range(12)]
    storage = store(filled(FailingStorage(names=locked, method="delete"), *locked, *others), Document)
    let_go(*locked, *others)

    report = drain()

    assert report.counts == {Outcome.POSTPONED: 12, Outcome.DELETED: 3}
    assert report.problems == ()
    assert sorted(storage.files) == locked


def test_names_behind_a_batch_that_failed_have_their_turn_in_the_next_run(store, monkeypatch):
    monkeypatch.setattr("pgcleanup.drain.run.BATCH_SIZE", 10)
    store(filled(FailingStorage(names=NAMES[:10], method="delete")), Document)
    let_go(*NAMES)
    drain()
    end_retry_waits()

    drain()

    assert sorted(name for name, outcome in settled() if outcome == "deleted") == NAMES[10:]


def test_next_run_leaves_a_storage_alone_that_failed_a_moment_ago(store):
    storage = store(filled(FailingStorage()), Document)
    let_go(*NAMES)
    drain()
    let_go("docs/new.txt")
    calls = len(storage.calls)

    report = drain()

    assert len(storage.calls) == calls
    assert report.exit_code == 1
    assert "failed a moment ago and is left alone until" in report.problems[0]
    assert "docs/new.txt" in pending()


def test_others_are_drained_before_a_storage_that_failed_the_last_time(store):
    failing = store(filled(FailingStorage()), Document)
    healthy = store(filled(MemoryStorage()), Archive)
    let_go(*NAMES[:8])
    drain()
    end_retry_waits()
    let_go(*NAMES[8:10])
    let_go(*NAMES, model=Archive)
    seen: list[int] = []
    failing.exists = lambda name: seen.append(len(healthy.files)) or True

    drain()

    # What is left then are the files that nobody let go.
    assert set(seen) == {len(ROWS)}


def test_storage_that_has_recovered_is_drained_without_a_word(store):
    storage = store(filled(FailingStorage()), Document)
    let_go(*NAMES)
    drain()
    storage.broken = False
    end_retry_waits()

    report = drain()

    assert report.counts == {Outcome.DELETED: 20}
    assert (report.exit_code, report.problems) == (0, ())


def test_name_that_was_put_off_waits_half_a_minute_and_a_little_more_by_chance(store):
    store(filled(FailingStorage()), Document)
    let_go(*NAMES)

    drain()

    waits = entries("extract(epoch FROM retry_at - clock_timestamp())::float")
    assert all(15 < wait <= 45 for (wait,) in waits)
    assert len(set(waits)) == len(NAMES)


def test_read_only_disk_is_known_by_its_first_error(media_root, store):
    class ReadOnly(FileSystemStorage):
        def delete(self, name: str) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), name)

    store(ReadOnly(media_root), Document)
    path = put("docs/a.txt")
    let_go("docs/a.txt")

    report = drain()

    assert attempts() == {0}
    assert "lets no file be deleted" in report.problems[0]
    assert "Read-only file system" in report.problems[0]
    assert path.exists()


def test_file_that_went_although_its_deletion_raised_is_settled_as_absent_at_the_retry(store):
    storage = store(filled(DeletesAndRaises(names=NAMES[:1])), Document)
    let_go(*NAMES)
    assert drain().counts == {Outcome.DELETED: 19, Outcome.POSTPONED: 1}
    end_retry_waits()
    del storage.calls[:]

    report = drain()

    assert report.counts == {Outcome.ABSENT: 1}
    assert storage.called("delete") == []


def test_upload_that_took_the_name_after_a_deletion_that_raised_is_not_deleted(store, settings):
    """Its row is not committed yet: only the age of the file tells."""
    settings.PGCLEANUP_UPLOAD_WINDOW = timedelta(minutes=1)
    storage = store(filled(DeletesAndRaises(names=NAMES[:1])), Document)
    let_go(NAMES[0])
    drain()
    storage.broken = False
    storage.put(NAMES[0], b"new", age=timedelta(seconds=1))
    end_retry_waits()

    report = drain()

    assert report.counts == {}
    assert storage.files[NAMES[0]][0] == b"new"


def test_outage_longer_than_all_attempts_exhausts_nothing(store, settings):
    settings.PGCLEANUP_MAX_ATTEMPTS = 2
    storage = store(filled(FailingStorage()), Document)
    let_go(*NAMES)
    for _ in range(4):
        drain()
        end_retry_waits()
    storage.broken = False

    assert drain().counts == {Outcome.DELETED: 20}


def test_forbidden_look_does_not_keep_files_from_being_deleted_that_are_there(store):
    """A bucket without s3:ListBucket answers 403 for each missing key, and 200 for the others."""

    class ClientError(Exception):
        response = {"ResponseMetadata": {"HTTPStatusCode": 403}}

    rows()
    missing = [f"missing/{number:02}.txt" for number in range(12)]
    forbidden = FailingStorage(names=missing, error=lambda: ClientError("403 Forbidden"))
    storage = store(filled(forbidden), Document)
    let_go(*missing, *NAMES)

    report = drain()

    assert report.counts == {Outcome.POSTPONED: 12, Outcome.DELETED: 20}
    assert attempts() == {0}
    assert sorted(storage.files) == ROWS
    assert "s3:ListBucket" in report.errors[0].error


def test_json_and_exit_code_say_which_storage_is_left_alone_and_what_became_of_the_others(store, capsys):
    store(filled(FailingStorage()), Document)
    store(filled(MemoryStorage()), Archive)
    let_go(*NAMES)
    let_go(*NAMES, model=Archive)

    with pytest.raises(CommandError) as ended:
        call_command("drain_deletions", "--json")

    printed = json.loads(capsys.readouterr().out)
    assert ended.value.returncode == printed["exit_code"] == 1
    assert printed["problems"] == [
        "storage FailingStorage (failing) does not answer, and is left alone for now: "
        "ConnectionError: no route to the bucket"
    ]
    assert printed["counts"]["deleted"] == printed["counts"]["postponed"] == 20


def test_text_says_that_an_outage_uses_up_no_attempts(store, capsys):
    store(filled(FailingStorage()), Document)
    let_go(*NAMES)

    with pytest.raises(CommandError):
        call_command("drain_deletions")

    out = capsys.readouterr().out
    assert "Storage FailingStorage (failing) does not answer, and is left alone for now" in out
    assert "an outage uses up no attempts" in out


def test_locked_table_of_rows_leaves_the_outage_undecided_and_the_batch_unharmed(store, session, monkeypatch):
    """Their files would tell whether it is one; nobody waits for them in the midst of a batch."""
    monkeypatch.setattr("pgcleanup.references.sampling.SAMPLE_TIMEOUTS", {"lock_timeout": "50ms"})
    rows()
    locker = session()

    class Locks(FailingStorage):
        def exists(self, name: str) -> bool:
            if not locker.is_open:
                locker.begin().run("LOCK TABLE project_document IN ACCESS EXCLUSIVE MODE")
            return super().exists(name)

    store(filled(Locks(names=NAMES[:1])), Document)
    let_go(NAMES[0])

    report = drain()

    assert report.counts == {Outcome.POSTPONED: 1}
    assert attempts() == {1}


@pytest.mark.parametrize(
    ("names", "heads"),
    [
        (["a/1", "a/2", "b/1", "a/3"], ["b/1", "a/1"]),
        (["a/1", "b/1", "b/2", "c/1", "d/1", "e/1"], ["b/2", "c/1", "d/1", "a/1"]),
        (["a/1", "a/2", "a/3", "a/4"], ["a/3", "a/4", "a/1"]),
        (["1"], ["1"]),
    ],
)
def test_names_of_other_folders_come_first(names, heads):
    claims = [
        Claim("key", name, (number,), False, False, 0, ("s",), "s", None, "DELETE") for number, name in enumerate(names)
    ]

    ordered = [claim.name for claim in from_elsewhere_first(claims)]

    assert ordered[: len(heads)] == heads
    assert sorted(ordered) == sorted(names)


def test_outage_of_deletions_that_meets_a_few_names_each_time_exhausts_nothing(store, settings):
    """Too few for one drain to tell. Together they do."""
    settings.PGCLEANUP_MAX_ATTEMPTS = 4
    storage = store(filled(FailingStorage(method="delete")), Document)
    for number in range(0, 20, 2):
        let_go(*NAMES[number : number + 2])
        drain()
        end_retry_waits()
    failed = entries("exhausted_at IS NOT NULL")
    storage.broken = False

    report = drain()

    assert set(failed) == {(False,)}
    assert report.counts == {Outcome.DELETED: 20}


def test_names_that_come_one_by_one_in_an_outage_use_up_an_attempt_only_until_it_is_known(store):
    store(filled(FailingStorage(method="delete")), Document)
    for name in NAMES[:10]:
        let_go(name)
        drain()

    assert [attempts for (attempts,) in entries("attempts")] == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]


def test_name_that_fails_by_its_own_fault_uses_up_its_attempts_beside_others_that_go(store, settings):
    settings.PGCLEANUP_MAX_ATTEMPTS = 3
    storage = store(filled(FailingStorage(names=NAMES[:3], method="delete")), Document)
    let_go(*NAMES[:3])
    for number in range(6, 12):
        let_go(NAMES[number])
        drain()
        end_retry_waits()

    assert set(entries("exhausted_at IS NOT NULL")) == {(True,)}
    assert storage.called("delete").count(NAMES[0]) == 3


def test_look_for_storages_that_rest_reads_only_a_part_of_what_was_put_off():
    """It is made after each commit, where drains are."""
    put_off = """
        WITH s AS (INSERT INTO file_deletion_stamp (fence) VALUES ('{}') RETURNING id)
        INSERT INTO pending_file_deletion
               (source, name, operation, transaction_id, db_user, application_name, stamp_id, retry_at, last_error)
        SELECT 'project.archive.file', 'docs/' || i, 'DELETE', 1, 'u', '', s.id,
               clock_timestamp() + interval '30 seconds', 'retrying: storage x is down'
          FROM s, generate_series(1, 20000) i
    """
    sql.execute("default", put_off)
    sql.execute("default", "ANALYZE pending_file_deletion")

    [(source, until, reason)] = outages.put_off_sources("default")
    plan = sql.fetch("default", "EXPLAIN (ANALYZE, FORMAT JSON) " + outages._PUT_OFF, {"limit": outages._LOOKED_AT})

    assert (source, reason) == ("project.archive.file", "storage x is down")
    assert until is not None
    assert _most_rows(plan[0][0][0]["Plan"]) <= outages._LOOKED_AT


def _most_rows(node):
    return max([node["Actual Rows"], *map(_most_rows, node.get("Plans", ()))])
