"""Rows that no trigger records: a name that one of them has let go is in no ledger, and so in no fence.

A transaction may have read it there, and write it to another row. Where a storage has such columns (excluded ones,
extra references, a trigger that is missing or disabled), a name that no row names any more is not deleted yet. The
transactions that are open then may have read it: the name waits for them, and is checked once more. Whoever reads it
later has it from a row that the second check sees.
"""

from __future__ import annotations

from collections.abc import Sequence

from pgcleanup.drain import decide
from pgcleanup.drain.context import Context
from pgcleanup.ledger.claims import Claim
from pgcleanup.references import Answer


def to_be_checked_again(context: Context, found: Sequence[Claim], answer: Answer) -> list[Claim]:
    """Return the claims that would be deleted now, and have not waited for those who may have read them."""
    return [
        claim
        for claim in found
        if not claim.checked and decide.before_looking(claim, answer) is None and context.kept_at_once(claim) is None
    ]
