"""A released template never changes: databases and migrations of users were made from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.released import CHECKOUT, TEMPLATES, listed, problems, update

RELEASED = "## [1.0.0] - 2026-01-01\n"
NOT_RELEASED = "## [1.0.0] - unreleased\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "README.md").write_text("no template")
    (tmp_path / "a.v1.sql").write_text("one")
    update(tmp_path, NOT_RELEASED, "1.0.0")
    return tmp_path


def test_templates_are_what_the_list_says() -> None:
    assert problems(TEMPLATES, (CHECKOUT / "CHANGELOG.md").read_text()) == []


def test_new_template_is_listed_with_the_version_that_brings_it(folder: Path) -> None:
    (folder / "a.v2.sql").write_text("two")

    update(folder, RELEASED + "## [1.1.0] - unreleased\n", "1.1.0")

    assert {name: version for name, (version, _) in listed(folder).items()} == {
        "a.v1.sql": "1.0.0",
        "a.v2.sql": "1.1.0",
    }


def test_template_that_is_not_listed_is_a_problem(folder: Path) -> None:
    (folder / "b.v1.sql").write_text("b")

    assert problems(folder, NOT_RELEASED) == ["b.v1.sql is not listed. Run: make templates"]


def test_released_template_that_changed_is_a_problem_that_no_update_mends(folder: Path) -> None:
    (folder / "a.v1.sql").write_text("changed")

    update(folder, RELEASED, "1.0.0")

    assert problems(folder, RELEASED) == [
        "a.v1.sql is not what 1.0.0 released: put it back, and make a new version of it"
    ]


def test_released_template_that_went_is_a_problem(folder: Path) -> None:
    (folder / "a.v1.sql").unlink()

    assert len(problems(folder, RELEASED)) == 1


def test_template_may_change_until_its_version_is_released(folder: Path) -> None:
    (folder / "a.v1.sql").write_text("changed")
    before = problems(folder, NOT_RELEASED)

    update(folder, NOT_RELEASED, "1.0.0")

    assert before == ["a.v1.sql changed. Run: make templates"]
    assert problems(folder, NOT_RELEASED) == []
