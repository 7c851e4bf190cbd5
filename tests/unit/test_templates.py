"""Templates: every placeholder says how it is quoted, and what comes out is what PostgreSQL should get."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pgcleanup import templates
from pgcleanup.exceptions import TemplateError
from pgcleanup.triggers import render
from pgcleanup.triggers.render import Attribute, Form, Kind, Table

SQL_TEMPLATES = sorted(path.name for path in Path(str(templates.root())).glob("*.sql"))


@pytest.fixture
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that writes the one template `t.sql`."""
    monkeypatch.setattr(templates, "root", lambda: tmp_path)

    def forget() -> None:
        for function in (templates.text, templates.digest, templates._parsed):
            function.cache_clear()

    forget()
    yield (tmp_path / "t.sql").write_text
    forget()


def table(*columns: str, name: str = "doc", key: tuple[str, ...] = ("id",), form: Form = Form.PLAIN) -> Table:
    return Table(
        oid=1,
        schema="public",
        name=name,
        form=form,
        file_columns=tuple(Attribute(c, i + 2, 25, f"app.doc.{c}") for i, c in enumerate(columns)),
        primary_key=tuple(Attribute(k, i + 20, 20) for i, k in enumerate(key)),
    )


def test_placeholders_are_quoted_by_their_kind(template) -> None:
    template("{a:i} {b:l} {c:q} {{}}")

    assert templates.render("t.sql", a='x"y', b="it's", c="1 + 1") == "\"x\"\"y\" 'it''s' 1 + 1 {}"


def test_placeholder_without_a_kind_is_an_error(template) -> None:
    template("{a}")

    with pytest.raises(TemplateError, match="not of the kind i, l or q"):
        templates.render("t.sql", a="x")


def test_placeholder_that_nothing_was_given_for_is_an_error(template) -> None:
    template("{a:i}")

    with pytest.raises(TemplateError, match="'a'"):
        templates.render("t.sql")


def test_template_that_is_missing_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(TemplateError, match="reinstall django-pgcleanup"):
        templates.render("nothing.sql")


def test_dollar_signs_stay_as_they_are(template) -> None:
    template("$$ $body$ $1")

    assert templates.render("t.sql") == "$$ $body$ $1"


@pytest.mark.parametrize("name", SQL_TEMPLATES)
def test_every_placeholder_of_the_templates_has_a_kind(name: str) -> None:
    text = Path(str(templates.root()), name).read_text()

    assert [
        found for found in re.findall(r"(?<!\{)\{(\w+[^}]*)\}", text) if not re.fullmatch(r"\w+:[ilq]", found)
    ] == []


@pytest.mark.parametrize("name", [name for name in SQL_TEMPLATES if name.startswith("record_")])
def test_every_record_function_is_closed_and_has_a_fixed_search_path(name: str) -> None:
    text = Path(str(templates.root()), name).read_text()

    assert "SECURITY DEFINER SET search_path = pg_catalog, pg_temp" in text


# The other two read no row of a user's table.
@pytest.mark.parametrize("name", [name for name in SQL_TEMPLATES if name not in ("idle.v1.sql", "append_only.v1.sql")])
def test_value_of_a_row_becomes_text_through_its_output_function_alone(name: str) -> None:
    text = re.sub(r"--.*", "", Path(str(templates.root()), name).read_text())

    # A cast would run code that the owner of the table can supply. Ours are of our own values.
    assert set(re.findall(r"[\w()\]]+::\w+", text)) <= {
        "pg_current_xact_id()::text",
        "text::bigint",
        "TG_RELID::regclass",
        "]::text",
        "')]::text",
    } | set(re.findall(r"pg_current_xact_id\(\)::text|::bigint", text))
    assert "to_json" not in text


class TestRendered:
    """The SQL of a table's functions and triggers."""

    @pytest.mark.parametrize("kind", Kind)
    @pytest.mark.parametrize("column", ["$pgcleanup$", "$pgcleanup1$", "$$", "a'b", 'a"b', "a\\b", "{a}", "%s"])
    def test_dollar_tag_occurs_at_both_ends_of_the_body_and_nowhere_else(self, kind: Kind, column: str) -> None:
        text = render.render_function(kind, table(column, "$pgcleanup$"), "public")

        [tag] = set(re.findall(r"AS (\$pgcleanup\d*\$)\n", text))
        assert text.count(tag) == 2
        assert text.rstrip().endswith(f"{tag};")

    @pytest.mark.parametrize("kind", Kind)
    @pytest.mark.parametrize("name", ["doc", "x" * 63, "\u65e5" * 21, 'with "quotes"', "100%"])
    def test_function_name_has_at_most_63_bytes(self, kind: Kind, name: str) -> None:
        found = render.function_name(kind, table("file", name=name))

        assert len(found.encode()) <= 63
        assert found.startswith(f"pgcleanup_{kind.value}_")

    def test_function_names_of_tables_with_a_long_common_start_differ(self) -> None:
        names = {render.function_name(Kind.ROW, table("file", name="x" * 62 + end)) for end in "ab"}

        assert len(names) == 2

    def test_function_names_of_equal_tables_in_two_schemas_differ(self) -> None:
        here, there = table("file"), Table(**{n: getattr(table("file"), n) for n in Table.__slots__} | {"schema": "s"})

        assert render.function_name(Kind.ROW, here) != render.function_name(Kind.ROW, there)

    def test_composite_key_is_a_json_array_and_a_plain_one_is_not(self) -> None:
        composite = render.render_function(Kind.DELETE, table("file", key=("a", "b")), "public")
        plain = render.render_function(Kind.DELETE, table("file"), "public")

        key = 'json_build_array(concat(o."a") COLLATE pg_catalog."C", concat(o."b") COLLATE pg_catalog."C")::text'
        assert key in composite
        assert "json_build_array" not in plain

    def test_table_without_a_primary_key_has_none_recorded(self) -> None:
        assert "v.name, NULL, 'DELETE'" in render.render_function(Kind.DELETE, table("file", key=()), "public")

    @pytest.mark.parametrize("form", Form)
    @pytest.mark.parametrize("kind", Kind)
    def test_trigger_is_bound_to_no_column_and_has_no_condition(self, kind: Kind, form: Form) -> None:
        text = render.render_trigger(kind, table("file", form=form), '"public"."f"')

        assert "UPDATE OF" not in text
        assert "WHEN" not in text

    @pytest.mark.parametrize(
        ("form", "version", "kinds"),
        [
            (Form.PLAIN, 140000, [Kind.ROW, Kind.DELETE, Kind.TRUNCATE]),
            (Form.BY_ROW, 140000, [Kind.ROW, Kind.TRUNCATE]),
            (Form.PARTITIONED, 140000, [Kind.ROW, Kind.TRUNCATE]),
            (Form.FOREIGN, 150000, [Kind.ROW]),
            (Form.FOREIGN, 160000, [Kind.ROW, Kind.TRUNCATE]),
        ],
    )
    def test_table_has_the_triggers_of_its_form(self, form: Form, version: int, kinds: list[Kind]) -> None:
        assert render.trigger_kinds(table("file", form=form), version) == kinds

    def test_row_trigger_of_a_partitioned_table_has_a_name_of_its_own(self) -> None:
        names = {render.trigger_name(Kind.ROW, table("f", name=name, form=Form.PARTITIONED)) for name in ("a", "b")}

        assert len(names) == 2
        assert all(name.startswith("pgcleanup_row_") for name in names)
