"""Writers: threads that change rows with file names in every way, in SQL and by the ORM, and never stop early."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg
from django.db import DatabaseError, connections, transaction
from django.db.models import Model

from tests.project.models import Attachment, Document, Invoice

# Table and column of every place for a name that the writers use.
PLACES = [
    ("project_document", "file"),
    ("project_document", "thumb"),
    ("project_attachment", "file"),
    ("project_invoice", "scan"),
]
NAMES = " UNION ALL ".join(
    f"SELECT {column} FROM {table} WHERE coalesce({column}, '') <> ''" for table, column in PLACES
)
_INSERTS = {
    "project_document": "INSERT INTO project_document (title, file) VALUES ('', %s)",
    "project_attachment": "INSERT INTO project_attachment (file) VALUES (%s)",
    "project_invoice": "INSERT INTO project_invoice (scan) VALUES (%s)",
}
_ISOLATION = ["READ COMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]


class Writer(threading.Thread):
    """Works off one random operation after the other, each in a transaction, until `stop` is set."""

    def __init__(self, media: Path, seed: int, stop: threading.Event) -> None:
        super().__init__(daemon=True, name=f"{type(self).__name__} {seed}")
        self.media = media
        self.chance = random.Random(seed)  # noqa: S311 -- no secret
        self.stop = stop
        self.done: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        """By SQLSTATE."""
        self.never_committed: set[str] = set()
        """Uploads whose transaction was rolled back: no row ever named them, so they stay."""
        self.in_doubt: set[str] = set()
        """Uploads of a transaction whose commit was not answered."""
        self.uploads: list[str] = []
        """Of the transaction under way."""
        self.committed: set[str] = set()
        """Uploads whose transaction was answered with success."""
        self.pool: Sequence[str] = ()
        """Names to be used again and again, whenever one is free; without them each upload has one of its own."""
        self.crash: BaseException | None = None

    def run(self) -> None:
        """Write until told to stop; an error that is no database's ends the test."""
        try:
            while not self.stop.is_set():
                self.write()
                # So that rows neither run out nor pile up, and two cores have time for the drains.
                time.sleep(self.chance.uniform(0, 0.01))
        except BaseException as error:
            self.crash = error
        finally:
            self.close()

    def write(self) -> None:
        """Do one thing."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the connection."""

    def upload(self) -> str:
        """Store a file, as a view does before its row is committed."""
        own = f"{self.chance.randrange(16):x}/{uuid.uuid4().hex}.txt"
        for name in (*self.chance.sample(self.pool, min(3, len(self.pool))), own):
            path = self.media / name
            path.parent.mkdir(exist_ok=True)
            try:
                with path.open("xb") as file:
                    file.write(b"content")
            except FileExistsError:
                continue
            break
        self.done["used again"] += name in self.pool
        self.uploads.append(name)
        return name

    def take_back(self) -> None:
        """Note that no row ever names what the transaction uploaded: it was rolled back. Free the names of the pool."""
        for name in self.uploads:
            if name in self.pool:
                (self.media / name).unlink()
            else:
                self.never_committed.add(name)

    def dawdle(self) -> None:
        """Stay in the transaction for a while, now and then."""
        if self.chance.random() < 0.3:
            time.sleep(self.chance.uniform(0, 0.05))


