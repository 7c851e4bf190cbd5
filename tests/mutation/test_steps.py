"""Each safety step can still be switched off, by tests that there are. `make test-mutation` does it."""

from __future__ import annotations

import re

import pytest

from tests.mutation.copies import CHECKOUT, DoesNotApply, Edit, copy_checkout
from tests.mutation.steps import STEPS


@pytest.fixture(scope="module")
def originals() -> dict[str, str]:
    return {edit.path: (CHECKOUT / edit.path).read_text() for step in STEPS for edit in step.edits}


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_step_can_be_switched_off(step, tmp_path, originals):
    for edit in step.edits:
        (tmp_path / edit.path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / edit.path).write_text(originals[edit.path])

    for edit in step.edits:
        edit.apply(tmp_path)

    assert all((tmp_path / edit.path).read_text() != originals[edit.path] for edit in step.edits)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_step_names_tests_that_there_are(step):
    for test in step.tests:
        path, _, name = test.partition("::")
        text = (CHECKOUT / path).read_text()
        assert not name or re.search(rf"^(def {name}\(|class {name}\b)", text, re.MULTILINE), test


def test_edit_of_a_text_that_is_gone_says_which_and_where(tmp_path):
    (tmp_path / "code.py").write_text("a = 1\n")

    with pytest.raises(
        DoesNotApply, match=r"code\.py holds no places that read\n\nb = 2\n\n.*tests/mutation/steps\.py"
    ):
        Edit("code.py", "b = 2", "b = 3").apply(tmp_path)


def test_edit_of_a_text_that_stands_there_twice_is_refused(tmp_path):
    (tmp_path / "code.py").write_text("a = 1\na = 1\n")

    with pytest.raises(DoesNotApply, match="holds 2 places"):
        Edit("code.py", "a = 1", "a = 2").apply(tmp_path)


def test_edit_does_not_mind_how_the_text_is_broken_into_lines(tmp_path):
    (tmp_path / "code.py").write_text("a = f(\n    1,\n    2\n)\n")

    Edit("code.py", "a = f(1, 2)", "a = 3").apply(tmp_path)

    assert (tmp_path / "code.py").read_text() == "a = 3\n"


def test_edit_that_leaves_no_python_is_refused(tmp_path):
    (tmp_path / "code.py").write_text("a = 1\n")

    with pytest.raises(DoesNotApply, match="is no Python any more"):
        Edit("code.py", "a = 1", "a = (").apply(tmp_path)


def test_copy_has_all_that_the_tests_need_and_the_checkout_is_not_touched(tmp_path):
    root = copy_checkout(tmp_path / "copy")

    STEPS[0].edits[0].apply(root)

    assert (root / "migrations_templates").is_dir()
    assert (root / "tests" / "conftest.py").is_file()
    assert (root / STEPS[0].edits[0].path).read_text() != (CHECKOUT / STEPS[0].edits[0].path).read_text()
