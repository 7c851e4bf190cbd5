"""`pgcleanup.middleware`: what it notes, and that it costs nothing where nothing is written."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth import authenticate, login
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import path
from psycopg import sql as psycopg_sql
from pytest_django import Settings

import pgcleanup
from pgcleanup.middleware import ContextMiddleware
from tests.project.models import Document
from tests.support import ledger, run_sql

pytestmark = pytest.mark.django_db(transaction=True)

View = Callable[[HttpRequest], Any]
_view: View


def _serve(request: HttpRequest) -> HttpResponse:
    _view(request)
    return HttpResponse("done")


async def _serve_async(request: HttpRequest) -> HttpResponse:
    await _view(request)
    return HttpResponse("done")


urlpatterns = [path("do/it/", _serve), path("do/it/async/", _serve_async)]


class OnlyTheUser(ContextMiddleware):
    """Somebody's own."""

    def context(self, request: HttpRequest) -> dict[str, Any]:
        data = dict(super().context(request))
        del data["path"]
        return data


class Failing(ContextMiddleware):
    """Somebody's own, with a bug."""

    def context(self, request: HttpRequest) -> dict[str, Any]:
        raise RuntimeError("a bug")


@pytest.fixture(autouse=True)
def site(settings: Settings) -> Iterator[None]:
    """Serve this module's views, with the middleware."""
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "pgcleanup.middleware.ContextMiddleware"]
    yield
    # It stays on the connection as long as a process lives; not into other tests.
    connection.execute_wrappers.clear()


def serve(view: View, client: Client | None = None) -> None:
    """Have the view called for a request."""
    global _view
    _view = view
    assert (client or Client()).post("/do/it/?token=secret").content == b"done"


def looked_at(request: HttpRequest) -> None:
    """Load the user, as a view with a permission does."""
    assert request.user.is_authenticated


def let_go(name: str = "a.txt") -> None:
    Document.objects.create(file=name).delete()


def contexts() -> list[Any]:
    return [json.loads(entry.context) if entry.context else None for entry in ledger()]


@pytest.fixture
def user() -> User:
    return User.objects.create_user("ann", password="ann")


@pytest.fixture
def client(user: User) -> Client:
    """Return a client that is logged in."""
    client = Client()
    client.force_login(user)
    return client


def test_entries_of_a_request_carry_user_and_path_without_the_query_string(client: Client, user: User) -> None:
    def view(request: HttpRequest) -> None:
        looked_at(request)
        let_go()

    serve(view, client)

    assert contexts() == [{"user": user.pk, "path": "/do/it/"}]


def test_user_whom_nobody_looked_at_is_not_loaded(client: Client) -> None:
    Document.objects.create(file="a.txt")

    def view(request: HttpRequest) -> None:
        Document.objects.all().delete()

    with CaptureQueriesContext(connection) as queries:
        serve(view, client)

    assert contexts() == [{"path": "/do/it/"}]
    assert not [query for query in queries.captured_queries if "auth_user" in query["sql"] or "session" in query["sql"]]


def test_user_who_logs_in_during_the_request_is_noted_from_then_on(user: User) -> None:
    def view(request: HttpRequest) -> None:
        let_go("before")
        login(request, authenticate(request, username="ann", password="ann"))
        let_go("after")

    serve(view)

    assert contexts() == [{"path": "/do/it/"}, {"user": user.pk, "path": "/do/it/"}]


def test_request_that_only_reads_gets_no_statement_and_no_transaction_more(client: Client, settings: Settings) -> None:
    def view(request: HttpRequest) -> None:
        looked_at(request)
        list(Document.objects.all())
        assert connection.connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE

    with CaptureQueriesContext(connection) as with_it:
        serve(view, client)
    settings.MIDDLEWARE = settings.MIDDLEWARE[:-1]
    with CaptureQueriesContext(connection) as without:
        serve(view, client)

    assert len(with_it) == len(without) > 2
    assert not [query for query in with_it.captured_queries if "set_config" in query["sql"]]