class SqlWriter(Writer):
    """Another program, or raw SQL."""

    def __init__(
        self, media: Path, seed: int, stop: threading.Event, url: str, *, reconnect: bool = False, **options: Any
    ) -> None:
        super().__init__(media, seed, stop)
        self.url = url
        self.reconnect = reconnect
        self.options = options
        self.pool = options.get("pool", ())
        self.connection: psycopg.Connection | None = None
        self.operations: list[Callable[[], None]] = [
            *[self.create] * 6,
            *[self.delete] * 3,
            *[self.move] * 3,
            *[self.copy] * 2,
            *[self.swap] * 2,
            *[self.set_back] * 2,
            *[self.replace] * 2,
            *[self.undo_to_savepoint] * 2,
            self.bulk_update,
            self.truncate,
        ]

    def write(self) -> None:
        """Do one thing in one transaction, and commit it or roll it back."""
        operation = self.chance.choice(self.operations)
        isolation = self.chance.choice(self.options.get("isolation", _ISOLATION))
        if operation == self.truncate:
            # In a snapshot from before it would miss the rows that came since.
            isolation = "READ COMMITTED"
        self.uploads = []
        committing = False
        try:
            self.sql(f"BEGIN ISOLATION LEVEL {isolation}")
            operation()
            if self.chance.random() < 0.15:
                self.sql("ROLLBACK")
                self.take_back()
                self.done["rollback"] += 1
                return
            committing = True
            self.commit()
            self.committed.update(self.uploads)
            self.done[operation.__name__] += 1
        except psycopg.Error as error:
            self.errors[error.sqlstate or "connection lost"] += 1
            # 57P: the server is shutting down, has crashed, or is not up yet.
            ended = (error.sqlstate or "").startswith("57P")
            lost = ended or self.connection is None or self.connection.broken or self.connection.closed
            if lost and committing:
                self.in_doubt.update(self.uploads)
            if not lost:
                self.sql("ROLLBACK")
            elif not self.reconnect:
                raise
            else:
                self.close()
                time.sleep(0.1)
            if not (lost and committing):
                self.take_back()

    def commit(self) -> None:
        """End the transaction, now and then in two phases."""
        if self.options.get("two_phase") and self.chance.random() < 0.05:
            gid = uuid.uuid4().hex
            self.sql(f"PREPARE TRANSACTION '{gid}'")
            self.dawdle()
            self.sql(f"COMMIT PREPARED '{gid}'")
            self.done["two phases"] += 1
        else:
            self.sql("COMMIT")

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Execute one statement."""
        if self.connection is None:
            parameters = self.options.get("parameters", "")
            self.connection = psycopg.connect(
                self.url,
                autocommit=True,
                prepare_threshold=None,
                options=f"-c lock_timeout=2s {parameters}" if self.options.get("startup", True) else None,
            )
        cursor = self.connection.execute(statement, values or None)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def some_rows(self, table: str, column: str, number: int) -> list[tuple[int, str]]:
        """Read some rows: key and name."""
        return self.sql(  # type: ignore[return-value]
            f"SELECT id, {column} FROM {table} WHERE coalesce({column}, '') <> '' ORDER BY random() LIMIT {number}"
        )

    def put(self, table: str, column: str, key: int, name: str) -> None:
        """Write a name into a row, if the row is still there."""
        self.put_where(table, column, name, "id = %s", key)

    def put_where(self, table: str, column: str, name: str, condition: str, value: int) -> None:
        assert self.connection is not None
        statement = f"UPDATE {table} SET {column} = %s WHERE {condition}"
        if self.connection.execute(statement, [name, value]).rowcount == 0:  # type: ignore[arg-type]
            # Nobody ever named it.
            self.never_committed.update({name} & set(self.uploads))

    def place(self) -> tuple[str, str]:
        return self.chance.choice(PLACES)

    def insert(self, name: str) -> None:
        self.sql(self.chance.choice(list(_INSERTS.values())), name)

    def create(self) -> None:
        for _ in range(self.chance.choice([1, 1, 5])):
            self.insert(self.upload())
        self.dawdle()

    def delete(self) -> None:
        table, column = self.place()
        for key, _ in self.some_rows(table, column, self.chance.choice([1, 10])):
            self.sql(f"DELETE FROM {table} WHERE id = %s", key)
        self.dawdle()

    def move(self) -> None:
        """Take the name with us, over the deletion of its row."""
        table, column = self.place()
        rows = self.some_rows(table, column, 1)
        self.dawdle()
        for key, name in rows:
            self.sql(f"DELETE FROM {table} WHERE id = %s", key)
            self.dawdle()
            self.insert(name)

    def copy(self) -> None:
        rows = self.some_rows(*self.place(), 2)
        self.dawdle()
        for _, name in rows:
            self.insert(name)

    def swap(self) -> None:
        table, column = self.place()
        rows = self.some_rows(table, column, 2)
        self.dawdle()
        if len(rows) == 2:
            (one, first), (two, second) = rows
            self.put(table, column, one, second)
            self.put(table, column, two, first)

    def set_back(self) -> None:
        table, column = self.place()
        for key, name in self.some_rows(table, column, 1):
            self.put(table, column, key, self.upload())
            self.dawdle()
            self.put(table, column, key, name)

    def replace(self) -> None:
        table, column = self.place()
        for key, _ in self.some_rows(table, column, 3):
            self.put(table, column, key, self.upload())

    def undo_to_savepoint(self) -> None:
        """A name that was let go and taken back by a savepoint, and is then written elsewhere."""
        table, column = self.place()
        for key, name in self.some_rows(table, column, 1):
            self.sql("SAVEPOINT here")
            self.sql(f"DELETE FROM {table} WHERE id = %s", key)
            self.dawdle()
            self.sql("ROLLBACK TO here")
            self.sql(f"DELETE FROM {table} WHERE id = %s", key)
            self.insert(name)

    def bulk_update(self) -> None:
        """Many rows get one name, or none."""
        table, column = self.chance.choice(PLACES[:3])
        name = self.upload() if self.chance.random() < 0.5 else ""
        self.put_where(table, column, name, "id %% 7 = %s", self.chance.randrange(7))

    def truncate(self) -> None:
        self.sql("TRUNCATE project_invoice")


class OrmWriter(Writer):
    """An application's own code."""

    def __init__(self, media: Path, seed: int, stop: threading.Event, alias: str) -> None:
        super().__init__(media, seed, stop)
        self.alias = alias
        self.operations: list[Callable[[], None]] = [
            *[self.create] * 3,
            self.bulk_create,
            self.delete,
            self.delete_many,
            self.update,
            self.bulk_update,
            self.save_other_file,
            self.copy,
        ]

    def write(self) -> None:
        operation = self.chance.choice(self.operations)
        self.uploads = []
        try:
            with transaction.atomic(using=self.alias):
                operation()
                if self.chance.random() < 0.15:
                    transaction.set_rollback(True, using=self.alias)
                    self.never_committed.update(self.uploads)
                    self.done["ORM rollback"] += 1
                    return
            self.done[f"ORM {operation.__name__}"] += 1
        except DatabaseError as error:
            self.errors[getattr(error.__cause__, "sqlstate", None) or "connection lost"] += 1
            self.never_committed.update(self.uploads)

    def close(self) -> None:
        connections[self.alias].close()

    def some(self, model: type[Model], number: int) -> list[Any]:
        # Locked: an UPDATE that finds no row any more would leave an upload that nobody ever named.
        return list(model._default_manager.using(self.alias).select_for_update().order_by("?")[:number])

    def create(self) -> None:
        Document.objects.using(self.alias).create(file=self.upload(), thumb=self.upload())

    def bulk_create(self) -> None:
        Invoice.objects.using(self.alias).bulk_create([Invoice(scan=self.upload()) for _ in range(5)])

    def delete(self) -> None:
        for document in self.some(Document, 1):
            document.delete()

    def delete_many(self) -> None:
        keys = [one.pk for one in self.some(Attachment, 5)]
        Attachment.objects.using(self.alias).filter(pk__in=keys).delete()

    def update(self) -> None:
        if keys := [one.pk for one in self.some(Document, 3)]:
            Document.objects.using(self.alias).filter(pk__in=keys).update(file=self.upload())

    def bulk_update(self) -> None:
        documents = self.some(Document, 4)
        for document in documents:
            document.file = self.upload()
        Document.objects.using(self.alias).bulk_update(documents, ["file"])

    def save_other_file(self) -> None:
        for document in self.some(Document, 1):
            document.thumb = self.upload()
            document.save(update_fields=["thumb"])

    def copy(self) -> None:
        for document in self.some(Document, 1):
            self.dawdle()
            if document.file:
                Attachment.objects.using(self.alias).create(document=document, file=document.file.name)
