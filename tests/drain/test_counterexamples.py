"""The shortest ways to lose a file, or to leave one for ever: one for each step of the protocol.

A model checker went through all interleavings of a few transactions and drains, with one step of the protocol left out
at a time. Each test here is the shortest story that it came back with, on the real drain, and is named by what happens
without the step. `make test-mutation` takes the steps away from the real drain, and these tests notice.

T0, T1, T2 are transactions, D0 and D1 drains; there is one name, and up to one row with it in each of two tables.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache

import pytest
from django.db import connections
from psycopg import IsolationLevel

from pgcleanup import sql
from pgcleanup.drain import drain
from pgcleanup.drain.surroundings import look_around
from pgcleanup.exceptions import ConnectionLost
from tests.drain.support import Session, Stepped, age_stamps, end_retry_waits, pending, put
from tests.project.models import Attachment, Document
from tests.storages import MemoryStorage

NAME = "docs/a.txt"
ROW0, ROW1 = "project_document", "project_attachment"
ROWS = f"SELECT file FROM {ROW0} WHERE file = %s UNION ALL SELECT file FROM {ROW1} WHERE file = %s"
GID = f"pgcleanup counterexample {os.getpid()}"
HOUR = timedelta(hours=1)
WINDOW = timedelta(seconds=60)
JUST_NOW = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def looked_around_once(monkeypatch):
    """Let the many drains of a story share what each would find out before it starts, and take longer for."""
    monkeypatch.setattr("pgcleanup.drain.run.look_around", cache(look_around))


class Transaction:
    """A transaction of the application's. It writes the name only after it has read it or uploaded its file."""

    def __init__(self, session: Session, isolation: str) -> None:
        self.session = session.begin(isolation)

    def reads(self) -> Transaction:
        assert (NAME,) in self.session.run(ROWS, NAME, NAME)
        return self

    def writes(self, table: str) -> Transaction:
        values = "(title, file) VALUES ('', %s)" if table == ROW0 else "(file) VALUES (%s)"
        self.session.run(f"INSERT INTO {table} {values}", NAME)
        return self

    def lets_go(self, *tables: str) -> Transaction:
        for table in tables:
            self.session.run(f"DELETE FROM {table} WHERE file = %s", NAME)
        return self

    def commits(self) -> None:
        self.session.commit()

    def prepares(self) -> None:
        self.session.run(f"PREPARE TRANSACTION '{GID}'")

    def commits_prepared(self) -> None:
        self.session.run(f"COMMIT PREPARED '{GID}'")


@pytest.fixture
def begin(session) -> Iterator[Callable[..., Transaction]]:
    """Return a function that begins a transaction in a session of its own."""

    def make(isolation: str = "READ COMMITTED") -> Transaction:
        return Transaction(session(), isolation)

    yield make
    ender = session()
    if ender.run("SELECT FROM pg_prepared_xacts WHERE gid = %s", GID):
        ender.run(f"ROLLBACK PREPARED '{GID}'")


@pytest.fixture
def path():
    """Return the path of the file, which row 0 and row 1 name."""
    return start()


@pytest.fixture
def second(alias):
    """Return an alias for a second drain."""
    return alias("second")


def start(*tables: str):
    """Store the file, with a row in each of these tables, or in both."""
    sql.execute(
        "default",
        "DELETE FROM project_document; DELETE FROM project_attachment; DELETE FROM pending_file_deletion;"
        "TRUNCATE settled_file_deletion; DELETE FROM file_deletion_stamp",
    )
    for table in tables or (ROW0, ROW1):
        (Document if table == ROW0 else Attachment).objects.create(file=NAME)
    return put(NAME)


def advance(run: Stepped, step: str) -> bool:
    """Advance until this step is done, or to the end: a drain that is right often stops before."""
    return any(done == step for done in run.steps)


def finish(run: Stepped) -> None:
    for _ in run.steps:
        pass


def finish_stamp() -> None:
    """Have the committed entries stamped, and nothing else."""
    d0 = Stepped()
    advance(d0, "stamped")
    d0.crash()