def test_request_that_writes_gets_no_statement_more(django_assert_num_queries: Any) -> None:
    Document.objects.create(file="a.txt")

    def view(request: HttpRequest) -> None:
        with django_assert_num_queries(1):
            Document.objects.update(file="b.txt")

    serve(view)

    assert contexts() == [{"path": "/do/it/"}]


def test_note_does_not_reach_what_comes_after_the_request() -> None:
    serve(lambda request: let_go("inside"))

    let_go("outside")

    assert contexts() == [{"path": "/do/it/"}, None]
    assert run_sql("SELECT current_setting('pgcleanup.context', true)") == [("",)]


def test_note_of_a_request_that_raised_is_forgotten() -> None:
    def view(request: HttpRequest) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        serve(view)
    let_go()

    assert contexts() == [None]


def test_request_in_one_transaction_is_noted(settings: Settings) -> None:
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    try:
        serve(lambda request: let_go())
    finally:
        connection.settings_dict["ATOMIC_REQUESTS"] = False

    assert contexts() == [{"path": "/do/it/"}]


def test_note_survives_a_savepoint_that_is_rolled_back() -> None:
    def view(request: HttpRequest) -> None:
        with transaction.atomic():
            with suppress(ZeroDivisionError), transaction.atomic():
                let_go("undone")
                raise ZeroDivisionError
            let_go("done")

    serve(view)

    assert [(entry.name, entry.context) for entry in ledger()] == [("done", '{"path": "/do/it/"}')]


@pytest.mark.parametrize(
    "write",
    [
        lambda: Document.objects.update(file="b.txt"),
        lambda: Document.objects.all().delete(),
        lambda: Document.objects.bulk_update([Document(pk=Document.objects.get(file="a.txt").pk, file="b")], ["file"]),
        lambda: run_sql("TRUNCATE project_document CASCADE"),
        lambda: run_sql("  /* a ; comment */ -- another\n delete from project_document WHERE file LIKE 'a%'"),
        lambda: run_sql("DELETE FROM project_document WHERE file LIKE %s", ["a%"]),
        lambda: run_sql("DELETE FROM project_document WHERE file LIKE %(name)s", {"name": "a%"}),
        lambda: run_sql(psycopg_sql.SQL("DELETE FROM {}").format(psycopg_sql.Identifier("project_document"))),  # type: ignore[arg-type]
        lambda: run_sql("WITH gone AS (DELETE FROM project_document RETURNING 1) SELECT * FROM gone"),
        lambda: run_sql("SELECT 'a'; /* of several */ DELETE FROM project_document"),
        lambda: run_sql("EXPLAIN (ANALYZE, COSTS off) DELETE FROM project_document"),
        lambda: connection.cursor().executemany("DELETE FROM project_document WHERE file = %s", [["a.txt"], ["b"]]),
    ],
    ids=[
        "update",
        "delete",
        "bulk_update",
        "truncate",
        "comment",
        "sequence",
        "mapping",
        "composed",
        "with",
        "several",
        "explain",
        "executemany",
    ],
)
def test_every_kind_of_write_is_noted_in_autocommit_and_in_a_transaction(write: Callable[[], Any]) -> None:
    def view(request: HttpRequest) -> None:
        write()
        with transaction.atomic():
            Document.objects.create(file="a.txt")
            write()

    Document.objects.create(file="a.txt")
    serve(view)

    found = contexts()
    assert len(found) >= 2
    assert [context for context in found if context != {"path": "/do/it/"}] == []


def test_result_of_a_statement_is_its_own() -> None:
    found = []

    def view(request: HttpRequest) -> None:
        found.append(run_sql("INSERT INTO project_document (title, file) VALUES ('', 'x') RETURNING file"))
        with connection.cursor() as cursor:
            cursor.execute("UPDATE project_document SET title = 'y'")
            found.append(cursor.rowcount)
        found.append(Document.objects.filter(title="y").update(title="z"))
        found.append(Document.objects.create(file="new").pk is not None)

    serve(view)

    assert found == [[("x",)], 1, 1, True]


