"""Roles for tests: who may write a table, and what the server says to who may not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import DatabaseError, connection, transaction

from tests.support import run_sql


def make_role(what: str) -> str:
    """Create a role for the running transaction, and return its name, quoted."""
    # Roles belong to the whole server, on which other test processes have databases, too.
    name = f'"{what} of {connection.settings_dict["NAME"]}"'
    run_sql(f"CREATE ROLE {name}")
    return name


def make_clerk() -> str:
    """Make a role that may write the documents, and make tables of its own. Returns its name, quoted."""
    name = make_role("clerk")
    run_sql(f"GRANT CREATE, USAGE ON SCHEMA public TO {name}")
    run_sql(f"GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON project_document, project_attachment TO {name}")
    run_sql(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {name}")
    return name


def make_plain_owner() -> str:
    """Hand the ledger and all record functions over to a role that is no superuser. Returns its name, quoted."""
    name = make_role("owner")
    run_sql(f"GRANT CREATE, USAGE ON SCHEMA public TO {name}")
    for kind, item in run_sql(
        "SELECT 'FUNCTION', oid::regprocedure::text FROM pg_proc WHERE proname LIKE 'pgcleanup%'"
        " UNION ALL SELECT 'TABLE', oid::regclass::text FROM pg_class"
        " WHERE relname IN ('pending_file_deletion', 'file_deletion_column')"
    ):
        run_sql(f"ALTER {kind} {item} OWNER TO {name}")
    run_sql(f"GRANT SELECT, TRIGGER ON ALL TABLES IN SCHEMA public TO {name}")
    return name


@contextmanager
def logged_in(role: str) -> Iterator[None]:
    """Have the block's SQL run as in a session of the role's."""
    # After an error the rollback ends it.
    run_sql(f"SET LOCAL SESSION AUTHORIZATION {role}")
    yield
    run_sql("SET LOCAL SESSION AUTHORIZATION DEFAULT")


def refused(statement: str) -> str:
    """Return what the server says against a statement."""
    with pytest.raises(DatabaseError) as caught, transaction.atomic():
        run_sql(statement)
    return str(caught.value)
