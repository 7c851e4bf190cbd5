"""A drain in this process whose connection is killed after a step of its `Run.steps()`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.db import connections

from pgcleanup.drain import Run, drain
from pgcleanup.exceptions import ConnectionLost
from pgcleanup.ledger import fence
from tests.drain.support import Session, let_go, pending, put
from tests.project.models import Cover, Document

NAMES = [f"docs/{number}.txt" for number in range(3)]
IN_A_BATCH = [
    "claimed",
    "found nothing prepared",
    "checked elsewhere",
    "checked",
    "looked",
    "told before",
    "deleted",
    "settled",
]
# A drain does all of this where there is a default to settle, a receiver, and a transaction to wait for.
STEPS = [
    "stamped",
    "settled at once",
    *IN_A_BATCH,
    "committed",
    "waited",
    "dropped unused stamps",
]


class Scenario:
    """Three files to delete in batches of two, a default, and a transaction that holds one file back."""

    def __init__(self) -> None:
        for name in NAMES:
            put(name)
        let_go(*NAMES[:2])
        # Before the transaction begins: these two wait for nobody.
        fence.stamp("default")
        self.holder = Session().begin()
        self.holder.run("SELECT 1")
        let_go(NAMES[2])
        let_go("covers/default.png", model=Cover, field="front")

    def steps(self) -> Iterator[str]:
        """Begin a drain, whose steps come one by one."""
        for step in Run("default", wait=timedelta(seconds=60)).steps():
            if step == "waited" and self.holder.is_open:
                self.holder.rollback()
            yield step

    def end(self) -> None:
        """Let the schedule's next drain do the rest."""
        if self.holder.is_open:
            self.holder.rollback()
        self.holder.raw.close()
        drain()
        assert pending() == []


def every_step() -> list[str]:
    """Return the steps of the scenario when nothing happens to it."""
    scenario = Scenario()
    steps = list(scenario.steps())
    scenario.end()
    return steps


def kill_after(index: int) -> str:
    """Kill the connection after the step of this number, and return its name."""
    scenario = Scenario()
    steps = scenario.steps()
    for _ in range(index + 1):
        step = next(steps)
    killer = Session()
    killer.run("SELECT pg_terminate_backend(%s, 5000)", connections["default"].connection.info.backend_pid)
    killer.raw.close()
    try:
        list(steps)
    except ConnectionLost:
        pass
    else:
        # Between two batches it held no lock that it could lose, and may go on with a new connection.
        assert step not in IN_A_BATCH
    scenario.end()
    assert not Document.objects.exists()
    return step
