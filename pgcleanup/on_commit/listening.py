"""Hearing from the database that names were recorded, and waiting for the commit."""

from __future__ import annotations

import logging
import weakref
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from psycopg import Error
from psycopg.pq import TransactionStatus

from pgcleanup.on_commit.draining import drain_after_commit, is_idle

logger = logging.getLogger("pgcleanup.on_commit")

SQLSTATE = "PGC01"  # as in notify.v1.sql

_ASK = "SET pgcleanup.notify = on"
_ASK_AGAIN = "SELECT set_config('pgcleanup.notify', 'on', true)"


class Listener:
    """Hears on one of Django's connections that names were recorded, and has them drained after the commit.

    An execute wrapper, for statements in autocommit: what they let go is committed when they return.
    """

    # By the session, which a pool may hand to another of Django's connections later.
    by_session: WeakKeyDictionary[Any, Listener] = WeakKeyDictionary()

    @classmethod
    def on(cls, connection: Any) -> Listener:
        """Return the connection's listener, and tie it to the session that it has now."""
        wrappers = connection.execute_wrappers
        listener = next((wrapper for wrapper in wrappers if isinstance(wrapper, cls)), None)
        if listener is None:
            listener = cls(connection)
            # First: Django's own context manager takes the last one off when it ends.
            wrappers.insert(0, listener)
        raw = connection.connection
        if raw not in cls.by_session:
            raw.add_notice_handler(partial(_hear, weakref.ref(raw)))
        cls.by_session[raw] = listener
        return listener

    def __init__(self, connection: Any) -> None:
        self._connection = weakref.ref(connection)
        self._heard: int | None = None
        self._deaf = False
        self.attention = False

    def __call__(self, execute: Any, statement: Any, parameters: Any, many: bool, context: Any) -> Any:
        result = execute(statement, parameters, many, context)
        if self.attention:
            self._attend()
        return result

    def ask(self) -> None:
        """Ask the session to tell us. Where it cannot, it is as if the setting were off."""
        connection = self._connection()
        # Without autocommit the question would open a transaction, and commit hooks are not for such a project.
        if connection is not None and (connection.autocommit or connection.in_atomic_block):
            try:
                connection.connection.execute(_ASK)
            except Error:
                logger.warning('Database "%s" cannot tell what is recorded.', connection.alias, exc_info=True)

    def hear(self, transaction_id: int) -> None:
        """Take note. Called in the midst of a statement, when no other can be sent."""
        connection = self._connection()
        if connection is None:
            return
        if connection.in_atomic_block:
            # Of a savepoint that is rolled back, Django drops the hook, and PostgreSQL the mark that it told us.
            connection.on_commit(partial(drain_after_commit, self._connection, transaction_id), robust=True)
            if connection.atomic_blocks and connection.atomic_blocks[0]._from_testcase:
                self._deaf = self.attention = True
        elif connection.autocommit:
            self._heard, self.attention = transaction_id, True

    def _attend(self) -> None:
        connection = self._connection()
        raw = getattr(connection, "connection", None)
        if raw is None or raw.closed:
            self._heard, self._deaf, self.attention = None, False, False
        elif self._heard is not None and is_idle(connection):
            heard, self._heard, self.attention = self._heard, None, False
            drain_after_commit(self._connection, heard)
        elif self._deaf and raw.info.transaction_status == TransactionStatus.INTRANS:
            # A test case is one transaction, which would be told of once. Not through Django, whose queries it counts.
            self._deaf = self.attention = False
            raw.execute(_ASK_AGAIN)


def _hear(raw_of: Any, message: Any) -> None:
    if message.sqlstate == SQLSTATE and (listener := Listener.by_session.get(raw_of())) is not None:
        listener.hear(int(message.message_detail))
