"""The calls to storages of one run, as they come: for the deadline that watches over them, and for who measures."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.files.storage import Storage

# What was asked, of which storage, about which name. A tuple: there is one for each call.
Call = tuple[str, Storage, str]


def _nothing() -> None:
    pass


def _never() -> bool:
    return False


@dataclass(slots=True)
class Calls:
    """What is asked of storages at the moment. Costs each call next to nothing: a note before, one after."""

    current: Call | None = None
    """The call that this thread makes."""
    awaited: Call | None = None
    """One that it waits for, while other threads make many at a time."""
    batch: Sequence[Any] = ()
    """What is claimed at the moment."""
    alive: Callable[[], None] = _nothing
    """Asked before each deletion: raises where the drain has lost its claims, for then it may delete nothing."""
    enough: Callable[[], bool] = _never
    """Asked between two of many calls: whether to make no more of them."""

    def failed(self, what: str) -> None:
        """Hear of an error; for who measures."""

    def took(self, what: str, seconds: float) -> None:
        """Hear how long a call took in another thread; for who measures."""


def block_signals() -> None:
    """Leave signals to the main thread. To be called in every other one.

    The kernel may give a process's signal to any thread that takes it, and there it would not end the call that the
    main thread makes: Python's handler would run when that call is over, a hanging one's never.
    """
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGALRM))
