"""Who and what made a file go: a note of the request in front of each statement that writes. Optional."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakSet

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.db import connections, transaction
from django.db.backends.signals import connection_created
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.utils.functional import LazyObject, empty
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.sql import Composable

from pgcleanup import cleanup
from pgcleanup.sql import literal_percent, quote_literal

logger = logging.getLogger("pgcleanup.middleware")

# What may let a name go, behind any comments, first or after another statement (or in a text that looks like it: a note
# too many does no harm). A SELECT may call a function that writes; a note in front of each SELECT would be too much.
#
# One way to match each blank and each comment: with two, a query behind 30 blanks is matched in 2**30 ways.
_LEAD = r"(?:\s|/\*(?:[^*]|\*(?!/))*\*/|--[^\n]*\n)*"
_WRITES = re.compile(
    rf"(?:\A|;){_LEAD}(INSERT|UPDATE|DELETE|MERGE|TRUNCATE|WITH|EXECUTE|EXPLAIN|CALL|DO)\b",
    re.IGNORECASE,
)
# Outside a transaction they may commit in the midst of themselves, which a second statement beside them would forbid.
_MAY_COMMIT = {"CALL", "DO"}
# Some of these run outside a transaction only, VACUUM and CREATE INDEX CONCURRENTLY among them. They write no rows, but
# "; delete" may stand in a comment or a literal.
_RUNS_ALONE = re.compile(
    rf"{_LEAD}(VACUUM|CREATE|DROP|ALTER|REINDEX|REPACK|CLUSTER|DISCARD|COMMIT|ROLLBACK)\b", re.IGNORECASE
)

_NOTE = "SELECT set_config('pgcleanup.context', {value}, true)"

Execute = Callable[[Any, Any, bool, dict[str, Any]], Any]


class ContextMiddleware:
    """Notes user id and path of the request on every entry that its writes make.

    Needs no query and opens no transaction: the note travels in front of the statements that write, for their
    transaction alone. Anywhere in MIDDLEWARE; nothing of it may be known before a statement, so the place does not
    matter. In sync and async, with and without ATOMIC_REQUESTS.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)
        Opened.watch()

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self._call_async(request)
        with self._noted(request):
            response: HttpResponseBase = self.get_response(request)
        return self._streamed(request, response)

    def context(self, request: HttpRequest) -> Mapping[str, Any]:
        """Return what to note, as JSON can hold it; an empty one for nothing. Override it to note more, or less.

        Called in front of each statement that writes, so it must not query. A user whom nobody has looked at yet is
        not loaded for it.
        """
        user = _loaded_user(request)
        return {"path": request.path} if user is None else {"user": user, "path": request.path}

    async def _call_async(self, request: HttpRequest) -> HttpResponseBase:
        with self._noted(request):
            response: HttpResponseBase = await self.get_response(request)
        return self._streamed(request, response)

    def _streamed(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Note what a streamed answer writes, too, which is made after this middleware was left."""
        # A file writes nothing, and the server may send it by itself.
        if isinstance(response, StreamingHttpResponse) and getattr(response, "file_to_stream", None) is None:
            chunks: Any = response.streaming_content
            response.streaming_content = (
                self._chunks_async(request, aiter(chunks)) if response.is_async else self._chunks(request, iter(chunks))
            )
        return response

    def _chunks(self, request: HttpRequest, chunks: Iterator[bytes]) -> Iterator[bytes]:
        # Between two of them the thread belongs to others.
        while True:
            with self._noted(request):
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk

    async def _chunks_async(self, request: HttpRequest, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        while True:
            with self._noted(request):
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            yield chunk

    @contextmanager
    def _noted(self, request: HttpRequest) -> Iterator[None]:
        token = cleanup.of_request.set(partial(self._context, request))
        try:
            yield
        finally:
            cleanup.of_request.reset(token)

    def _context(self, request: HttpRequest) -> Mapping[str, Any]:
        """Return the note; none rather than an exception in the midst of somebody's write."""
        try:
            data = self.context(request)
            cleanup.as_text(data)
        except Exception:
            logger.exception("No context is noted for %s", request.path)
            return {}
        return data


def _loaded_user(request: HttpRequest) -> Any:
    """Return the user's primary key, as far as the request's own code has looked at the user."""
    # `await request.auser()` leaves its user apart from `request.user`.
    for name in ("user", "_acached_user"):
        user = vars(request).get(name)
        if not (isinstance(user, LazyObject) and user._wrapped is empty) and getattr(user, "pk", None) is not None:
            return user.pk  # type: ignore[union-attr]
    return None


class Opened:
    """The connections of all threads. Of another thread's, Django knows nothing.

    In async a middleware is made in one thread and statements are sent in another, whose connection may be older.
    """

    _connections: WeakSet[Any] = WeakSet()
    _watched = False
    _lock = threading.Lock()

    @classmethod
    def remember(cls, connection: Any, **kwargs: Any) -> None:
        """Take in a connection that has been opened."""
        with cls._lock:
            cls._connections.add(connection)
            if cls._watched:
                _watch(connection)

    @classmethod
    def watch(cls) -> None:
        """Watch them all, and all that come."""
        with cls._lock:
            cls._watched = True
            for connection in cls._connections:
                _watch(connection)


def connect() -> None:
    """Begin to remember the connections that are opened. When the app is ready; without a middleware that is all."""
    connection_created.connect(Opened.remember, dispatch_uid="pgcleanup.middleware")
    for connection in connections.all(initialized_only=True):
        Opened.remember(connection)


def _watch(connection: Any) -> None:
    """Have the statements of a connection looked at. In front of other wrappers, which come and go at the end."""
    if connection.vendor == "postgresql" and _note_request not in connection.execute_wrappers:
        connection.execute_wrappers.insert(0, _note_request)


def _note_request(execute: Execute, statement: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """Execute a statement, with the request's note where it may write."""
    connection, cursor = context["connection"], context["cursor"]
    if cleanup.of_request.get() is None or connection.alias in cleanup.in_block.get():
        return execute(statement, params, many, context)
    text = statement.as_string(connection.connection) if isinstance(statement, Composable) else statement
    writes = _WRITES.search(text) if isinstance(text, str) else None
    if writes is None or getattr(cursor.cursor, "name", None):
        return execute(statement, params, many, context)
    note = cleanup.noted_of_request()
    if not note:
        return execute(statement, params, many, context)
    value = quote_literal(cleanup.as_text(note))
    in_transaction = connection.in_atomic_block or not connection.get_autocommit()
    if not in_transaction and (writes[1].upper() in _MAY_COMMIT or _RUNS_ALONE.match(text)):
        return execute(statement, params, many, context)
    if _takes_two_statements(connection, params, many):
        written = _NOTE.format(value=value)
        if params is not None:
            written = literal_percent(written)
        result = execute(f"{written}; {text}", params, many, context)
        # To the statement's own result. Where another wrapper has gone there already, nothing comes after it.
        cursor.nextset()
        return result
    return _apart(_NOTE.format(value=value), lambda: execute(statement, params, many, context), connection)


def _takes_two_statements(connection: Any, params: Any, many: bool) -> bool:
    """Whether a message may hold two statements: not with parameters bound by the server."""
    if many or connection.connection.pgconn.pipeline_status != PipelineStatus.OFF:
        return False
    return params is None or not connection.features.uses_server_side_binding


def _apart(note: str, execute: Callable[[], Any], connection: Any) -> Any:
    """Write the note by itself, in the statement's transaction."""
    if connection.needs_rollback or connection.connection.info.transaction_status == TransactionStatus.INERROR:
        return execute()
    if connection.in_atomic_block or not connection.get_autocommit():
        connection.connection.execute(note)
        return execute()
    with transaction.atomic(using=connection.alias):
        connection.connection.execute(note)
        return execute()


__all__ = ["ContextMiddleware"]
