"""What the documents say exists, what exists is documented, and their examples are Python."""

from __future__ import annotations

import argparse
import ast
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from django.core.management import load_command_class

import pgcleanup.cleanup
import pgcleanup.drain
import pgcleanup.exceptions
from pgcleanup import conf

CHECKOUT = Path(__file__).parents[2]
PACKAGE = CHECKOUT / "pgcleanup"
REFERENCE = (CHECKOUT / "docs" / "reference.md").read_text()
DOCUMENTS = sorted(
    [
        *CHECKOUT.glob("*.md"),
        *(path for folder in ("docs", "docker", "migrations_templates") for path in (CHECKOUT / folder).glob("*.md")),
    ]
)
TEXTS = {str(path.relative_to(CHECKOUT)): path.read_text() for path in DOCUMENTS}
# Variables of the tests and the demo, which are no settings.
OTHER_NAMES = re.compile(r"PGCLEANUP_(TEST|DEMO)_\w+")


def parser(command: str) -> argparse.ArgumentParser:
    created: argparse.ArgumentParser = load_command_class("pgcleanup", command).create_parser("manage.py", command)
    return created


def subcommands() -> dict[str, Any]:
    [action] = [action for action in parser("pgcleanup")._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(action.choices)


def own_options(parser: argparse.ArgumentParser) -> set[str]:
    common = {option for action in argparse_of_django()._actions for option in action.option_strings}
    return {
        option for action in parser._actions for option in action.option_strings if option.startswith("--")
    } - common


def argparse_of_django() -> argparse.ArgumentParser:
    from django.core.management.base import BaseCommand

    created: argparse.ArgumentParser = BaseCommand().create_parser("manage.py", "any")
    return created


def python_blocks() -> list[Any]:
    return [
        pytest.param(textwrap.dedent(code), id=f"{name}-{number}")
        for name, text in TEXTS.items()
        for number, (_, code) in enumerate(
            re.findall(r"^( *)```python\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL), start=1
        )
    ]


def links() -> list[Any]:
    return [
        pytest.param(CHECKOUT / name, target, id=f"{name}-{target}")
        for name, text in TEXTS.items()
        for target in dict.fromkeys(re.findall(r"\]\(([^)\s]+)\)", text))
        if not target.startswith("http")
    ]


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", conf.all_settings())
def test_setting_is_in_the_reference(name: str) -> None:
    assert f"| `{name}` |" in REFERENCE


@pytest.mark.parametrize("name", conf.all_settings())
def test_setting_is_acted_on_by_some_code(name: str) -> None:
    attribute = name.removeprefix(conf.PREFIX).lower()
    sources = [path for path in PACKAGE.rglob("*.py") if path.name != "conf.py" and "checks" not in path.parts]
    # columns.py reads the four lists of labels by name, too.
    assert any(re.search(rf"settings\.{attribute}\b", path.read_text()) for path in sources)


@pytest.mark.parametrize("name", TEXTS)
def test_document_names_no_setting_that_there_is_not(name: str) -> None:
    named = {word for word in re.findall(r"PGCLEANUP_[A-Z_]+", TEXTS[name]) if not OTHER_NAMES.match(word)}

    assert named - {conf.PREFIX} <= set(conf.all_settings())


def test_reference_has_exactly_the_checks_that_there_are() -> None:
    there = {id_ for path in PACKAGE.rglob("*.py") for id_ in re.findall(r'"(pgcleanup\.[EW]\d{3})"', path.read_text())}

    assert set(re.findall(r"^\| `(pgcleanup\.[EW]\d{3})` \|", REFERENCE, re.MULTILINE)) == there


def test_reference_has_exactly_the_options_of_the_drain() -> None:
    section = REFERENCE.split("## drain_deletions")[1].split("\n## ")[0]

    documented = set(re.findall(r"^\| `(--[a-z-]+)", section, re.MULTILINE))

    assert documented == own_options(parser("drain_deletions"))


def test_reference_has_exactly_the_subcommands() -> None:
    section = REFERENCE.split("## pgcleanup subcommands")[1].split("\n## ")[0]

    assert set(re.findall(r"manage\.py pgcleanup (\w+)", section)) == set(subcommands())


@pytest.mark.parametrize("name", TEXTS)
def test_document_names_no_command_that_there_is_not(name: str) -> None:
    named = re.findall(r"(?:manage\.py pgcleanup|`pgcleanup) ([a-z]+)", TEXTS[name])

    assert set(named) <= set(subcommands())


@pytest.mark.parametrize("module", [pgcleanup, pgcleanup.cleanup, pgcleanup.drain], ids=lambda module: module.__name__)
def test_public_name_is_in_the_reference(module: Any) -> None:
    aliases = {"cleanup_ignore", "cleanup_select"}  # of `ignore` and `select`
    internal = {"__version__", "Progress", "Run"}

    missing = [name for name in set(module.__all__) - aliases - internal if not re.search(rf"\b{name}\b", REFERENCE)]

    assert not missing


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, value in vars(pgcleanup.exceptions).items()
        if isinstance(value, type) and value.__module__ == "pgcleanup.exceptions"
    ],
)
def test_exception_is_in_the_reference(name: str) -> None:
    assert f"`pgcleanup.exceptions.{name}`" in REFERENCE


@pytest.mark.parametrize("code", python_blocks())
def test_example_is_python(code: str) -> None:
    compile(code, "example", "exec")


@pytest.mark.parametrize(("document", "target"), links())
def test_link_leads_somewhere(document: Path, target: str) -> None:
    path, _, anchor = target.partition("#")
    linked = (document.parent / path) if path else document

    assert linked.exists()
    assert not anchor or anchor in anchors(linked.read_text())


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_message_says_what_to_type_and_names_no_document(path: Path) -> None:
    tree = ast.parse(path.read_text())
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}

    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]

    assert not [text.value for text in texts if id(text) not in documentation and re.search(r"\.md\b", text.value)]
