"""Who owns a table can have no code of its own run as the owner of the record functions, or as the drain.

The function that each trap leads to counts how often it ran as anybody else but the clerk, who made it.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.files.storage import default_storage

from pgcleanup.columns import find_file_columns
from pgcleanup.references import check
from pgcleanup.storage_keys import storage_key
from pgcleanup.triggers import inspect, sync
from tests.database.roles import logged_in, make_clerk, make_plain_owner
from tests.support import recorded, run_sql

pytestmark = pytest.mark.django_db

# A sequence, since what it counts no rollback takes back.
SPRING = (
    "CREATE FUNCTION spring({arguments}) RETURNS {result} LANGUAGE plpgsql AS $$ BEGIN"
    " IF current_user NOT LIKE 'clerk of %' THEN PERFORM nextval('public.sprung'); END IF;"
    " RETURN {value}; END $$;"
)
COMPOSITE = "CREATE TYPE trap AS (name text);"
RETYPE = "ALTER TABLE project_document ALTER file TYPE trap USING {}"


def cast(target: str, value: str) -> str:
    return (
        COMPOSITE
        + SPRING.format(arguments="trap", result=target, value=value)
        + f"CREATE CAST (trap AS {target}) WITH FUNCTION spring(trap) AS IMPLICIT;"
        + RETYPE.format("row(file)::trap")
    )


def operator(right: str) -> str:
    return (
        COMPOSITE
        + SPRING.format(arguments=f"trap, {right}", result="boolean", value="true")
        + "".join(
            f"CREATE OPERATOR {sign} (LEFTARG = trap, RIGHTARG = {right}, FUNCTION = spring);" for sign in ("=", "<>")
        )
        + RETYPE.format("row(file)::trap")
    )


# What the clerk does to its table, and the value that is in its column then.
TRAPS = {
    "a cast to text": (cast("text", "'sprung'"), "(a.txt)"),
    "a cast to json": (cast("json", "'{}'::json"), "(a.txt)"),
    "a cast to jsonb": (cast("jsonb", "'{}'::jsonb"), "(a.txt)"),
    "operators on its type": (operator("trap"), "(a.txt)"),
    "operators on its type and text": (operator("text"), "(a.txt)"),
    "the check of a domain": (
        SPRING.format(arguments="text", result="boolean", value="true")
        + "CREATE DOMAIN trap AS text CHECK (spring(VALUE));"
        + RETYPE.format("file::trap"),
        "a.txt",
    ),
    "a function that reads like a column": (
        "ALTER TABLE project_document RENAME file TO moved;"
        + SPRING.format(arguments="project_document", result="text", value="'sprung'").replace("spring", "file"),
        "a.txt",
    ),
    "functions and operators that the search_path leads to": (
        SPRING.format(arguments="character varying", result="text", value="'sprung'").replace("spring", "concat")
        + SPRING.format(arguments="character varying, text", result="boolean", value="true")
        + SPRING.format(arguments="text, character varying", result="boolean", value="true")
        + "".join(
            f"CREATE OPERATOR {sign} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = spring);"
            for sign in ("=", "<>")
            for left, right in (("varchar", "text"), ("text", "varchar"))
        ),
        "a.txt",
    ),
    "row level security": (
        SPRING.format(arguments="", result="boolean", value="true")
        + "CREATE POLICY trap ON project_document USING (spring());"
        "ALTER TABLE project_document ENABLE ROW LEVEL SECURITY",
        "a.txt",
    ),
}
WRITES = {
    "UPDATE": "UPDATE project_document SET {column} = NULL",
    "DELETE": "DELETE FROM project_document",
    "TRUNCATE": "TRUNCATE project_document",
}


@pytest.fixture
def clerk() -> str:
    """Make the clerk the owner of the documents, of which there is one, and a plain role that of the functions."""
    clerk = make_clerk()
    make_plain_owner()
    run_sql("ALTER TABLE project_attachment DROP document_id; ALTER TABLE project_document ALTER file DROP NOT NULL")
    run_sql("INSERT INTO project_document (title, file) VALUES ('', 'a.txt')")
    run_sql(f"ALTER TABLE project_document OWNER TO {clerk}")
    run_sql("CREATE SEQUENCE sprung; GRANT ALL ON SEQUENCE sprung TO PUBLIC")
    return clerk


def sprung() -> bool:
    """Whether somebody else ran the clerk's function."""
    return bool(run_sql("SELECT is_called FROM sprung")[0][0])


@pytest.mark.parametrize("state", ["before the next sync", "with another column renamed", "after the next sync"])
@pytest.mark.parametrize("operation", WRITES)
@pytest.mark.parametrize(("trap", "name"), TRAPS.values(), ids=TRAPS)
def test_nothing_of_the_tables_owner_runs_as_the_functions_owner_by(
    trap: str, name: str, operation: str, state: str, clerk: str
) -> None:
    with logged_in(clerk):
        run_sql(trap)
        if state == "with another column renamed":
            run_sql("ALTER TABLE project_document RENAME thumb TO small")
    if state == "after the next sync":
        sync("default")

    with logged_in(clerk):
        run_sql(WRITES[operation].format(column="moved" if "moved" in trap else "file"))

    assert not sprung()
    # Row level security hides rows from the functions' owner.
    unseen = "POLICY" in trap and operation == "TRUNCATE"
    assert recorded() == ([] if unseen else [("project.document.file", name, operation)])


@pytest.mark.parametrize("trap", [trap for trap, _ in TRAPS.values()], ids=TRAPS)
def test_nothing_of_the_tables_owner_runs_as_the_drain_by(trap: str, clerk: str) -> None:
    with logged_in(clerk):
        run_sql(trap)

    names = ["a.txt", "(a.txt)", "nowhere.txt"]
    answer = check("default", find_file_columns("default"), storage_key(default_storage), names, [], timedelta(0))

    assert not sprung()
    assert set(answer.references.values()) == (set() if "moved" in trap else {"project.document.file"})


def test_each_trap_is_one(clerk: str) -> None:
    """Or the tests above would show nothing."""
    with logged_in(clerk):
        run_sql(TRAPS["a cast to text"][0])

    run_sql("SELECT file::text FROM project_document")

    assert sprung()


def test_catalog_is_read_past_what_stands_before_it_on_the_search_path() -> None:
    def found() -> tuple[object, ...]:
        inspection = inspect("default")
        assert inspection is not None
        return inspection.problems(), inspection.columns_current, inspection.history, inspection.catalog

    sync("default")
    before = found()
    run_sql("CREATE SCHEMA evil")
    for name in ("class", "namespace", "trigger", "proc", "description", "inherits", "attribute"):
        run_sql(f"CREATE TABLE evil.pg_{name} (oid oid)")
    for name, result in (("to_regclass", "regclass"), ("md5", "text"), ("quote_ident", "text"), ("hashtext", "int")):
        run_sql(
            f"CREATE FUNCTION evil.{name}(text) RETURNS {result} LANGUAGE plpgsql AS $$ BEGIN RAISE 'sprung'; END $$"
        )
    run_sql("SET LOCAL search_path = evil, public, pg_catalog")
    after = found()
    report = sync("default")
    run_sql("SET LOCAL search_path = public")

    assert after == before
    assert report is not None
    assert (report.changed, report.failed) == ([], [])