@pytest.mark.parametrize("lead", [" ", "/* a */ ", "-- a\n", "\n/***/\t"])
def test_query_behind_many_blanks_and_comments_is_looked_at_once(lead: str) -> None:
    serve(lambda request: run_sql(f"{lead * 1000}SELECT 1"))


def test_explanation_of_a_query_is_its_own() -> None:
    found: list[str] = []

    serve(lambda request: found.append(Document.objects.all().explain()))

    assert "project_document" in found[0]


def test_answer_that_is_streamed_is_noted_while_it_is_sent_and_not_between() -> None:
    def stream() -> Iterator[bytes]:
        let_go("first")
        yield b"1"
        let_go("second")
        yield b"2"

    def view(request: HttpRequest) -> StreamingHttpResponse:
        return StreamingHttpResponse(stream())

    response = ContextMiddleware(view)(RequestFactory().get("/stream/"))
    assert isinstance(response, StreamingHttpResponse)
    sent = iter(response)
    next(sent)
    let_go("between")
    rest = list(sent)

    assert rest == [b"2"]
    assert contexts() == [{"path": "/stream/"}, None, {"path": "/stream/"}]


def test_answer_that_is_streamed_in_async_is_noted() -> None:
    async def stream() -> AsyncIterator[bytes]:
        await sync_to_async(let_go)()
        yield b"1"

    async def view(request: HttpRequest) -> StreamingHttpResponse:
        return StreamingHttpResponse(stream())

    async def read() -> list[bytes]:
        response = await ContextMiddleware(view)(RequestFactory().get("/stream/"))  # type: ignore[misc]
        return [chunk async for chunk in response]

    assert async_to_sync(read)() == [b"1"]
    assert contexts() == [{"path": "/stream/"}]


def test_file_that_is_sent_stays_one_for_the_server_to_send(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    file = (tmp_path / "a.txt").open("rb")

    response = ContextMiddleware(lambda request: FileResponse(file))(RequestFactory().get("/"))

    assert response.file_to_stream is file  # type: ignore[union-attr]
    response.close()  # type: ignore[union-attr]


def test_statements_that_may_commit_run_as_without_it() -> None:
    def view(request: HttpRequest) -> None:
        run_sql("DO $$ BEGIN DELETE FROM project_document; COMMIT; END $$")
        run_sql("VACUUM project_document")

    Document.objects.create(file="a.txt")
    serve(view)

    assert contexts() == [None]


@pytest.mark.parametrize(
    "statement",
    [
        "/*;delete */ VACUUM project_document",
        "-- one; \n vacuum /*; delete from x */ project_document",
        "CREATE INDEX CONCURRENTLY passing ON project_document (title) WHERE title <> '; delete x'",
    ],
)
def test_statement_that_runs_outside_a_transaction_only_runs_whatever_its_text_looks_like(statement: str) -> None:
    try:
        serve(lambda request: run_sql(statement))
    finally:
        run_sql("DROP INDEX IF EXISTS passing")


def test_parameters_bound_by_the_server_are_noted_in_autocommit_and_in_a_transaction() -> None:
    def view(request: HttpRequest) -> None:
        let_go("autocommit")
        Document.objects.update(file="b")
        with transaction.atomic():
            let_go("transaction")

    options = connection.settings_dict["OPTIONS"]
    connection.settings_dict["OPTIONS"] = {**options, "server_side_binding": True}
    connection.close()
    vars(connection.features).pop("uses_server_side_binding", None)
    try:
        Document.objects.create(file="a")
        serve(view)
    finally:
        connection.settings_dict["OPTIONS"] = options
        connection.close()
        vars(connection.features).pop("uses_server_side_binding", None)

    assert contexts() == [{"path": "/do/it/"}] * 3


def test_rows_read_through_a_server_side_cursor_are_read_as_ever() -> None:
    names: list[str] = []

    def view(request: HttpRequest) -> None:
        names.extend(one.file.name for one in Document.objects.iterator(chunk_size=1))
        with transaction.atomic(), connection.chunked_cursor() as cursor:
            cursor.execute("WITH d AS (SELECT file FROM project_document) SELECT file FROM d")
            names.extend(name for (name,) in cursor)

    Document.objects.create(file="a.txt")
    serve(view)

    assert names == ["a.txt", "a.txt"]


def test_values_with_quotes_percent_signs_and_backslashes_are_noted_as_they_are(settings: Settings) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE[:-1], f"{__name__}.Odd"]
    Document.objects.create(file="a")

    serve(lambda request: Document.objects.filter(file="a").update(file="b"))

    assert contexts() == [{"odd": 'it\'s 100% %s \\ "ü" \0'}]


