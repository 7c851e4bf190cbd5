"""Run the commands of a project of django-tenants one after the other, and print what came of them as JSON."""

from __future__ import annotations

import io
import json
import os
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import django
from django.core.management import execute_from_command_line
from django.db import connection

TENANTS = ("acme", "bolt")
LEDGERS = """
SELECT schemaname, count(*) FROM pg_tables
 WHERE tablename IN ('pending_file_deletion', 'settled_file_deletion', 'file_deletion_stamp', 'file_deletion_column')
 GROUP BY 1 ORDER BY 1
"""
TRIGGERS = """
SELECT c.relnamespace::regnamespace::text, c.relname, count(*), bool_and(p.pronamespace = c.relnamespace)
  FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_proc p ON p.oid = g.tgfoid
 WHERE g.tgname IN ('pgcleanup_row', 'pgcleanup_del', 'pgcleanup_trunc')
 GROUP BY 1, 2 ORDER BY 1
"""


def command(*arguments: str) -> tuple[int, str]:
    """Run a command as from a shell; return its exit code and all that it printed."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        try:
            execute_from_command_line(["manage.py", *arguments])
        except SystemExit as ended:
            return int(ended.code or 0), said.getvalue()
    return 0, said.getvalue()


def sql(statement: str, schema: str = "public") -> list[Any]:
    """Run SQL in a schema."""
    connection.set_schema(schema)
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def put(schema: str, name: str) -> Path:
    """Store a file in a tenant's folder, written a while ago."""
    path = Path(os.environ["PGCLEANUP_TEST_MEDIA"], schema, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("content")
    os.utime(path, (0, 0))
    return path


def let_go(schema: str, name: str) -> None:
    """Commit a row that names a file, and its deletion."""
    sql(f"INSERT INTO thirdparty_brochure (file) VALUES ('{name}')", schema)
    sql(f"DELETE FROM thirdparty_brochure WHERE file = '{name}'", schema)


def main() -> dict[str, Any]:
    """Return what each step saw."""
    from tests.tenants.models import Client

    seen: dict[str, Any] = {"migrate": command("migrate_schemas", "--shared", "-v", "0")}
    assert seen["migrate"][0] == 0, seen["migrate"][1]
    for schema in ("public", *TENANTS):
        connection.set_schema_to_public()
        Client.objects.create(schema_name=schema, logo=f"{schema}.png")
    seen["ledgers"], seen["triggers"] = sql(LEDGERS), sql(TRIGGERS)
    known = "SELECT storage_key FROM file_deletion_column WHERE source = 'thirdparty.brochure.file'"
    seen["keys"] = [sql(known, schema) for schema in TENANTS]
    seen["again"] = command("migrate_schemas", "-v", "0")

    files = [put(schema, "a.pdf") for schema in TENANTS]
    sql("INSERT INTO thirdparty_brochure (file) VALUES ('a.pdf')", "bolt")
    let_go("acme", "a.pdf")
    seen["one"] = command("tenant_command", "drain_deletions", "--schema", "acme")
    seen["one_files"] = [path.exists() for path in files]

    files = [*(put(schema, "b.pdf") for schema in TENANTS), put("shared", "acme.png")]
    for schema in TENANTS:
        let_go(schema, "b.pdf")
    sql("UPDATE tenants_client SET logo = '' WHERE logo = 'acme.png'")
    seen["all"] = command("all_tenants_command", "drain_deletions", "-v", "0")
    seen["all_files"] = [path.exists() for path in files]
    seen["check"] = command("tenant_command", "pgcleanup", "sync", "--check", "--schema", "bolt")
    return seen


if __name__ == "__main__":
    django.setup()
    print("RESULTS", json.dumps(main()))
