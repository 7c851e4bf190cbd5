"""A drain that lost its connection has lost its locks, and must touch no file any more."""

from __future__ import annotations

import select
import time
from typing import Any

from django.db import DatabaseError, connections

from pgcleanup import sql
from pgcleanup.exceptions import ConnectionLost

_SECONDS_BETWEEN_QUERIES = 0.1


class ConnectionGuard:
    """Checks that the connection is alive: a look at its socket, under a microsecond, and at times a query."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._queried = time.monotonic()
        self._socket = select.poll() if hasattr(select, "poll") else None
        if self._socket is not None:
            self._socket.register(connections[using].connection.fileno(), select.POLLIN)

    def check(self, *, ask: bool = False) -> None:
        """Return if the connection is alive. With `ask`, a look at its socket is not enough.

        Raises:
            ConnectionLost: it is not, and with it went every lock of the batch.
        """
        # Nothing is due from the server while no query runs: if there is something to read, it is news.
        quiet = self._socket is not None and not self._socket.poll(0)
        if quiet and not ask and time.monotonic() - self._queried < _SECONDS_BETWEEN_QUERIES:
            return
        try:
            sql.fetch(self._using, "SELECT 1")
        except DatabaseError as error:
            raise ConnectionLost(str(error)) from error
        self._queried = time.monotonic()


def is_lost(using: str, session: Any) -> bool:
    """Whether this session, of those that `connections[using].connection` has been, is gone. For after an error.

    Asks the server: a session that was terminated looks open and idle to psycopg until its next query. At
    the end of a transaction that lost its session, Django has even opened another one in silence.
    """
    raw = connections[using].connection
    if raw is None or raw is not session or raw.closed:
        return True
    try:
        sql.fetch(using, "SELECT 1")
    except DatabaseError:
        return True
    return False
