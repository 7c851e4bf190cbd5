"""Run the tests on each pair of PostgreSQL, Django and Python, and print a line for each.

    python -m tests.matrix [--list] [--workers N] [--pairs "14-5.2-3.10 18-6.1-3.13"] [arguments for pytest ...]

They run on a copy of the checkout as it was at the start, one pair at a time. What is needed is fetched and kept in
.matrix/, with what pytest printed. A pair whose Python or PostgreSQL this machine does not have is "not run". Ends with
1 if a test failed, or if tests could not be run for another reason.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from tests.matrix.pairs import Pair, UnknownPair, choose
from tests.matrix.places import CACHE, CHECKOUT, NoEnvironment, NotHere, find_server, make_environment

# What a copy must not have: environments, caches, what was built, and git, whose list of files would be another's.
_LEFT_OUT = (".git", ".matrix", ".venv*", "venv", "dist", "build", "__pycache__", ".*_cache", ".hypothesis")
# A pair whose tests hang would hold up the others for ever.
LONGEST_RUN = 3600


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one pair: counts of tests, or the reason why there are none."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)
    not_run: str = ""
    trouble: str = ""

    @property
    def is_failure(self) -> bool:
        """Whether the matrix must not be called good."""
        return bool(self.failed or self.trouble)


class Matrix:
    """Runs pairs on one copy of the checkout."""

    def __init__(self, folder: Path, workers: str, arguments: list[str]) -> None:
        self.checkout = folder / "checkout"
        self.workers = workers
        self.arguments = arguments
        self.logs = CACHE / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        shutil.copytree(CHECKOUT, self.checkout, ignore=shutil.ignore_patterns(*_LEFT_OUT))

    def run(self, pair: Pair) -> Result:
        """Run the tests on a pair, fetching first what is missing for it."""
        log = self.logs / f"{pair.name}.log"
        try:
            python = make_environment(pair, log)
            bindir = find_server(pair, python)
        except NotHere as error:
            return Result(not_run=str(error))
        except NoEnvironment as error:
            return Result(trouble=str(error))
        return self._test(python, bindir, log)

    def _test(self, python: Path, bindir: Path, log: Path) -> Result:
        report = log.with_suffix(".xml")
        report.unlink(missing_ok=True)
        # The copy comes first on the path. No server but the pair's: DATABASE_URL would win over PGCLEANUP_TEST_PGBIN.
        environment = {
            **{name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "OTHER_DATABASE_URL")},
            "PGCLEANUP_TEST_PGBIN": str(bindir),
            "PYTHONPATH": str(self.checkout),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [python, "-m", "pytest", "-n", self.workers, "-rs", f"--junit-xml={report}", *self.arguments]
        began = time.monotonic()
        with log.open("w") as output:
            try:
                done = subprocess.run(
                    command,
                    cwd=self.checkout,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=LONGEST_RUN,
                )
            except subprocess.TimeoutExpired:
                return Result(trouble=f"not done after {LONGEST_RUN} s; see {log.relative_to(CHECKOUT)}")
        return read(report, done.returncode, time.monotonic() - began, log)


def read(report: Path, returncode: int, seconds: float, log: Path) -> Result:
    """Count what pytest reported."""
    cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    failures = [_name(case) for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    trouble = ""
    if not cases or (returncode and not failures):
        trouble = f"pytest ended with {returncode} after {len(cases)} tests; see {log.relative_to(CHECKOUT)}"
    return Result(
        passed=len(cases) - len(failures) - skipped,
        failed=len(failures),
        skipped=skipped,
        seconds=seconds,
        failures=failures,
        trouble=trouble,
    )


def _name(case: ElementTree.Element) -> str:
    return f"{case.get('classname')}.{case.get('name')}"


def show(pair: Pair, result: Result) -> None:
    """Print the line of a pair, and the names of the tests that failed."""
    if result.not_run:
        print(f"{pair.title:42}  not run: {result.not_run}", flush=True)
        return
    if result.trouble:
        print(f"{pair.title:42}  FAILED: {result.trouble}", flush=True)
    else:
        counts = f"{result.passed:5} passed  {result.failed:3} failed  {result.skipped:3} skipped"
        print(f"{pair.title:42}  {counts}  {result.seconds:4.0f} s", flush=True)
    for name in result.failures:
        print(f"    failed: {name}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Print the table, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", default="", help="only these, such as 14-5.2-3.10 (all of the matrix)")
    parser.add_argument("--workers", default="2", help="processes that share the tests of a pair (2)")
    parser.add_argument("--list", action="store_true", help="name the pairs, and do nothing")
    options, for_pytest = parser.parse_known_args(arguments)
    try:
        pairs = choose(options.pairs.split())
    except UnknownPair as error:
        print(error, file=sys.stderr)
        return 2
    if options.list:
        print("\n".join(pair.name for pair in pairs))
        return 0

    results = []
    with tempfile.TemporaryDirectory(prefix="pgcleanup-matrix-") as folder:
        matrix = Matrix(Path(folder).resolve(), options.workers, for_pytest)
        for pair in pairs:
            results.append(matrix.run(pair))
            show(pair, results[-1])
    good = sum(not result.is_failure and not result.not_run for result in results)
    print(f"{good} of {len(pairs)} pairs passed, {sum(bool(result.not_run) for result in results)} not run")
    return int(any(result.is_failure for result in results))


if __name__ == "__main__":
    sys.exit(main())
