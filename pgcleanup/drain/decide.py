"""What to do with a name, given what is known of it. Pure: touches neither database nor storage."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from pgcleanup.ledger.claims import Claim
from pgcleanup.models import Outcome
from pgcleanup.references import Answer
from pgcleanup.storages import Presence, Seen, unclean

# An entry that is in the way is stamped, or claimed by another drain, within moments.
OTHER_ENTRY_WAIT = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Settled:
    """Settle the name without touching a file."""

    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class Left:
    """Leave the name alone for a while."""

    waiting: str
    wait: timedelta
    detail: str


def before_looking(claim: Claim, answer: Answer) -> Settled | Left | None:
    """Decide by what the database knows; None means that the file must be looked at.

    The order matters. A referenced name is kept without a further question; one with another entry may yet
    be named by a transaction that this drain's fence does not cover.
    """
    if claim.name in answer.references:
        return Settled(Outcome.KEPT, answer.references[claim.name])
    if claim.name in answer.entries:
        return Left("other_entry", OTHER_ENTRY_WAIT, f"an entry of {answer.entries[claim.name]} is not due yet")
    if claim.cancelled:
        return Settled(Outcome.CANCELLED, "cancelled")
    if claim.keep:
        return Settled(Outcome.KEPT, "keep()")
    reason = unclean(claim.name)
    return Settled(Outcome.REJECTED, reason) if reason else None


def after_looking(seen: Seen, upload_window: timedelta) -> Settled | Left | None:
    """Decide by what stands under the name; None means that the file is to be deleted.

    Absent means without calling delete: an upload could take the free name before the call.
    """
    if seen.presence is Presence.ABSENT:
        return Settled(Outcome.ABSENT, "")
    if seen.presence is Presence.DIRECTORY:
        return Settled(Outcome.REJECTED, "a directory")
    if seen.presence is Presence.ALIAS:
        return Settled(Outcome.REJECTED, "the storage has this file under another name")
    if seen.age is not None and seen.age < upload_window:
        wait = upload_window - seen.age
        return Left("upload_window", wait, f"written {round(seen.age.total_seconds())} s ago")
    return None


def written_again(upload_window: timedelta) -> Left:
    """Leave a name whose file was written between the look and the deletion, which the storage refused for that."""
    return Left("upload_window", upload_window, "written again a moment ago")


def from_elsewhere_first(claims: Sequence[Claim]) -> list[Claim]:
    """Return the claims with a few from other folders, or else from further on, at their head.

    After deletions that failed one after the other: is it their folder, or the storage?
    """
    here = posixpath.dirname(claims[0].name)
    elsewhere = {posixpath.dirname(claim.name): claim for claim in claims}
    elsewhere.pop(here, None)
    others = [*elsewhere.values()][:3] or [claims[len(claims) // 2], claims[-1]]
    heads = {claim.ids: claim for claim in others}
    return [*heads.values(), *(claim for claim in claims if claim.ids not in heads)]
