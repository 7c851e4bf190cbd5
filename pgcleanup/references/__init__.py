"""The one reference check, and what else is asked of the users' tables.

`check` asks which names anything still needs, in one statement and so one snapshot; `sample` for some names that rows
hold; `scans` which columns have no index for it; `rights` which tables may not be read.
"""

from __future__ import annotations

from pgcleanup.references.checking import Answer, check, check_elsewhere
from pgcleanup.references.places import concerns, present
from pgcleanup.references.rights import Forbidden, forbidden, grant_against
from pgcleanup.references.sampling import Sample, sample
from pgcleanup.references.scans import bytes_read, columns_scanned, is_large

__all__ = [
    "Answer",
    "Forbidden",
    "Sample",
    "bytes_read",
    "check",
    "check_elsewhere",
    "columns_scanned",
    "concerns",
    "forbidden",
    "grant_against",
    "is_large",
    "present",
    "sample",
]