def start_with_an_older_entry(begin):
    """Return the path of the file, and T0, which has read its name from the last row and writes it, once that is gone.

    There is an entry from before T0 began, by which a drain picks the name whatever T0 does.
    """
    path = start(ROW0)
    begin().lets_go(ROW0).commits()
    finish_stamp()
    Attachment.objects.create(file=NAME)
    t0 = begin().reads()
    begin().lets_go(ROW1).commits()
    return path, t0.writes(ROW0)


def let_go_by(begin):
    """Return the path of the file, whose last row is gone."""
    path = start(ROW0)
    begin().lets_go(ROW0).commits()
    return path


def crash_after_the_deletion(begin):
    """Let a drain delete the file and crash, which brings the entry back."""
    path = let_go_by(begin)
    d0 = Stepped()
    advance(d0, "deleted")
    d0.crash()
    assert not path.exists()
    assert pending() == [NAME]
    return path


# Places where it makes a difference what somebody else does: before rows, entries or transactions are looked at.
TELLING = re.compile("pending_file_deletion|pg_prepared_xacts|pg_locks|project_")


@contextmanager
def before_telling_statement(place: int, act: Callable[[], object], using: str = "default") -> Iterator[list[str]]:
    """Act right before the telling statement of this number. Yields those statements as they come."""
    statements: list[str] = []

    def hook(execute, statement, parameters, many, context):
        if TELLING.search(str(statement)):
            statements.append(statement)
            if len(statements) == place + 1:
                act()
        return execute(statement, parameters, many, context)

    with connections[using].execute_wrapper(hook):
        yield statements


def drain_and(
    place: int, act: Callable[[], object], then: Callable[[], object], run: Stepped, last: str = "checked"
) -> bool:
    """Drain to the end; `act` before this telling statement, `then` once the check is done, or at the end.

    Returns whether there was such a statement up to the step `last`.
    """
    waiting: list[Callable[[], object]] = []

    def act_now() -> None:
        act()
        waiting.append(then)

    with before_telling_statement(place, act_now, run.run.context.using) as statements:
        came = advance(run, last)
        reached = len(statements) > place
    if came and last != "checked":
        advance(run, "checked")
    for one in waiting:
        one()
    finish(run)
    return reached


def at_the_sweep(using: str = "default") -> Stepped:
    """Return a drain that has stamped, and sweeps next."""
    run = Stepped(using)
    advance(run, "stamped")
    return run


def assert_not_gone(path) -> None:
    """A committed row names the file, and it is there."""
    assert sql.fetch("default", ROWS, [NAME, NAME]), "the story ends without a row that names the file"
    assert path.exists(), "deleted too early"


def assert_kept(path) -> None:
    """A committed row names the file: it is there, and it is still there when all has been drained."""
    assert_not_gone(path)
    _drain_all()
    assert path.exists(), "deleted too early, in the end"
    assert pending() == []


def assert_goes(path) -> None:
    """No row names the file: it goes in the end, and nothing is left to do."""
    assert not sql.fetch("default", ROWS, [NAME, NAME])
    _drain_all()
    assert pending() == [], "never settled"
    assert not path.exists(), "forgotten"


def _drain_all() -> None:
    for _ in range(3):
        finish(Stepped())
        end_retry_waits()


# --- the fence


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_without_the_fence_a_file_goes_whose_name_an_open_transaction_has_read(path, begin, isolation):
    t0 = begin(isolation).reads()
    begin().lets_go(ROW0, ROW1).commits()
    t0.writes(ROW0)
    d0 = Stepped()
    advance(d0, "checked")
    t0.commits()

    finish(d0)

    assert_kept(path)


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_with_a_fence_of_transactions_that_have_written_a_file_goes_whose_name_one_has_only_read(
    path, begin, isolation
):
    """Neither a number nor a lock tells of a transaction that has only read: both come with its first write."""
    t0 = begin(isolation).reads()
    begin().lets_go(ROW0, ROW1).commits()

    finish(Stepped())

    t0.writes(ROW0).commits()
    assert_kept(path)


