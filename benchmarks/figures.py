"""What was measured, what it should be, and whether it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. Without a bound it is there to be read beside the others."""

    what: str
    value: float
    text: str = "{:,.2f}"
    """How the value reads."""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def result(self) -> str:
        return self.text.format(self.value)

    @property
    def target(self) -> str:
        if self.at_most is not None:
            return f"at most {self.at_most:g}"
        return "" if self.at_least is None else f"at least {self.at_least:g}"

    @property
    def verdict(self) -> str:
        """Return `ok` or `short`; nothing where there is no target."""
        if self.at_most is not None:
            return "ok" if self.value <= self.at_most else "short"
        if self.at_least is not None:
            return "ok" if self.value >= self.at_least else "short"
        return ""


Measure = Callable[["Size"], Iterator[Figure]]


@dataclass(frozen=True, slots=True)
class Size:
    """How much to measure with: the same questions, asked of little or of much."""

    repeats: int
    """Of what varies; the median counts."""
    processes: int
    """Of what differs from process to process; the median counts, too."""
    rows: int
    """Of a table whose files all go."""
    on_disk: int
    """The same, where the files are on a disk, which may be slow to make them."""
    backlog: int
    """Entries that are in the ledger besides."""
    admin: int
    """Entries of a ledger and of a history, to be looked at."""
    unindexed: int
    """Rows of a table that has no index on its file column."""
    objects: int
    """Of a bucket."""
    passing: int
    """Entries that go through the ledger, a million after the other; none where autovacuum would have no time."""
    requests: int


SHORT = Size(
    repeats=3,
    processes=3,
    rows=20_000,
    on_disk=4_000,
    backlog=400_000,
    admin=100_000,
    unindexed=2_000_000,
    objects=1_000,
    passing=0,
    requests=30,
)
FULL = Size(
    repeats=5,
    processes=7,
    rows=100_000,
    on_disk=20_000,
    backlog=10_000_000,
    admin=1_000_000,
    unindexed=20_000_000,
    objects=10_000,
    passing=10_000_000,
    requests=400,
)


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Return the median of ours by the median of theirs."""
    return median(ours) / median(theirs)
