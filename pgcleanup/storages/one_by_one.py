"""A call for each name: one after the other, or many at a time in threads that wait for a server."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

from django.core.files.storage import Storage
from django.db import connections

from pgcleanup.storages.base import Adapter, Seen
from pgcleanup.storages.calls import Calls, block_signals

T = TypeVar("T")

THREADS = 32
# So many failures with no success tell that nothing works: a server that does not answer takes its time each time.
_NOTHING_WORKS = 8


class OneByOne(Adapter):
    """Asks the storage about each name by itself."""

    def __init__(self, storage: Storage, calls: Calls | None = None, *, threads: int = 1) -> None:
        super().__init__(storage, calls)
        self.threads = threads
        if threads > 1:
            self.at_first, self.at_once, self.remote = threads, 1_000, True
        self._pool: ThreadPoolExecutor | None = None

    def in_this_thread(self) -> None:
        """Ask one after the other, from now on."""
        self.threads = self.at_first = self.at_once = 1
        self.remote = False

    @abstractmethod
    def _look(self, name: str) -> Seen:
        """Look at one name."""

    @abstractmethod
    def _delete(self, name: str, seen: Seen) -> None:
        """Delete one file."""

    def look_many(self, names: Sequence[str]) -> dict[str, Seen | Exception]:
        return self._each("look at", names, self._look)

    def delete_many(self, files: Mapping[str, Seen]) -> dict[str, Exception | None]:
        return self._each("delete", list(files), lambda name: self._delete(name, files[name]))

    def _each(
        self, what: str, names: Sequence[str], call: Callable[[str], T], *, most: int | None = None
    ) -> dict[str, T | Exception]:
        """Return what the call returned or raised, by name; without those that it was not worth trying.

        At the same time at `most` so many calls, or as many as there are threads.
        """
        if self.threads == 1 or len(names) == 1 or most == 1:
            return dict(self._in_turn(what, names, call))
        # Twice as many as there are threads: none of them waits for the next one to be submitted.
        return dict(self._in_threads(what, names, call, most or 2 * self.threads))

    def _each_part(
        self,
        what: str,
        names: Sequence[str],
        size: int,
        call: Callable[[Sequence[str]], Mapping[str, T]],
        *,
        most: int | None = None,
    ) -> dict[str, T | Exception]:
        """Return what a call for `size` names at a time answered; what it raised is the answer about all of them."""
        parts = {names[start]: names[start : start + size] for start in range(0, len(names), size)}
        answers: dict[str, T | Exception] = {}
        for first, answer in self._each(what, list(parts), lambda first: call(parts[first]), most=most).items():
            answers |= dict.fromkeys(parts[first], answer) if isinstance(answer, Exception) else answer
        return answers

    def _in_turn(
        self, what: str, names: Sequence[str], call: Callable[[str], T]
    ) -> Iterator[tuple[str, T | Exception]]:
        calls = self.calls
        for name in names:
            calls.alive()
            calls.current = what, self.storage, name
            try:
                answer: T | Exception = call(name)
            except Exception as error:  # whatever a storage raises is about this name alone
                answer = error
            finally:
                calls.current = None
            yield name, answer

    def _in_threads(
        self, what: str, names: Sequence[str], call: Callable[[str], T], most: int
    ) -> Iterator[tuple[str, T | Exception]]:
        calls = self.calls
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads, "pgcleanup-storage", initializer=block_signals)
        waiting = iter(names)
        made: deque[tuple[str, Future[T]]] = deque()
        failures, successes = 0, 0
        try:
            while True:
                if successes or failures < _NOTHING_WORKS:
                    for name in () if calls.enough() else islice(waiting, most - len(made)):
                        calls.alive()
                        made.append((name, self._pool.submit(self._timed, what, call, name)))
                if not made:
                    return
                name, future = made.popleft()
                calls.awaited = what, self.storage, name
                error = future.exception()
                failures, successes = failures + (error is not None), successes + (error is None)
                if error is not None and not isinstance(error, Exception):
                    raise error
                yield name, future.result() if error is None else error
        finally:
            # What runs cannot be taken back, and is to be over before the drain is, which may have lost its claims.
            for name, future in made:
                if not future.cancel():
                    calls.awaited = what, self.storage, name
                    wait([future])
            calls.awaited = None

    def _timed(self, what: str, call: Callable[[str], T], name: str) -> T:
        began = time.monotonic()
        try:
            return call(name)
        finally:
            self.calls.took(what, time.monotonic() - began)
            # A storage that keeps its files in a database has opened a connection for this thread.
            for connection in connections.all(initialized_only=True):
                connection.close()
