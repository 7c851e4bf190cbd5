"""A storage call that does not come back: after PGCLEANUP_STORAGE_TIMEOUT the process of the command ends.

A call cannot be taken back. One that is merely waited for no longer may still delete its file an hour later,
when a new upload has taken the name, and neither an exception nor a signal reaches a thread inside a client
library. What ends the call for certain is the end of its process: then PostgreSQL lets the claims go, in this
order and never before. See docs/guarantees.md.

Where the process is not ours to end, as in a task or a script that calls `drain()`, it is logged.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pgcleanup.conf import settings
from pgcleanup.ledger import settling
from pgcleanup.ledger.settling import Leave, Postponement
from pgcleanup.storage_keys import describe
from pgcleanup.storages import Call, Calls, block_signals

logger = logging.getLogger("pgcleanup.drain")

_EXIT_CODE = 1
_SECONDS_FOR_THE_NOTE = 5.0

# What to do once a call has overrun: set by a command that may end its process.
_end_process: Callable[[str], None] | None = None


class StorageHung(Exception):
    """A storage call that did not come back in time, as the error of its name."""


class Deadline:
    """Watches over the storage calls of one run: a thread looks now and then whether one is still the same."""

    def __init__(self, using: str, calls: Calls) -> None:
        self._using = using
        self._calls = calls
        self._timeout = settings.storage_timeout.total_seconds()
        self._stopped = threading.Event()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Watch until the end of the block."""
        if self._timeout:
            threading.Thread(target=self._run, name="pgcleanup-deadline", daemon=True).start()
        try:
            yield
        finally:
            self._stopped.set()

    def _run(self) -> None:
        block_signals()
        self._watch()

    def _watch(self) -> None:
        seen: Call | None = None
        since = 0.0
        while not self._stopped.wait(min(self._timeout / 10, 1.0)):
            current = self._calls.current or self._calls.awaited
            if current is not seen:
                seen, since = current, time.monotonic()
            elif current is not None and time.monotonic() - since >= self._timeout:
                self._overrun(current)
                # Said once for each call.
                since = float("inf")

    def _overrun(self, call: Call) -> None:
        what, storage, name = call
        text = (
            f"storage {describe(storage)} has not answered for {self._timeout:g} s (PGCLEANUP_STORAGE_TIMEOUT), "
            f"asked to {what} {name}"
        )
        if _end_process is None:
            logger.error("%s. The drain waits for it, and holds what it claimed.", text)
            return
        # In a thread of its own: neither a database that hangs as well nor a pipe that is full may keep us alive.
        last_words = threading.Thread(target=self._last_words, args=(name, text, _end_process), daemon=True)
        last_words.start()
        last_words.join(_SECONDS_FOR_THE_NOTE)
        os._exit(_EXIT_CODE)

    def _last_words(self, name: str, text: str, tell: Callable[[str], None]) -> None:
        tell(f"{text}. Ended, so that the call cannot delete anything later. Nothing is lost: the next drain goes on.")
        hung = [claim for claim in self._calls.batch if claim.name == name]
        rest = [claim for claim in self._calls.batch if claim.name != name]
        settling.send_after_us(
            self._using,
            [Postponement(claim.ids, claim.attempts + 1, f"{StorageHung.__name__}: {text}") for claim in hung],
            [Leave(claim.ids, settling.down_wait(), f"{settling.PUT_OFF}{text}") for claim in rest],
        )


@contextmanager
def ending_the_process(tell: Callable[[str], None]) -> Iterator[None]:
    """Within the block, a storage call that overruns ends this process with 1, after `tell` was called."""
    global _end_process
    _end_process = tell
    try:
        yield
    finally:
        _end_process = None