def test_with_a_grace_period_alone_a_file_goes_whose_name_a_longer_transaction_carries(path, begin):
    t0 = begin().reads()
    begin().lets_go(ROW0, ROW1).commits()
    t0.writes(ROW0)
    finish(Stepped(grace=HOUR))
    age_stamps(HOUR)
    d0 = Stepped(grace=HOUR)
    advance(d0, "checked")
    t0.commits()

    finish(d0)

    assert_kept(path)


def test_with_the_fence_read_before_the_entries_a_transaction_that_began_in_between_is_missed(begin):
    """At every place up to the stamp: T1 begins and reads the name, then T0, which lets it go, commits."""
    for place in range(100):
        path = start(ROW0)
        t0 = begin().lets_go(ROW0)
        t1: list[Transaction] = []

        def act(t0=t0, t1=t1):
            t1.append(begin().reads())
            t0.commits()
            t1[0].writes(ROW0)

        if not drain_and(place, act, lambda t1=t1: t1[0].commits(), Stepped(), "stamped"):
            break

        assert_not_gone(path)
    assert place >= 1


# --- the grace period


def test_without_a_grace_period_a_file_goes_whose_name_is_carried_outside_a_transaction(path, begin):
    begin().lets_go(ROW0).commits()
    begin().reads().lets_go(ROW1).commits()  # the application knows the name from here on
    finish(Stepped(grace=HOUR))
    age_stamps(HOUR - timedelta(minutes=1))
    t1 = begin().writes(ROW0)
    d0 = Stepped(grace=HOUR)
    advance(d0, "checked")
    t1.commits()

    finish(d0)

    age_stamps(timedelta(minutes=1))
    assert_kept(path)


def test_with_a_grace_period_that_counts_from_the_recording_a_late_commit_has_used_it_up(path, begin):
    t0 = begin().lets_go(ROW0, ROW1)
    t0.session.run("UPDATE pending_file_deletion SET recorded_at = recorded_at - interval '2 hours'")
    begin().reads().commits()  # the application knows the name from here on
    t0.commits()
    finish(Stepped(grace=HOUR))
    t2 = begin().writes(ROW0)
    d0 = Stepped(grace=HOUR)
    advance(d0, "checked")
    t2.commits()

    finish(d0)

    age_stamps(HOUR)
    assert_kept(path)


# --- prepared transactions


def test_without_the_look_for_prepared_transactions_a_file_goes_whose_name_one_has_written(path, begin):
    t0 = begin().reads()
    begin().lets_go(ROW0, ROW1).commits()
    t0.writes(ROW0).prepares()
    d0 = Stepped()
    advance(d0, "checked")
    t0.commits_prepared()

    finish(d0)

    assert_kept(path)


def test_with_the_look_for_prepared_transactions_before_the_fence_one_that_is_prepared_in_between_is_missed(begin):
    """At every place of a sweep up to the check: T0, which is in the fence, is prepared."""
    for place in range(100):
        path, t0 = start_with_an_older_entry(begin)

        if not drain_and(place, t0.prepares, t0.commits_prepared, at_the_sweep()):
            t0.commits()
            break

        assert_not_gone(path)
    assert place >= 3


# --- the reference check


def test_without_the_reference_check_a_file_goes_that_another_row_names(path, begin):
    begin().lets_go(ROW0).commits()

    finish(Stepped())

    assert_kept(path)


def test_with_a_check_in_the_snapshot_of_the_claim_a_row_that_was_committed_since_is_missed(begin, alias):
    """At every place of a sweep, in a project that uses REPEATABLE READ: T0, which is in the fence, commits."""
    alias("repeatable", OPTIONS={"isolation_level": IsolationLevel.REPEATABLE_READ})
    for place in range(100):
        path, t0 = start_with_an_older_entry(begin)

        if not drain_and(place, t0.commits, lambda: None, at_the_sweep("repeatable")):
            t0.commits()
            break

        assert_not_gone(path)
    assert place >= 3


def test_without_the_ledger_in_the_check_a_file_goes_whose_name_a_transaction_in_no_fence_carries(path, begin):
    begin().lets_go(ROW0).commits()
    t1 = begin().lets_go(ROW1)
    d0 = Stepped()
    advance(d0, "stamped")
    t2 = begin().reads()
    t1.commits()
    t2.writes(ROW0)
    advance(d0, "checked")
    t2.commits()

    finish(d0)

    assert_kept(path)


