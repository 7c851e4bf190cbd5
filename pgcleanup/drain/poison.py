"""When a statement of a batch fails: is it the check as a whole, or one name that spoils the rest?"""

from __future__ import annotations

from contextlib import suppress

from django.db import DatabaseError, InterfaceError, OperationalError, transaction
from psycopg.errors import DeadlockDetected, SerializationFailure

from pgcleanup.drain.context import Context
from pgcleanup.drain.deliver import ReceiverError
from pgcleanup.drain.disposal import Disposal
from pgcleanup.drain.guard import ConnectionGuard
from pgcleanup.ledger import settling
from pgcleanup.ledger.fence import drain_transaction

# Not about any name: a table is locked (55P03) or slow (57014), may not be read or is under row level
# security (42501), changes at this moment (42P01, 42703), or another session got in the way (40...).
_ABOUT_THE_CHECK = ("55P03", "57014", "42501", "42P01", "42703", "42883", "40001", "40P01")


_WRITES = 3


def is_about_the_check(error: DatabaseError) -> bool:
    """Whether every other name of the storage would fail in the same way.

    So does a connection that fails although the drain's own is alive: it is one to another database.
    """
    state = getattr(error.__cause__, "sqlstate", None)
    if isinstance(error, OperationalError) and (state is None or state[:2] in ("08", "57")):
        return True
    return state in _ABOUT_THE_CHECK


def write(using: str, out: Disposal, drained_by: str, guard: ConnectionGuard) -> None:
    """Write what became of a batch's names; what the database refuses to take of one name, it takes of the others.

    Their files are gone and their receivers were told: another round would find them absent. The name that
    was refused is postponed with the error.
    """
    for attempt in range(1, _WRITES + 1):
        try:
            with transaction.atomic(using=using):
                settling.write(using, [record for _, record in out.records], drained_by)
        except DatabaseError as error:
            guard.check(ask=True)
            # Somebody else was in the way, and is not any more: else all receivers would be told once more.
            if isinstance(error.__cause__, DeadlockDetected | SerializationFailure) and attempt < _WRITES:
                continue
            if is_about_the_check(error):
                raise
            _write_one_by_one(using, out, drained_by, guard)
        return


def _write_one_by_one(using: str, out: Disposal, drained_by: str, guard: ConnectionGuard) -> None:
    for index, (claim, record) in enumerate(out.records):
        try:
            with transaction.atomic(using=using):
                settling.write(using, [record], drained_by)
        except DatabaseError as error:
            guard.check(ask=True)
            refused = Disposal()
            refused.postpone(claim, error)
            settling.write(using, [record for _, record in refused.records], drained_by)
            [out.records[index]] = refused.records


def postpone_alone(context: Context, key: str, name: str, error: Exception) -> None:
    """Postpone one name with its error, in a transaction of its own."""
    out = Disposal()
    with drain_transaction(context.using):
        for claim in context.claim(key, [name]):
            out.postpone(claim, error)
        settling.write(context.using, [record for _, record in out.records], context.drained_by)
    for result in out.results():
        context.tally.add(result)


def postpone_what_was_told(context: Context, error: Exception) -> None:
    """Let a name wait whose receivers were at work when the connection was lost: it may be because of them.

    A receiver that takes longer than a session may be idle in a transaction, or that closes the connection, would
    end each drain at the same name, and nothing behind it would have its turn.
    """
    for store in context.stores.values():
        if store.telling is not None:
            failure = ReceiverError(f"the connection was lost while its receivers were at work: {error}")
            # The database may be gone for good.
            with suppress(DatabaseError, InterfaceError):
                postpone_alone(context, store.key, store.telling, failure)
            store.telling = None
