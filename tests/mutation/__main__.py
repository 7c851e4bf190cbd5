"""Switch off each safety step in turn, and see that a test notices.

    python -m tests.mutation [--jobs N] [--verbose] [part of a step's name ...]

Prints a table of step and the test that fails without it. Ends with 1 if a step can be dropped unnoticed, if one could
not be switched off, or if the tests fail with all steps in place, which would prove nothing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from xml.etree import ElementTree

import psycopg

from tests.mutation.copies import DoesNotApply, copy_checkout
from tests.mutation.steps import STEPS, Step
from tests.postgres import postgres

# A step whose absence makes a test hang is noticed by that, but not in a table that anybody gets to see.
LONGEST_RUN = 300
# Errors that come from a bad patch rather than from a promise that is broken.
_BROKEN = (
    "SyntaxError",
    "NameError",
    "ImportError",
    "AttributeError",
    "TypeError",
    "UndefinedColumn",
    "IndeterminateDatatype",
)


@dataclass(frozen=True, slots=True)
class Failure:
    """A test that failed, and the first line of why."""

    test: str
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of switching a step off."""

    step: Step
    failure: Failure | None
    trouble: str = ""
    seconds: float = 0.0

    @property
    def is_noticed(self) -> bool:
        """Whether a test failed because of it, and nothing else went wrong."""
        return self.failure is not None and not self.trouble


class Runner:
    """Runs tests in copies of one snapshot of the checkout, each job on databases of its own."""

    def __init__(self, folder: Path, url: str, jobs: int) -> None:
        self.folder = folder
        self.snapshot = copy_checkout(folder / "snapshot")
        self.databases: Queue[str] = Queue()
        for number in range(jobs):
            self.databases.put(self._make_database(url, f"mutation_{os.getpid()}_{number}"))

    @staticmethod
    def _make_database(url: str, name: str) -> str:
        with psycopg.connect(url, autocommit=True) as server:
            server.execute(f"CREATE DATABASE {name}")
        return url.rpartition("/")[0] + "/" + name

    def baseline(self, tests: list[str]) -> Failure | None:
        """Run tests with all steps in place."""
        return self._run(self.snapshot, tests, self.databases.qsize())

    def switch_off(self, step: Step) -> Verdict:
        """Run the step's tests without the step."""
        began = time.monotonic()
        try:
            with tempfile.TemporaryDirectory(dir=self.folder) as name:
                root = copy_checkout(Path(name), self.snapshot)
                for edit in step.edits:
                    edit.apply(root)
                failure = self._run(root, list(step.tests))
        except (DoesNotApply, TestsDidNotRun) as error:
            return Verdict(step, None, str(error), time.monotonic() - began)
        trouble = ""
        if failure is None:
            trouble = "it can be dropped unnoticed: write the test that fails without it"
        elif failure.message.startswith(_BROKEN):
            trouble = f"the change broke the code instead of the promise: {failure.message}"
        return Verdict(step, failure, trouble, time.monotonic() - began)

    def _run(self, root: Path, tests: list[str], processes: int = 0) -> Failure | None:
        database = self.databases.get()
        try:
            return _run_tests(root, tests, database, processes)
        finally:
            self.databases.put(database)


class TestsDidNotRun(Exception):
    """pytest came to no verdict."""

    __test__ = False


def _run_tests(root: Path, tests: list[str], database_url: str, processes: int) -> Failure | None:
    """Run tests until the first that fails, and return it."""
    report = root / "report.xml"
    # The folder comes first on the path, before the checkout that the virtual environment knows of.
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-n",
        str(processes),
        "-q",
        "--exitfirst",
        "-p",
        "no:randomly",
        "-p",
        "no:cacheprovider",
    ]
    environment = {**os.environ, "DATABASE_URL": database_url, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("OTHER_DATABASE_URL", None)
    try:
        done = subprocess.run(
            [*command, f"--junit-xml={report}", *tests],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LONGEST_RUN,
        )
    except subprocess.TimeoutExpired as error:
        raise TestsDidNotRun(f"the tests were not done after {LONGEST_RUN} s") from error
    if done.returncode == 0:
        return None
    failures = _failures(report) if report.exists() else []
    if done.returncode != 1 or not failures:
        raise TestsDidNotRun(f"pytest ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-2000:]}")
    return failures[0]


def _failures(report: Path) -> list[Failure]:
    found = []
    for case in ElementTree.parse(report).iter("testcase"):
        for child in case:
            if child.tag in ("failure", "error"):
                path = (case.get("classname") or "").replace(".", "/") + ".py"
                message = (child.get("message") or child.text or "").strip().splitlines()
                found.append(Failure(f"{path}::{case.get('name')}", message[0] if message else child.tag))
    return found


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="only the steps whose name holds one of these")
    parser.add_argument("--jobs", type=int, default=2, help="how many steps at a time (2)")
    parser.add_argument("--verbose", action="store_true", help="say how each test failed")
    return parser.parse_args(arguments)


def _print(verdict: Verdict, width: int, verbose: bool) -> None:
    if verdict.is_noticed and verdict.failure:
        print(f"  {verdict.step.name:{width}}  {verdict.failure.test}", flush=True)
        if verbose:
            print(f"  {'':{width}}    {verdict.failure.message}  ({verdict.seconds:.0f} s)", flush=True)
    else:
        print(f"! {verdict.step.name:{width}}  {verdict.trouble}", flush=True)
        print(f"  {'':{width}}  ran: {' '.join(verdict.step.tests)}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Print the table, and return the exit code."""
    options = _parse(arguments)
    steps = [step for step in STEPS if not options.names or any(name in step.name for name in options.names)]
    if not steps:
        print(f"no step's name holds {' or '.join(options.names)}. There are: {', '.join(s.name for s in STEPS)}")
        return 2
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pgcleanup-mutation-") as name, postgres() as server:
        runner = Runner(Path(name), server.url, options.jobs)
        print(f"{len(steps)} safety steps, on {server.description}", flush=True)
        tests = sorted({test for step in steps for test in step.tests})
        try:
            failure = runner.baseline(tests)
        except TestsDidNotRun as error:
            print(f"! with all steps in place: {error}")
            return 1
        if failure is not None:
            print(f"! with all steps in place {failure.test} fails, so nothing can be proved: {failure.message}")
            return 1
        print(f"with all steps in place the tests pass ({time.monotonic() - began:.0f} s)\n", flush=True)
        width = max(len(step.name) for step in steps)
        print(f"  {'without this step':{width}}  this test fails", flush=True)
        unnoticed = []
        with ThreadPoolExecutor(options.jobs) as pool:
            # The slow ones first, or the last one would run alone.
            futures = {
                step.name: pool.submit(runner.switch_off, step) for step in sorted(steps, key=lambda s: not s.slow)
            }
            for step in steps:
                verdict = futures[step.name].result()
                _print(verdict, width, options.verbose)
                if not verdict.is_noticed:
                    unnoticed.append(verdict.step.name)
    needed = len(steps) - len(unnoticed)
    print(f"\n{needed} of {len(steps)} steps are needed ({time.monotonic() - began:.0f} s)")
    if unnoticed:
        print(f"NOT proved: {', '.join(unnoticed)}")
    return bool(unnoticed)


if __name__ == "__main__":
    sys.exit(main())
