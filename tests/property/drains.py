"""A drain that stops before each statement and after each step, and that can crash or lose its connection there."""

from __future__ import annotations

import re
import threading
from collections import Counter
from datetime import timedelta
from typing import Any

from django.db import connections

from pgcleanup.drain import FileResult, Run
from pgcleanup.drain.surroundings import Surroundings
from pgcleanup.exceptions import ConnectionLost

# It stops where what others do makes a difference: before what reads or writes rows, entries, stamps, transactions.
_WORTH_A_STOP = re.compile(r"pending_file_deletion|file_deletion_stamp|pg_prepared_xacts|project_|pg_locks")
# Far beyond anything that a drain waits for: it hangs.
_HANGS = 60


class _Crash(BaseException):
    """The process is gone. Not an Exception, which somebody could catch."""


class SteppedDrain:
    """A drain in a thread, and so on a connection, of its own. It runs only between `advance` and the next stop."""

    def __init__(self, grace: timedelta, found: Surroundings) -> None:
        self.place = "the start"
        """Where it stands: the name of the step that is done, or the statement that comes next."""
        self.ended = False
        self.lost = False
        """Whether its connection was taken away: it goes on, and must touch nothing."""
        self.pid = 0
        self.error: BaseException | None = None
        self.results: list[FileResult] = []
        self.signals: list[tuple[str, str]] = []
        """What the receivers heard of the batch that is under way."""
        self.in_batch = False
        self._crashing = False
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._work, args=(grace, found), daemon=True)
        self._thread.start()
        self._await_stop()

    def advance(self) -> None:
        """Let it go on to its next stop."""
        self._go.release()
        self._await_stop()

    def crash(self) -> None:
        """End its process where it is."""
        self._crashing = True
        self.advance()

    @property
    def thread(self) -> int:
        """The thread in which its receivers are called."""
        return self._thread.ident or 0

    def _await_stop(self) -> None:
        assert self._stopped.acquire(timeout=_HANGS), f"the drain hangs after {self.place}"

    def _work(self, grace: timedelta, found: Surroundings) -> None:
        connection: Any = connections["default"]
        try:
            connection.ensure_connection()
            # What it finds out before it starts has nothing to do with the protocol, and takes longer than a drain.
            run = Run("default", grace=grace, progress=self.results.append, surroundings=found)
            self.pid = connection.connection.info.backend_pid
            with connection.execute_wrapper(self._before_statement):
                for step in run.steps():
                    self.in_batch = step not in ("stamped", "committed", "waited", "settled at once") and (
                        self.in_batch or step == "claimed"
                    )
                    self._stop(step)
        except _Crash:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self.in_batch = False
            self.ended = True
            connections.close_all()
            self._stopped.release()

    def _before_statement(self, execute: Any, statement: Any, parameters: Any, many: bool, context: Any) -> Any:
        text = str(statement)
        if _WORTH_A_STOP.search(text) and not self._crashing:
            self._stop(text)
        return execute(statement, parameters, many, context)

    def _stop(self, place: str) -> None:
        self.place = place
        self._stopped.release()
        self._go.acquire()
        if self._crashing:
            # The connection goes first: what a dying process would still say reaches no server.
            raw = connections["default"].connection
            if raw is not None:
                raw.close()
            raise _Crash

    def problem(self) -> str | None:
        """Say what is wrong with how it ended, if anything is."""
        if self.error is None or (self.lost and isinstance(self.error, ConnectionLost)):
            return None
        return f"the drain ended with {self.error!r} at {self.place}"

    def check_signals(self, results: list[FileResult]) -> None:
        """Check what was heard in a batch that is committed: one pair for each file that is gone, nothing else."""
        heard = Counter(self.signals)
        self.signals.clear()
        for result in results:
            pair = [("pre", result.name), ("post", result.name)]
            if result.outcome in ("deleted", "absent"):
                assert [heard.pop(one, 0) for one in pair] == [1, 1], f"{result.name}: not one pair of signals"
            elif result.waiting in ("upload_window", "other_entry") or result.outcome == "kept":
                # Written again, named again or let go again while the receivers of the old file were told: of one
                # that goes later they hear once more.
                heard.pop(pair[0], None)
        assert not heard, f"signals for nothing: {heard}"
