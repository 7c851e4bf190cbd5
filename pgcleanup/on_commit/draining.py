"""Draining after a commit: whether it may be done now, and that nothing of it reaches the caller."""

from __future__ import annotations

import logging
import time
import weakref
from contextvars import ContextVar
from functools import partial
from typing import Any
from weakref import WeakSet

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from psycopg.pq import PipelineStatus, TransactionStatus

from pgcleanup.conf import settings
from pgcleanup.drain.after_commit import AfterCommit
from pgcleanup.drain.permission import note_drain, withheld
from pgcleanup.drain.surroundings import Surroundings, look_around
from pgcleanup.exceptions import DrainRefused, PgcleanupError
from pgcleanup.ledger import control

logger = logging.getLogger("pgcleanup.on_commit")

# After a refusal, so long without another look, and as long between two lines of the log that say the same.
SECONDS_OF_REST = 60.0

_draining: ContextVar[bool] = ContextVar("pgcleanup_draining", default=False)


def is_idle(connection: Any) -> bool:
    """Whether a transaction can be begun on this connection of Django's."""
    raw = connection.connection
    return (
        raw is not None
        and not raw.closed
        and not connection.in_atomic_block
        and connection.autocommit
        and raw.info.transaction_status == TransactionStatus.IDLE
        and raw.pgconn.pipeline_status == PipelineStatus.OFF
    )


def drain_after_commit(connection_of: Any, transaction_id: int) -> None:
    """Delete what this transaction let go, as far as that can be done at once. Raises nothing."""
    connection = connection_of()
    # What a receiver lets go in another database is for the next drain, or there would be no end to it.
    if connection is None or _draining.get():
        return
    token = _draining.set(True)
    try:
        if _is_wanted(connection):
            _drain(connection, transaction_id)
    except (PgcleanupError, ImproperlyConfigured) as error:
        Known.forget(connection.alias)
        _say(connection.alias, str(error))
    except Exception as error:
        Known.forget(connection.alias)
        _say(connection.alias, f"{type(error).__name__}: {error}", exc_info=True)
    finally:
        _draining.reset(token)


def _is_wanted(connection: Any) -> bool:
    # The drain works on connections[alias], which one that the project made by itself is not.
    return (
        settings.drain_on_commit
        and settings.delete_files
        and not settings.grace_period
        and connections[connection.alias] is connection
    )


def _drain(connection: Any, transaction_id: int) -> None:
    if connection.in_atomic_block and all(block._from_testcase for block in connection.atomic_blocks):
        # captureOnCommitCallbacks(execute=True): as if it had been committed.
        from pgcleanup.testing import drain_now

        drain_now(using=connection.alias)
        return
    if not is_idle(connection):
        return
    other = next((other for other in connections.all(initialized_only=True) if other.in_atomic_block), None)
    if other is not None:
        # Its rows may name the same files, and it would be asked in a transaction that may be rolled back.
        other.on_commit(partial(drain_after_commit, weakref.ref(connection), transaction_id), robust=True)
        return
    surroundings = Known.look(connection)
    if surroundings is None:
        return
    run = AfterCommit(connection.alias, transaction_id, surroundings)
    run.finish()
    tally = run.context.tally
    if trouble := [*tally.refused.values(), *tally.problems]:
        if not tally.names:
            Known.forget(connection.alias)
        _say(connection.alias, "; ".join(trouble))


class Known:
    """What this process found out once about each database, and when it was refused."""

    surroundings: dict[str, Surroundings] = {}
    sessions: WeakSet[Any] = WeakSet()
    rest_until: dict[str, float] = {}
    said: dict[tuple[str, str], float] = {}

    @classmethod
    def look(cls, connection: Any) -> Surroundings | None:
        """Return what to drain with, or None after a refusal a moment ago or while the drains are paused.

        Raises:
            DrainRefused: no drain may start.
        """
        alias, raw = connection.alias, connection.connection
        if time.monotonic() < cls.rest_until.get(alias, 0.0):
            return None
        known = cls.surroundings.get(alias)
        if known is None:
            known = cls.surroundings[alias] = look_around(alias)
            note_drain(alias)
        elif raw not in cls.sessions:
            # Another session may lead to another database.
            for reason in withheld(alias):
                raise DrainRefused(str(reason))
        elif control.paused(alias) is not None:
            return None
        cls.sessions.add(raw)
        return known

    @classmethod
    def forget(cls, alias: str) -> None:
        """Look anew, after a rest."""
        cls.surroundings.pop(alias, None)
        cls.rest_until[alias] = time.monotonic() + SECONDS_OF_REST

    @classmethod
    def clear(cls) -> None:
        """Look anew at once."""
        for known in (cls.surroundings, cls.sessions, cls.rest_until, cls.said):
            known.clear()


def _say(alias: str, sentence: str, *, exc_info: bool = False) -> None:
    """Log a sentence, once in a while: there may be many commits."""
    now = time.monotonic()
    if now - Known.said.get((alias, sentence), -SECONDS_OF_REST) >= SECONDS_OF_REST:
        Known.said[alias, sentence] = now
        logger.warning('Database "%s", after a commit: %s', alias, sentence, exc_info=exc_info)
