"""How far behind a database is, what waits and why, and what stands in the way: looks, changes nothing.

`look` is the whole picture (`manage.py pgcleanup status`), `problems` the part of it that is cheap enough
for every `migrate` and every page of the admin, `coverage` what is recorded, `words` numbers for people.
"""

from __future__ import annotations

from pgcleanup.status.coverage import Coverage, coverage_of
from pgcleanup.status.look import Health, Status, look, too_young
from pgcleanup.status.problems import Age, Problem, age, find_problems, find_stops, problems

__all__ = [
    "Age",
    "Coverage",
    "Health",
    "Problem",
    "Status",
    "age",
    "coverage_of",
    "find_problems",
    "find_stops",
    "look",
    "problems",
    "too_young",
]
