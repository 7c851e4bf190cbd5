"""Whole names are claimed, and only what may be; what is not claimed of a name holds it back."""

from __future__ import annotations

from datetime import timedelta

from pgcleanup import sql
from pgcleanup.drain import drain
from pgcleanup.ledger.claims import Cursor, pick
from pgcleanup.ledger.fence import stamp
from pgcleanup.models import Outcome
from tests.drain.support import (
    Stepped,
    age_stamps,
    end_retry_waits,
    entries,
    let_go,
    orphaned,
    pending,
    plans_of,
    put,
    settled,
)
from tests.project.models import Attachment, Document
from tests.support import run_sql


def test_name_with_an_entry_that_is_not_seen_yet_is_left(session):
    """The shortest way to lose a file without this check takes fourteen steps; the numbers are theirs."""
    path = put("docs/a.txt")
    first, second = Document.objects.create(file="docs/a.txt"), Document.objects.create(file="docs/a.txt")
    first.delete()  # 1-3: W0 deletes its row
    remover = session().begin()  # 4: T1 has deleted the other one, uncommitted
    remover.run("DELETE FROM project_document WHERE id = %s", second.pk)
    run = Stepped()
    run.until("stamped")  # 5: the fence of the first entry is T1
    carrier = session().begin()  # 6, 7: T2 is in no fence, and reads the name
    (name,) = carrier.run("SELECT file FROM project_document")[0]
    remover.commit()  # 8: a second entry, which no drain has seen
    carrier.name(name)  # 9: not visible to anybody yet

    report = run.finish()  # 10-13
    carrier.commit()  # 14

    assert report.counts == {}
    assert path.exists()
    end_retry_waits()
    assert drain().counts == {Outcome.KEPT: 1}
    assert path.exists()


def test_name_with_an_older_entry_that_is_committed_later_is_left(session):
    """Entries get their number when they are written: a lower one can be committed after a higher one."""
    path = put("docs/a.txt")
    first, second = Document.objects.create(file="docs/a.txt"), Document.objects.create(file="docs/a.txt")
    remover = session().begin()
    remover.run("DELETE FROM project_document WHERE id = %s", second.pk)
    first.delete()
    run = Stepped()
    run.until("stamped")
    carrier = session().begin()
    (name,) = carrier.run("SELECT file FROM project_document")[0]
    remover.commit()
    carrier.name(name)
    assert [stamp for (stamp,) in entries("stamp_id IS NOT NULL")] == [False, True]

    report = run.finish()
    carrier.commit()

    assert report.counts == {}
    assert path.exists()


def test_name_with_an_entry_whose_fence_is_not_clear_is_left(session):
    path = put("docs/a.txt")
    let_go("docs/a.txt")
    early = Stepped()
    early.until("stamped")
    row = Document.objects.create(file="docs/a.txt")
    carrier = session().begin()
    (name,) = carrier.run("SELECT file FROM project_document")[0]
    row.delete()

    report = drain()
    carrier.name(name)
    carrier.commit()

    assert report.counts == {}
    assert path.exists()
    end_retry_waits()
    assert drain().counts == {Outcome.KEPT: 1}


def test_name_with_an_entry_in_its_grace_period_is_left(settings):
    settings.PGCLEANUP_GRACE_PERIOD = timedelta(hours=1)
    path = orphaned("docs/a.txt")
    drain()
    age_stamps(timedelta(hours=1))
    let_go("docs/a.txt")

    report = drain()

    assert report.counts == {}
    assert path.exists()
    age_stamps(timedelta(hours=1))
    end_retry_waits()
    assert drain().counts == {Outcome.DELETED: 1}
    assert settled("outcome") == [("deleted",), ("deleted",)]


def test_left_name_counts_no_attempt_and_says_what_it_waits_for(session):
    let_go("docs/a.txt")
    early = Stepped()
    early.until("stamped")
    session().begin()
    let_go("docs/a.txt")

    report = drain()

    assert entries("attempts, retry_at IS NOT NULL, last_error LIKE 'other_entry:%%'")[0] == (0, True, True)
    assert report.waiting == {"transaction": 1}


