"""Quoting: PostgreSQL reads back what went in."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgcleanup import sql
from tests.support import run_sql

# PostgreSQL has no NUL in any text, and UTF-8 has no lone surrogates.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
ON_ONE_TRANSACTION = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.django_db
@given(TEXT)
@ON_ONE_TRANSACTION
def test_literal_means_its_value_whatever_is_in_it(value: str) -> None:
    assert run_sql(f"SELECT {sql.quote_literal(value)}") == [(value,)]


@pytest.mark.django_db
@pytest.mark.filterwarnings("ignore")
@given(st.sampled_from(["it's", "a\\b", "\\'", "\\\\", "'", "''", "\\n"]))
@ON_ONE_TRANSACTION
def test_literal_means_its_value_without_standard_conforming_strings_too(value: str) -> None:
    run_sql("SET LOCAL standard_conforming_strings = off; SET LOCAL escape_string_warning = off")

    assert run_sql(f"SELECT {sql.quote_literal(value)}") == [(value,)]


@pytest.mark.django_db
@given(TEXT.filter(lambda name: 0 < len(name.encode()) <= 63))
@ON_ONE_TRANSACTION
def test_identifier_names_what_it_says_whatever_is_in_it(name: str) -> None:
    row = f"(SELECT 1 AS {sql.quote_identifier(name)}) AS t"

    assert run_sql(f"SELECT k FROM {row}, LATERAL json_object_keys(row_to_json(t.*)) AS k") == [(name,)]


@pytest.mark.django_db
@given(TEXT.filter(lambda name: 0 < len(name.encode()) <= 63))
@ON_ONE_TRANSACTION
def test_unquoted_is_the_way_back(name: str) -> None:
    assert sql.unquoted(sql.quote_identifier(name)) == name


def test_qualified_name_quotes_both_parts() -> None:
    assert sql.qualified('a "schema"', "a table") == '"a ""schema"""."a table"'


@pytest.mark.parametrize(
    ("db_table", "quoted"),
    [
        ("project_document", '"project_document"'),
        ("With Capitals", '"With Capitals"'),
        ('app"."doc', '"app"."doc"'),
        ('"already quoted"', '"already quoted"'),
        ('"with ""quotes"""', '"with ""quotes"""'),
        ("100%", '"100%"'),
    ],
)
def test_name_is_quoted_as_django_quotes_it(db_table: str, quoted: str) -> None:
    assert sql.django_quoted(db_table, "default") == quoted


@pytest.mark.parametrize("db_table", ['a"b', 'a"; DROP TABLE x; --', '"a"b"', ""])
def test_name_that_is_no_valid_sql_is_told_apart(db_table: str) -> None:
    assert sql.django_quoted(db_table, "default") is None


def test_percent_signs_survive_a_statement_with_placeholders() -> None:
    assert sql.literal_percent('"100%s"') % () == '"100%s"'


@pytest.mark.parametrize(("seconds", "text"), [(2, "2000ms"), (0.02, "20ms"), (0, "1ms")])
def test_duration_is_written_as_server_parameters_take_it(seconds: float, text: str) -> None:
    assert sql.milliseconds(seconds) == text


@pytest.mark.django_db(transaction=True)
def test_short_transaction_is_read_committed_whatever_the_session_is() -> None:
    run_sql("SET default_transaction_isolation = 'repeatable read'")
    try:
        with sql.short_transaction("default", lock_timeout="7s"):
            inside = run_sql("SELECT current_setting('transaction_isolation'), current_setting('lock_timeout')")
        after = run_sql("SELECT current_setting('lock_timeout')")
    finally:
        run_sql("RESET default_transaction_isolation")

    assert inside == [("read committed", "7s")]
    assert after == [("0",)]


@given(st.lists(TEXT | st.none(), max_size=5))
@pytest.mark.django_db
@ON_ONE_TRANSACTION
def test_text_array_means_its_values_whatever_is_in_them(values: list[str | None]) -> None:
    assert sql.fetch("default", "SELECT %s::text[]", [sql.text_array(values)]) == [(values,)]
