"""The long runs of `make test-faults`, and the table that it prints at its end.

`make test` leaves this folder out: it is collected only where the command line names it. What is injected
here has a short form in tests/process or tests/drain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
_PROPERTY = "injected"

Injected = Callable[..., None]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the folder out unless it, or something in it, is named."""
    invoked_in = config.invocation_params.dir
    named = [(invoked_in / argument.partition("::")[0]).resolve() for argument in config.args]
    return None if any(path == HERE or HERE in path.parents for path in named) else True


@pytest.fixture
def injected(request: pytest.FixtureRequest) -> Injected:
    """Return a function that notes for the table that a fault was injected: `injected("SIGKILL of a drain", 57)`.

    Call it once the fault has really happened, as often as it is handy: the numbers of one fault add up.
    What was verified is the name of the test, unless `verified` says it better. A test that called it and
    fails counts as a loss in the table.
    """

    def note(fault: str, times: int = 1, *, verified: str | None = None) -> None:
        assert times > 0, f"{fault}: nothing was injected, so nothing was tried"
        spoken = verified or request.node.originalname.removeprefix("test_").replace("_", " ")
        # A property of the report, so that it comes over from the workers of pytest-xdist.
        request.node.user_properties.append((_PROPERTY, (fault, times, spoken)))

    return note


@dataclass
class _Row:
    times: int = 0
    verified: dict[str, None] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print for each fault how often it was injected, what was verified, and whether anything was lost."""
    rows: dict[str, _Row] = {}
    skipped: list[str] = []
    failed: list[str] = []
    for report in _reports(terminalreporter):
        if report.skipped and isinstance(report.longrepr, tuple):
            skipped.append(f"{report.nodeid}: {report.longrepr[2].removeprefix('Skipped: ')}")
        if report.failed and not _noted(report):
            failed.append(report.nodeid)
        for fault, times, verified in _noted(report):
            row = rows.setdefault(fault, _Row())
            if report.when == "call":
                row.times += times
                row.verified[verified] = None
            if report.failed:
                row.failed.append(report.nodeid)
    if not rows and not skipped and not failed:
        return
    terminalreporter.section("faults injected")
    width = max((len(fault) for fault in rows), default=0)
    for fault, row in sorted(rows.items()):
        result = f"FAILED in {', '.join(row.failed)}" if row.failed else "nothing lost"
        terminalreporter.write_line(f"{fault:<{width}}  {row.times:>6,}  {result}", red=bool(row.failed))
        for verified in row.verified:
            terminalreporter.write_line(f"{'':<{width}}          {verified}")
    for line in skipped:
        terminalreporter.write_line(f"NOT TRIED  {line}", yellow=True)
    for line in failed:
        terminalreporter.write_line(f"FAILED before it could count  {line}", red=True)
    bad = len(failed) + sum(bool(row.failed) for row in rows.values())
    total = sum(row.times for row in rows.values())
    result = f"{bad} FAILED" if bad else "nothing was lost"
    terminalreporter.write_line(f"{len(rows)} faults, injected {total:,} times: {result}")


def _reports(terminalreporter: Any) -> list[Any]:
    return [
        report for kind in ("passed", "failed", "error", "skipped") for report in terminalreporter.stats.get(kind, ())
    ]


def _noted(report: Any) -> list[tuple[str, int, str]]:
    # Each phase's report has all properties that were there by then: those of the call count, and an error
    # in the tear-down is a failure of the same faults.
    if report.when != "call" and not report.failed:
        return []
    return [value for name, value in report.user_properties if name == _PROPERTY]