def test_with_only_higher_numbers_in_the_check_an_entry_that_was_committed_later_is_missed(path, begin):
    t0 = begin().lets_go(ROW0)
    begin().lets_go(ROW1).commits()
    d0 = Stepped()
    advance(d0, "stamped")
    t2 = begin().reads()
    t0.commits()
    t2.writes(ROW0)
    advance(d0, "checked")
    t2.commits()

    finish(d0)

    assert_kept(path)


def test_with_a_check_of_two_statements_a_name_passes_from_a_row_to_the_ledger_in_between(begin):
    """At every place up to the check: T2 lets the last visible row go, while T1 has written another one."""
    for place in range(100):
        path = start()
        begin().lets_go(ROW0).commits()
        d0 = at_the_sweep()
        t1 = begin().reads().writes(ROW0)
        t2 = begin().lets_go(ROW1)

        if not drain_and(place, t2.commits, t1.commits, d0):
            t2.commits()
            t1.commits()
            break

        assert_not_gone(path)
    assert place >= 3


def test_with_a_check_of_many_statements_another_drain_settles_the_telltale_entry_in_between(begin, second):
    """At every place of the check: T2 commits the row it carried the name to, and D1 drains from start to end."""
    for place in range(100):
        path = start()
        begin().lets_go(ROW0).commits()
        t1 = begin().lets_go(ROW1)
        finish_stamp()
        t2 = begin().reads()
        t1.commits()
        t2.writes(ROW0)
        d0 = Stepped()
        advance(d0, "found nothing prepared")
        with (
            before_telling_statement(place, t2.commits) as statements,
            before_telling_statement(place + 1, lambda: finish(Stepped(second))),
        ):
            advance(d0, "checked")
        if len(statements) <= place:
            t2.commits()
            break
        finish(d0)

        assert_not_gone(path)
    assert place >= 1


# --- claiming and settling


def test_settled_by_name_an_entry_that_came_meanwhile_is_lost_and_its_file_stays_for_ever(path, begin):
    begin().lets_go(ROW0).commits()
    d0 = Stepped()
    advance(d0, "stamped")
    t1 = begin().lets_go(ROW1)
    advance(d0, "checked")
    t1.commits()

    finish(d0)

    assert_goes(path)


def test_settled_before_its_deletion_a_file_stays_for_ever_if_the_drain_dies_in_between(begin, store):
    class Deadly(MemoryStorage):
        """The process dies in the call that deletes."""

        def delete(self, name):
            raise SystemExit

    start()
    storage = store(Deadly(), Document)
    Attachment.objects.all().delete()
    drain()
    storage.put(NAME)
    begin().lets_go(ROW0).commits()

    with pytest.raises(SystemExit):
        drain()

    assert pending() == [NAME]


def test_drains_that_claim_first_and_then_wait_for_open_transactions_wait_for_each_other(path, begin, second):
    begin().lets_go(ROW0).commits()
    t1 = begin().lets_go(ROW1)
    d0, d1 = Stepped(), Stepped(second)
    advance(d0, "claimed")
    t1.commits()
    advance(d1, "claimed")

    finish(d0)
    finish(d1)

    assert_goes(path)


@pytest.mark.parametrize("step", ["claimed", "checked", "looked", "told before", "deleted", "settled"])
def test_without_row_locks_two_drains_delete_and_tell_of_the_same_name(path, begin, second, heard, step):
    begin().lets_go(ROW0, ROW1).commits()
    d0, d1 = Stepped(), Stepped(second)
    advance(d0, step)
    finish(d1)

    finish(d0)

    assert heard == [("pre", NAME), ("post", NAME)]
    assert_goes(path)


# --- files that are written again under a name that is pending


@pytest.fixture
def crashed(begin, settings):
    """Return the path of the file, which D0 has deleted before it crashed; the entry is back."""
    settings.PGCLEANUP_UPLOAD_WINDOW = WINDOW
    return crash_after_the_deletion(begin)


