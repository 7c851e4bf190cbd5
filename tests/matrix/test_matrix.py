"""The matrix names what pyproject.toml and the design promise, and tells "failed" from "not there"."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.matrix import __main__ as matrix
from tests.matrix import places
from tests.matrix.pairs import PAIRS, Pair, UnknownPair, choose

PYPROJECT = (places.CHECKOUT / "pyproject.toml").read_text()
OLDEST = PAIRS[0]

REPORT = """<testsuites><testsuite>
    <testcase classname="tests.a" name="good"/>
    <testcase classname="tests.a" name="bad"><failure message="it is">why</failure></testcase>
    <testcase classname="tests.a" name="worse"><error message="it is">why</error></testcase>
    <testcase classname="tests.a" name="left_out"><skipped message="no"/></testcase>
</testsuite></testsuites>"""


def test_each_django_that_is_supported_is_in_the_matrix() -> None:
    supported = set(re.findall(r"Framework :: Django :: (\d+\.\d+)", PYPROJECT))

    assert {pair.django for pair in PAIRS} == supported


def test_each_python_that_is_supported_is_in_the_matrix_but_the_newest() -> None:
    supported = set(re.findall(r"Python :: (3\.\d+)", PYPROJECT))

    # Many machines do not have 3.14 yet. `make test-matrix PAIRS=18-6.1-3.14` runs it where it is.
    assert {pair.python for pair in PAIRS} == supported - {"3.14"}


def test_each_postgresql_that_is_supported_is_in_the_matrix() -> None:
    assert {pair.postgres for pair in PAIRS} == {"14", "15", "16", "17", "18"}


def test_all_pairs_can_be_asked_for_by_name() -> None:
    assert choose([pair.name for pair in PAIRS]) == list(PAIRS)
    assert choose([]) == list(PAIRS)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("14-5.2", "names no pair"),
        ("newest-5.2-3.10", "names no pair"),
        ("14-6.0-3.11", "needs Python 3.12"),
        ("14-6.1-3.12", "needs PostgreSQL 15"),
    ],
)
def test_name_of_no_pair_or_of_an_impossible_one_is_refused(name: str, reason: str) -> None:
    with pytest.raises(UnknownPair, match=reason):
        choose([name])


def test_requirements_of_a_pair_are_the_pinned_ones_with_its_django() -> None:
    pinned = places.CHECKOUT.joinpath("requirements-dev.txt").read_text().splitlines()

    lines = places.requirements_for(OLDEST).splitlines()

    assert [line for line in lines if re.match(r"django\W", line, re.IGNORECASE) and "-" not in line] == [
        "django~=5.2.0"
    ]
    assert set(lines) - {"django~=5.2.0"} == {line for line in pinned if not line.startswith("django==")} - {""}


def test_python_that_is_not_there_is_not_run() -> None:
    with pytest.raises(places.NotHere, match=r"no Python 3\.99"):
        places.find_python("3.99")


def test_python_of_these_tests_is_found() -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"

    assert places.find_python(version).exists()


def test_server_that_is_not_there_is_not_run() -> None:
    with pytest.raises(places.NotHere, match="no PostgreSQL 99"):
        places.find_server(Pair("99", "5.2", "3.10"), Path(sys.executable))


def test_directory_without_a_server_holds_none(tmp_path: Path) -> None:
    assert places.major_of(tmp_path) == ""


def test_outcomes_are_counted_and_failures_named(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT)

    result = matrix.read(report, 1, 2.0, places.CACHE / "logs" / "a.log")

    assert (result.passed, result.failed, result.skipped) == (1, 2, 1)
    assert result.failures == ["tests.a.bad", "tests.a.worse"]
    assert result.is_failure


def test_run_that_came_to_no_report_is_a_failure(tmp_path: Path) -> None:
    result = matrix.read(tmp_path / "none.xml", 4, 2.0, places.CACHE / "logs" / "a.log")

    assert result.is_failure
    assert "pytest ended with 4" in result.trouble


def test_pair_that_is_not_run_is_said_and_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    result = matrix.Result(not_run="no Python 3.10")

    matrix.show(OLDEST, result)

    assert not result.is_failure
    printed = capsys.readouterr().out
    assert "PostgreSQL 14  Django 5.2  Python 3.10" in printed
    assert "not run: no Python 3.10" in printed


def test_impossible_pair_ends_the_command_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert matrix.main(["--pairs", "14-6.1-3.12"]) == 2
    assert "needs PostgreSQL 15" in capsys.readouterr().err