class Odd(ContextMiddleware):
    """Notes what must be quoted."""

    def context(self, request: HttpRequest) -> dict[str, Any]:
        return {"odd": 'it\'s 100% %s \\ "ü" \0'}


def test_middleware_of_ones_own_leaves_out_what_it_likes(settings: Settings, client: Client, user: User) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE[:-1], f"{__name__}.OnlyTheUser"]

    def view(request: HttpRequest) -> None:
        looked_at(request)
        let_go()

    serve(view, client)

    assert contexts() == [{"user": user.pk}]


def test_middleware_that_raises_leaves_the_write_alone(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE[:-1], f"{__name__}.Failing"]

    serve(lambda request: let_go())

    assert contexts() == [None]
    assert "No context is noted for /do/it/" in caplog.text


def test_context_block_in_a_request_adds_to_its_note_and_ends_with_it() -> None:
    def view(request: HttpRequest) -> None:
        with pgcleanup.context(job="resize"):
            let_go("inside")
        let_go("after")

    serve(view)

    assert contexts() == [{"path": "/do/it/", "job": "resize"}, {"path": "/do/it/"}]


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_context_block_on_another_database_leaves_the_note_of_this_one() -> None:
    def view(request: HttpRequest) -> None:
        with pgcleanup.context(using="other", job="resize"):
            let_go()

    serve(view)

    assert contexts() == [{"path": "/do/it/"}]


def test_async_view_is_noted(user: User) -> None:
    async def view(request: HttpRequest) -> None:
        await request.auser()
        document = await Document.objects.acreate(file="a.txt")
        await document.adelete()

    async def request() -> bytes:
        client = AsyncClient()
        await client.aforce_login(user)
        return (await client.post("/do/it/async/")).content

    global _view
    _view = view
    assert async_to_sync(request)() == b"done"

    assert contexts() == [{"user": user.pk, "path": "/do/it/async/"}]


def test_connection_that_is_older_than_a_middleware_of_another_thread_is_noted() -> None:
    connection.ensure_connection()
    made: list[ContextMiddleware] = []

    thread = threading.Thread(target=lambda: made.append(ContextMiddleware(lambda request: HttpResponse(let_go()))))
    thread.start()
    thread.join()
    made[0](RequestFactory().get("/do/it/"))

    assert contexts() == [{"path": "/do/it/"}]


def test_async_requests_at_the_same_time_are_noted_each_by_itself() -> None:
    import asyncio

    barrier = asyncio.Barrier(2) if hasattr(asyncio, "Barrier") else None

    async def view(request: HttpRequest) -> None:
        if barrier is not None:
            await barrier.wait()
        await sync_to_async(let_go)(request.GET["name"])

    class Own(ContextMiddleware):
        def context(self, request: HttpRequest) -> dict[str, Any]:
            return {"name": request.GET["name"]}

    async def both() -> None:
        from django.test import AsyncRequestFactory

        served = Own(_serve_async)
        factory = AsyncRequestFactory()
        await asyncio.gather(*(served(factory.get("/", {"name": name})) for name in ("a", "b")))  # type: ignore[arg-type]

    global _view
    _view = view
    async_to_sync(both)()

    assert sorted((entry.name, entry.context) for entry in ledger()) == [("a", '{"name": "a"}'), ("b", '{"name": "b"}')]


def test_connection_that_is_opened_again_is_noted_once_for_each_statement() -> None:
    def view(request: HttpRequest) -> None:
        connection.close()
        let_go()

    serve(view)
    serve(view)

    assert contexts() == [{"path": "/do/it/"}] * 2
    assert len(connection.execute_wrappers) == 1