@pytest.mark.parametrize("behind", [timedelta(0), timedelta(seconds=30)], ids=["", "by a clock that is behind"])
def test_without_the_upload_window_an_upload_goes_whose_row_is_not_committed_yet(crashed, begin, behind):
    put(NAME, b"new", age=JUST_NOW + behind)
    d1 = Stepped()
    t1 = begin().writes(ROW0)
    advance(d1, "checked")
    t1.commits()

    finish(d1)

    assert_kept(crashed)


@pytest.mark.parametrize("over", [False, True], ids=["to a free name", "over the file"])
def test_with_a_look_before_the_check_alone_an_upload_is_missed_that_came_after_the_look(begin, settings, over):
    """At every place up to the check: the application uploads a file, and its transaction begins."""
    settings.PGCLEANUP_UPLOAD_WINDOW = WINDOW
    for place in range(100):
        path = let_go_by(begin) if over else crash_after_the_deletion(begin)
        uploads: list[Transaction] = []

        def act(uploads=uploads):
            put(NAME, b"new", age=JUST_NOW)
            uploads.append(begin().writes(ROW0))

        if not drain_and(place, act, lambda uploads=uploads: uploads[0].commits(), at_the_sweep()):
            break

        assert_not_gone(path)
    assert place >= 3


def test_with_a_call_to_delete_what_is_absent_an_upload_goes_that_takes_the_free_name_in_between(crashed, begin):
    d1 = Stepped()
    advance(d1, "looked")
    put(NAME, b"new", age=JUST_NOW)
    begin().writes(ROW0).commits()

    finish(d1)

    assert_kept(crashed)


def test_settled_as_kept_a_file_stays_for_ever_that_was_overwritten_by_an_upload_without_a_row(begin, settings):
    settings.PGCLEANUP_UPLOAD_WINDOW = WINDOW
    path = start(ROW0)
    t0 = begin().lets_go(ROW0)
    put(NAME, b"new", age=JUST_NOW)
    t0.commits()

    finish(Stepped())

    put(NAME, b"new", age=WINDOW + JUST_NOW)
    assert_goes(path)


def test_without_a_second_look_an_upload_goes_that_overwrites_the_file_while_a_receiver_works(begin, settings, receive):
    settings.PGCLEANUP_UPLOAD_WINDOW = WINDOW
    path = let_go_by(begin)
    uploads = []

    def archive(**kwargs):
        put(NAME, b"new", age=JUST_NOW)
        uploads.append(begin().writes(ROW0))

    receive(before=archive)
    d0 = Stepped()

    finish(d0)

    uploads[0].commits()
    assert_kept(path)


def test_without_the_look_at_the_connection_a_drain_that_lost_it_deletes_an_upload(begin, session, settings, second):
    settings.PGCLEANUP_UPLOAD_WINDOW = WINDOW
    path = start(ROW0)
    begin().lets_go(ROW0).commits()
    d0 = Stepped()
    d1 = Stepped(second)
    advance(d0, "checked")
    session().run("SELECT pg_terminate_backend(%s, 5000)", connections["default"].connection.info.backend_pid)
    advance(d1, "deleted")
    d1.crash()
    put(NAME, b"new", age=WINDOW + JUST_NOW)
    begin().writes(ROW0).commits()

    with pytest.raises(ConnectionLost):
        finish(d0)

    assert_kept(path)


# --- what the model leaves out


def test_without_sessions_that_the_statistics_do_not_know_one_that_began_in_mid_batch_holds_nothing(begin, second):
    """pg_stat_activity is read once for a transaction, pg_locks anew each time: a later session is unknown there.

    The telltale entry is one that no drain can claim, of a model that is gone.
    """
    path = start()
    begin().lets_go(ROW0).commits()
    d0 = Stepped()
    advance(d0, "claimed")
    t2 = begin().reads()
    t1 = begin().lets_go(ROW1)
    t1.session.run(
        "UPDATE pending_file_deletion SET source = 'gone.model.file' WHERE source = 'project.attachment.file'"
    )
    t1.commits()
    advance(Stepped(second), "stamped")
    t2.writes(ROW0)
    advance(d0, "checked")
    t2.commits()

    finish(d0)

    assert sql.fetch("default", ROWS, [NAME, NAME])
    assert path.exists()
