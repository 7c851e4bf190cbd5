"""Ending early but in order when the process is told to: SIGTERM, or SIGINT from a keyboard.

The first signal lets the file under way be finished and what was done be settled. Where a storage, a receiver
or a query hangs, the process ends after some seconds all the same: whoever sends SIGTERM mostly sends SIGKILL
ten later. It ends as a whole, as with SIGKILL: a storage call that was merely given up could delete its file
when the claims are gone (see drain/deadline.py).
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

SECONDS_TO_END = 6.0
_SECONDS_FOR_LAST_WORDS = 1.0
_SLICE = 0.2

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Windows has no timer: there a second signal ends what hangs.
_HAS_TIMER = hasattr(signal, "setitimer")


class Stop:
    """Turns signals into a question: `with Stop() as stop: drain(stop=stop)`.

    Does nothing where signals are not ours: outside the main thread, or `enabled` being False. `tell` says why
    the process ends where it could not do so in order; it is called in a thread of its own.
    """

    def __init__(self, *, enabled: bool = True, tell: Callable[[str, int], None] | None = None) -> None:
        self.received: signal.Signals | None = None
        self._enabled = enabled and threading.current_thread() is threading.main_thread()
        self._tell = tell
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        """Whether a signal has come."""
        return self.received is not None

    def __enter__(self) -> Stop:
        for number in _SIGNALS if self._enabled else ():
            # Ignored by whoever started us, as a shell does for SIGINT in the background: it stays so.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # After a signal the process ends: its timer stays, for a client's thread that would keep it from ending.
        if self.received is None:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until a signal comes."""
        end = time.monotonic() + seconds
        while not self() and (rest := end - time.monotonic()) > 0:
            # In slices: a signal's handler that returns does not end a sleep.
            time.sleep(min(rest, _SLICE))

    @property
    def exit_code(self) -> int:
        """What a process ends with that a signal ended, as shells, Docker and systemd know it: 143 for SIGTERM."""
        return 128 + (self.received or signal.SIGINT)

    @property
    def name(self) -> str:
        """Name the signal."""
        return (self.received or signal.SIGINT).name

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            self._end(number, frame)
        self.received = signal.Signals(number)
        if _HAS_TIMER:
            signal.signal(signal.SIGALRM, self._end)
            signal.setitimer(signal.ITIMER_REAL, SECONDS_TO_END)
            # Called after all threads have ended. Then Python puts the signals' defaults back: SIGALRM would kill us.
            atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)

    def _end(self, number: int, frame: FrameType | None) -> None:
        # In a thread: neither a lock on the stream that was just being written to nor a full pipe may keep us alive.
        last_words = threading.Thread(target=self._last_words, daemon=True)
        last_words.start()
        last_words.join(_SECONDS_FOR_LAST_WORDS)
        os._exit(self.exit_code)

    def _last_words(self) -> None:
        if self._tell is not None:
            text = (
                f"stopped by {self.name} in the midst of a batch, which the next drain begins anew: what was under way "
                "did not end in time. Nothing is lost."
            )
            self._tell(text, self.exit_code)