def test_all_entries_of_a_name_settle_together_however_many():
    path = put("docs/a.txt")
    let_go(*["docs/a.txt"] * 2_500)

    report = drain()

    assert report.counts == {Outcome.DELETED: 1}
    assert sql.fetch("default", "SELECT outcome, count(*) FROM settled_file_deletion GROUP BY 1") == [
        ("deleted", 2_500)
    ]
    assert not path.exists()
    assert pending() == []


def test_entries_that_wait_for_a_retry_or_have_no_attempt_left_go_with_their_name():
    path = put("docs/a.txt")
    let_go("docs/a.txt", "docs/a.txt", "docs/a.txt")
    Stepped().until("stamped")
    sql.execute(
        "default",
        """UPDATE pending_file_deletion SET retry_at = clock_timestamp() + interval '1 hour',
                  exhausted_at = CASE WHEN id = (SELECT max(id) FROM pending_file_deletion) THEN clock_timestamp() END
            WHERE id > (SELECT min(id) FROM pending_file_deletion)""",
    )

    report = drain()

    assert report.counts == {Outcome.DELETED: 1}
    assert pending() == []
    assert not path.exists()


def test_name_of_which_no_entry_is_due_is_not_touched():
    path = orphaned("docs/a.txt")
    Stepped().until("stamped")
    sql.execute("default", "UPDATE pending_file_deletion SET retry_at = clock_timestamp() + interval '1 hour'")

    report = drain()

    assert report.counts == {}
    assert path.exists()


def test_entry_that_comes_while_its_name_is_settled_survives(session):
    """Removed by claimed id: the kept name's last row goes between the check and the settlement."""
    path = put("docs/a.txt")
    last = Document.objects.create(file="docs/a.txt")
    let_go("docs/a.txt")
    run = Stepped()
    run.until("checked")
    session().run("DELETE FROM project_document WHERE id = %s", last.pk)

    report = run.finish()

    assert report.counts == {Outcome.KEPT: 1}
    assert pending() == ["docs/a.txt"]
    assert drain().counts == {Outcome.DELETED: 1}
    assert not path.exists()


def test_several_columns_letting_one_name_go_are_one_name():
    path = put("docs/a.txt")
    let_go("docs/a.txt")
    let_go("docs/a.txt", model=Attachment)

    report = drain()

    assert report.counts == {Outcome.DELETED: 1}
    assert settled("source, outcome") == [
        ("project.document.file", "deleted"),
        ("project.attachment.file", "deleted"),
    ]
    assert not path.exists()


def test_bytes_stand_on_one_entry_of_a_name():
    put("docs/a.txt", b"12345")
    let_go("docs/a.txt", "docs/a.txt", "docs/a.txt")

    report = drain()

    assert report.bytes_deleted == 5
    assert settled("bytes") == [(5,), (None,), (None,)]


def test_names_are_picked_in_order_whatever_the_statistics_of_the_ledger_say():
    """Of entries stamped since, they know nothing: reading and sorting all seems as cheap as reading the first few."""
    let_go(*[f"docs/{number}.txt" for number in range(300)])
    run_sql("ANALYZE pending_file_deletion")
    run_sql("ALTER INDEX pfd_ready SET (fillfactor = 10)")
    try:
        stamp("default")
        # As many entries make it: one level more than the index that says nothing of the order, without what earlier
        # entries have left in that one.
        run_sql("REINDEX TABLE pending_file_deletion")
        with plans_of("WITH", "LATERAL") as plans:
            pick("default", Cursor(), timedelta(0), ["project.document.file"], 10)
    finally:
        run_sql("ALTER INDEX pfd_ready RESET (fillfactor)")
        run_sql("REINDEX INDEX pfd_ready")

    assert "using pfd_ready" in plans[0]
    assert "using pfd_name" not in plans[0]
