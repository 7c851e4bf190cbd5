"""The state machine: three writers, up to two drains, a clock. Hypothesis decides who does what next.

The promise is kept under assumptions that are in docs/guarantees.md, and the machine keeps to them: a name is written
by a transaction that read it or uploaded its file, or outside of one within the grace period; an upload is committed,
and a batch over, within the upload window. How long a transaction lasts and what it does is free, and so is what dies.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pgcleanup.drain.surroundings import Surroundings as Found
from pgcleanup.signals import cleanup_post_delete, cleanup_pre_delete
from tests.drain.support import Session
from tests.property.drains import SteppedDrain
from tests.property.writers import TABLES, Known, Waited, Writer, committed_names, end_prepared

NAMES = ["docs/a.txt", "docs/b.txt", "docs/c.txt", "docs/d.txt"]
GRACE = timedelta(hours=1)
WINDOW = timedelta(minutes=10)
# Half of the window is the uploaders', half the batches'; less a margin, since real time goes by as well.
PATIENCE = WINDOW.total_seconds() / 2 - 60
LONG = 24 * 3600.0

TICK = """
WITH free AS (SELECT id FROM pending_file_deletion FOR UPDATE SKIP LOCKED), entries AS (
    UPDATE pending_file_deletion p SET retry_at = retry_at - %(by)s FROM free WHERE p.id = free.id
)
UPDATE file_deletion_stamp SET stamped_at = stamped_at - %(by)s
"""
RESET = """
DELETE FROM project_attachment; DELETE FROM project_document; DELETE FROM pending_file_deletion;
DELETE FROM settled_file_deletion; DELETE FROM file_deletion_stamp;
"""

# What may come next, as often as it stands here. One rule for all: Hypothesis leaves whole rules out of many runs, and
# a story needs a writer, a drain and at times the clock.
APPLICATION = [
    *["BEGIN READ COMMITTED"] * 3,
    *["BEGIN REPEATABLE READ", "BEGIN SERIALIZABLE"] * 2,
    *["write", "move"] * 4,
    *["read", "delete", "end COMMIT"] * 3,
    *["upload free", "upload over", "copy", "swap", "delete all", "end ROLLBACK"],
    *["truncate", "prepare", "prepared COMMIT", "prepared ROLLBACK"],
    *["savepoint SAVEPOINT", "savepoint ROLLBACK TO SAVEPOINT", "savepoint RELEASE SAVEPOINT"],
]
DRAIN = [
    *["stops 1", "stops 2", "stops 4", "stops 8"],
    *[f"to {step}" for step in ("stamped", "claimed", "checked", "looked", "deleted", "settled", "committed")],
    *["end", "end", "crash now", "crash at checked", "crash at deleted"],
    *["lose now", "lose at checked", "lose at deleted"],
]
CLOCK = [
    "wait 1",
    f"wait {PATIENCE / 2}",
    f"wait {WINDOW.total_seconds()}",
    f"wait {GRACE.total_seconds() / 2}",
    f"wait {LONG}",
]
WHAT_NEXT = [*APPLICATION, *DRAIN, *CLOCK]

whos = st.integers(0, 2)
names = st.sampled_from(NAMES)
tables = st.sampled_from(TABLES)
keys = st.integers(1, 3)
picks = st.integers(0, 3)


@dataclass
class Surroundings:
    """What one test gives to all runs of the machine."""

    media_root: Path
    set_grace: Callable[[timedelta], None]
    checker: Session
    sessions: list[Session]
    """Of the writers. Kept from run to run: opening them takes longer than most of what they do."""
    can_prepare: bool
    found: Found
    """What every drain would find out."""
    counts: Counter[str] = field(default_factory=Counter)
    """What was done, over all runs."""


@dataclass
class Upload:
    """The last file that was put under a name."""

    token: bytes
    after_entry: int
    """The number that the ledger had reached when it was written."""


class Promise(RuleBasedStateMachine):
    """Never early, never lost, at least once."""

    surroundings: Surroundings

    def __init__(self) -> None:
        super().__init__()
        self.counts = self.surroundings.counts
        self.checker = self.surroundings.checker
        self.writers = [Writer(session) for session in self.surroundings.sessions]
        self.drains: list[SteppedDrain | None] = [None, None]
        self.prepared: dict[str, Known] = {}
        self.carried: dict[str, float] = {}
        """Names known outside of any transaction, and until when they may be written."""
        self.uploads: dict[str, Upload] = {}
        self.settled: Counter[str] = Counter()
        self.now = 0.0
        self.batch_began: dict[int, float] = {}
        self.grace = timedelta(0)
        self.heard = True
        self.number = 0
        for signal, receiver in ((cleanup_pre_delete, self._hear_pre), (cleanup_post_delete, self._hear_post)):
            signal.connect(receiver)

    # --- the beginning

    @initialize(grace=st.booleans(), heard=st.booleans())
    def start(self, grace: bool, heard: bool) -> None:
        """Three files that rows of both tables name."""
        self.counts["examples"] += 1
        self.grace = GRACE if grace else timedelta(0)
        self.surroundings.set_grace(self.grace)
        self.heard = heard
        if not heard:
            self._stop_hearing()
        self.checker.run("SET session_replication_role = replica")
        for statement in RESET.split(";"):
            self.checker.run(statement) if statement.strip() else None
        self.checker.run("RESET session_replication_role")
        for path in self.surroundings.media_root.rglob("*.txt"):
            path.unlink()
        for name in NAMES[:3]:
            self._put(name, age=LONG)
        for table, rows in zip(TABLES, (NAMES[:2], NAMES[0:3:2]), strict=True):
            for key, name in enumerate(rows, start=1):
                self.writers[0].write(table, key, name)

    # --- what the application does

    @rule(what=st.sampled_from(WHAT_NEXT), who=whos, table=tables, key=keys, pick=picks, name=names)
    def next(self, what: str, who: int, table: str, key: int, pick: int, name: str) -> None:
        if what in APPLICATION:
            self._application(self.writers[who], what, table, key, pick, name)
        elif what in DRAIN:
            self._drain(who % 2, what)
        else:
            self._let_time_go_by(float(what.split()[1]))

    def _application(self, writer: Writer, what: str, table: str, key: int, pick: int, name: str) -> None:
        match what.split(" ", 1):
            case ["BEGIN", isolation]:
                self._begin(writer, isolation)
            case ["read"]:
                self._read(writer)
            case ["write"]:
                self._write_a_name_it_knows(writer, table, key, pick)
            case ["move"]:
                self._write_a_name_it_knows(writer, table, key, pick)
                self._delete(writer, TABLES[1] if table == TABLES[0] else TABLES[0], 1 + pick % 3)
            case ["delete"]:
                self._delete(writer, table, key)
            case ["delete", "all"]:
                self._run(writer, "DELETE of all rows", f"DELETE FROM {table}")
            case ["truncate"]:
                self._truncate(writer, table)
            case ["swap"]:
                self._swap(writer, table, key, 1 + pick % 3)
            case ["copy"]:
                self._copy_in_one_statement(writer, table, key, 1 + pick % 3)
            case ["upload", way]:
                self._upload(writer, name, overwrite=way == "over")
            case ["savepoint", statement]:
                self._savepoint(writer, statement)
            case ["end", way] if writer.in_transaction:
                self._did("COMMIT" if writer.end(commit=way == "COMMIT") else "ROLLBACK")
            case ["prepare"] if writer.in_transaction and self.surroundings.can_prepare:
                self._prepare(writer)
            case ["prepared", way] if self.prepared:
                gid = sorted(self.prepared)[pick % len(self.prepared)]
                end_prepared(self.checker, gid, commit=way == "COMMIT")
                del self.prepared[gid]
                self._did(f"{way} PREPARED")

    def _begin(self, writer: Writer, isolation: str) -> None:
        """Every other one reads at once, as most do; the others stay idle for a while."""
        if not writer.in_transaction:
            writer.begin(isolation)
            self._did(f"BEGIN {isolation}")
            self.number += 1
            if self.number % 2:
                self._read(writer)

    def _read(self, writer: Writer) -> None:
        """In a transaction, it knows the names from here on; outside of one, for as long as the grace period."""
        with self._waiting(writer):
            found = writer.read()
            if not writer.in_transaction and self.grace:
                until = self.now + self.grace.total_seconds() - 60
                self.carried.update(dict.fromkeys(found, until))
            self._did("read")

    def _write_a_name_it_knows(self, writer: Writer, table: str, key: int, pick: int) -> None:
        until = {name: moment for name, moment in self.carried.items() if moment > self.now}
        known = sorted(writer.known.names | set(until))
        if not known:
            return
        name = known[pick % len(known)]
        if name not in writer.known.names and writer.in_transaction:
            writer.known.before(until[name])
        carried = name not in writer.known.names
        with self._waiting(writer):
            writer.write(table, key, name)
            self._did("write a carried name" if carried else "write a known name")
        if not writer.in_transaction:
            writer.known = Known()

    def _delete(self, writer: Writer, table: str, key: int) -> None:
        self._run(writer, "DELETE", f"DELETE FROM {table} WHERE id = %s", key)

    def _truncate(self, writer: Writer, table: str) -> None:
        """Not in a snapshot from before: TRUNCATE takes rows that its trigger does not see then."""
        if not (writer.in_transaction and writer.isolation != "READ COMMITTED" and writer.has_snapshot):
            writer.known.truncated = writer.in_transaction
            self._run(writer, "TRUNCATE", f"TRUNCATE {table} CASCADE")

    def _swap(self, writer: Writer, table: str, first: int, second: int) -> None:
        swap = f"UPDATE {table} t SET file = o.file FROM {table} o"
        self._run(writer, "swap", f"{swap} WHERE (t.id, o.id) IN ((%s, %s), (%s, %s))", first, second, second, first)

    def _copy_in_one_statement(self, writer: Writer, source: str, key: int, to: int) -> None:
        target = TABLES[0] if source == TABLES[1] else TABLES[1]
        columns, title = ("id, title, file", "'', ") if target == TABLES[0] else ("id, file", "")
        insert = f"INSERT INTO {target} ({columns}) SELECT %s, {title}file FROM {source} WHERE id = %s"
        self._run(writer, "copy", f"{insert} ON CONFLICT (id) DO UPDATE SET file = excluded.file", to, key)

    def _upload(self, writer: Writer, name: str, *, overwrite: bool) -> None:
        """File first, row later: in the transaction that is open, or in the next one."""
        if not overwrite:
            free = [one for one in NAMES if not self._path(one).exists()]
            if not free:
                return
            name = name if name in free else free[0]
        elif self._path(name).exists() and self._is_about_to_go(name):
            return
        self._put(name)
        writer.known.names.add(name)
        writer.known.before(self.now + PATIENCE)
        self._did("upload over a file" if overwrite else "upload")

    def _savepoint(self, writer: Writer, what: str) -> None:
        """Rolled back to, it still knows what it has read since."""
        if not writer.in_transaction or (what != "SAVEPOINT" and not writer.savepoints):
            return
        if what == "SAVEPOINT":
            writer.savepoints += 1
        writer.session.run(f"{what} s{writer.savepoints}")
        if what == "RELEASE SAVEPOINT":
            writer.savepoints -= 1
        self._did(what)

    def _prepare(self, writer: Writer) -> None:
        self.number += 1
        gid = f"pgcleanup property {os.getpid()} {self.number}"
        known = writer.prepare(gid)
        if known is not None:
            self.prepared[gid] = known
            self._did("PREPARE TRANSACTION")

    # --- what the drains do

    def _drain(self, number: int, what: str) -> None:
        match what.split(" ", 1):
            case ["stops", count]:
                self._start_drain(number)
                for _ in range(int(count)):
                    self._advance(number)
            case ["to", step]:
                self._drain_to(number, step)
            case ["end"]:
                self._drain_to(number, "its end")
            case [death, where]:
                if where != "now":
                    self._drain_to(number, where.removeprefix("at "))
                self._kill(number, and_go_on=death == "lose")

    def _kill(self, number: int, *, and_go_on: bool) -> None:
        """Let the process of a drain die, or go on without its connection."""
        drain = self.drains[number]
        if drain is None or drain.lost:
            return
        what = "connection lost" if and_go_on else "crash"
        self._did(f"{what} {'in' if drain.in_batch else 'outside'} a batch")
        if and_go_on:
            self._terminate(drain)
            drain.lost = True
        else:
            drain.crash()
            self._terminate(drain)
            self.drains[number] = None
            self.batch_began.pop(number, None)

    def _start_drain(self, number: int) -> None:
        if self.drains[number] is None:
            drain = self.drains[number] = SteppedDrain(self.grace, self.surroundings.found)
            self._did("drain")
            self._after(number, drain)

    def _drain_to(self, number: int, step: str) -> None:
        """Start a drain, or let one go on, until this step is done or it has ended."""
        self._start_drain(number)
        while (drain := self._advance(number)) is not None and drain.place != step:
            pass

    # --- the clock

    def _let_time_go_by(self, seconds: float) -> None:
        """Who must have ended by then, ends now."""
        moment = self.now + seconds
        for writer in self.writers:
            if writer.known.must_end_by is not None and writer.known.must_end_by < moment:
                if writer.in_transaction:
                    writer.end(commit=True)
                writer.known = Known()
        for gid, known in list(self.prepared.items()):
            if known.must_end_by is not None and known.must_end_by < moment:
                end_prepared(self.checker, gid, commit=True)
                del self.prepared[gid]
        for number in (0, 1):
            while number in self.batch_began and self.batch_began[number] + PATIENCE < moment:
                self._advance(number)
        self._shift(seconds)
        self._did("let time go by")

    # --- what must hold

    @invariant()
    def every_committed_reference_has_its_file(self) -> None:
        if any(known.truncated for known in [*self.prepared.values(), *(writer.known for writer in self.writers)]):
            # Nobody can read the table then. If that is rolled back, it shows.
            return
        for name in committed_names(self.checker):
            assert self._path(name).exists(), f"never early: {name} is gone, and a committed row names it"

    def teardown(self) -> None:
        """All comes to its end: nothing is lost, and nothing is left."""
        try:
            if self.counts["examples"]:
                self._come_to_rest()
                self._check_the_end()
        finally:
            self._stop_hearing()
            for drain in self.drains:
                if drain is not None and not drain.ended:
                    drain.crash()
            for writer in self.writers:
                if writer.session.is_open:
                    writer.session.rollback()
            for gid in self.prepared:
                end_prepared(self.checker, gid, commit=False)

    def _come_to_rest(self) -> None:
        for number, writer in enumerate(self.writers):
            if writer.in_transaction:
                writer.end(commit=number % 2 == 0)
        for number, gid in enumerate(list(self.prepared)):
            end_prepared(self.checker, gid, commit=number % 2 == 0)
            del self.prepared[gid]
        for number in (0, 1):
            while self._advance(number) is not None:
                pass
        self.every_committed_reference_has_its_file()
        # The first stamps, the second sweeps, the third takes what the second left for another entry.
        for _ in range(3):
            self._shift(LONG)
            self._drain_to(0, "its end")
            self.every_committed_reference_has_its_file()

    def _check_the_end(self) -> None:
        left = self.checker.run("SELECT name, last_error FROM pending_file_deletion")
        assert not left, f"never lost: {left} are still pending when all is over"
        named = committed_names(self.checker)
        for name in NAMES:
            if self._path(name).exists() and name not in named:
                upload = self.uploads[name]
                later = "SELECT id, outcome FROM settled_file_deletion WHERE name = %s AND id > %s"
                recorded = self.checker.run(later, name, upload.after_entry)
                assert not recorded, f"never lost: {name} is still there, and was let go as {recorded}"

    # --- how

    def _advance(self, number: int) -> SteppedDrain | None:
        """Let a drain go on to its next stop, and check what it did. None means that it has ended."""
        drain = self.drains[number]
        if drain is None:
            return None
        before = self._files() if drain.lost else set()
        heard, told = len(drain.signals), len(drain.results)
        drain.advance()
        self._did("stop of a drain")
        if drain.lost:
            assert self._files() == before, "a drain without a connection has deleted a file"
            assert len(drain.signals) == heard, "a drain without a connection has sent a signal"
        return self._after(number, drain, told)

    def _after(self, number: int, drain: SteppedDrain, told: int = 0) -> SteppedDrain | None:
        if drain.in_batch:
            self.batch_began.setdefault(number, self.now)
        else:
            self.batch_began.pop(number, None)
        if drain.place == "committed" or (drain.ended and not drain.lost):
            results = drain.results[told:]
            self._check_settled(results)
            if self.heard:
                drain.check_signals(results)
        if not drain.ended:
            return drain
        self.drains[number] = None
        problem = drain.problem()
        assert problem is None, problem
        return None

    def _check_settled(self, results: list[Any]) -> None:
        """Each name that a drain tells of as settled must be in the history once more than before."""
        counted = dict(self.checker.run("SELECT name, count(*) FROM settled_file_deletion GROUP BY name"))
        for result in results:
            if result.outcome in ("deleted", "absent", "kept"):
                self._did(result.outcome.value)
                grown = counted.get(result.name, 0) > self.settled[result.name]
                assert grown, f"{result.name} is told of as {result.outcome}, and no entry is settled"
            elif result.waiting:
                self._did(f"left: {result.waiting}")
        self.settled = Counter(counted)

    def _is_about_to_go(self, name: str) -> bool:
        """Whether a drain has looked at the file for the last time. What overwrites it now goes: an assumption."""
        return not self.heard and any(drain is not None and drain.place == "looked" for drain in self.drains)

    def _run(self, writer: Writer, what: str, statement: str, *values: Any) -> None:
        with self._waiting(writer):
            writer.run(statement, *values)
            self._did(what)

    def _waiting(self, writer: Writer) -> Any:
        return _Waiting(self, writer)

    def _terminate(self, drain: SteppedDrain) -> None:
        """Wait until the server has seen that its session is gone."""
        self.checker.run("SELECT pg_terminate_backend(%s, 10000)", drain.pid)

    def _shift(self, seconds: float) -> None:
        self.now += seconds
        by = timedelta(seconds=seconds)
        self.checker.raw.execute(TICK, {"by": by})
        for name in NAMES:
            path = self._path(name)
            if path.exists():
                written = path.stat().st_mtime - seconds
                os.utime(path, (written, written))

    def _put(self, name: str, age: float = 0.0) -> None:
        self.number += 1
        path = self._path(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"%d" % self.number)
        written = time.time() - age
        os.utime(path, (written, written))
        reached = "SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('pending_file_deletion', 'id')), 0)"
        self.uploads[name] = Upload(b"%d" % self.number, self.checker.run(reached)[0][0])

    def _path(self, name: str) -> Path:
        return self.surroundings.media_root / name

    def _files(self) -> set[str]:
        return {name for name in NAMES if self._path(name).exists()}

    def _did(self, what: str) -> None:
        self.counts[what] += 1

    def _hear_pre(self, sender: Any, file_name: str, **kwargs: Any) -> None:
        self._hear("pre", file_name)

    def _hear_post(self, sender: Any, file_name: str, **kwargs: Any) -> None:
        self._hear("post", file_name)

    def _hear(self, when: str, name: str) -> None:
        for drain in self.drains:
            if drain is not None and drain.thread == threading.get_ident():
                drain.signals.append((when, name))

    def _stop_hearing(self) -> None:
        cleanup_pre_delete.disconnect(self._hear_pre)
        cleanup_post_delete.disconnect(self._hear_post)


class _Waiting:
    """Lets a statement fail that waited for another writer, and nothing else."""

    def __init__(self, machine: Promise, writer: Writer) -> None:
        self.machine, self.writer = machine, writer
        self.others = bool(machine.prepared) or any(one.in_transaction for one in machine.writers if one is not writer)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> bool:
        if not isinstance(error, Waited):
            return False
        assert self.others, f"the application waited for a drain: {error}"
        self.machine.counts["writer that waited for another"] += 1
        return True


def machine(surroundings: Surroundings) -> type[Promise]:
    """Return the machine, bound to what the test has made for it."""
    return type("Promise", (Promise,), {"surroundings": surroundings})


def summary(counts: Counter[str]) -> Iterator[str]:
    """Yield what was done, most frequent first."""
    for what, count in counts.most_common():
        yield f"{count:>8} {what}"
