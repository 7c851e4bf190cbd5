"""How to work on a name: in which storage, with whom to tell of it, and together with which others."""

from __future__ import annotations

from dataclasses import dataclass

from pgcleanup.columns import FileColumn
from pgcleanup.drain.deliver import Delivery
from pgcleanup.ledger.claims import Claim
from pgcleanup.storages import Adapter, Seen


@dataclass(frozen=True, slots=True)
class Way:
    """How to work on a name. Those of one way are looked at and deleted together."""

    adapter: Adapter
    column: FileColumn
    """To tell of it, and to delete through where its class does more than delete."""
    heard: bool
    """Whether anybody listens to its signals."""
    by_itself: bool
    """Whether the field's class deletes in its own way."""

    @property
    def told(self) -> bool:
        """Whether somebody sees the file before it goes."""
        return self.heard or self.by_itself

    @property
    def one_by_one(self) -> bool:
        """Whether the next name is not told of before the one before it is done with."""
        return self.by_itself or (self.heard and not self.adapter.remote)

    def goes_with(self, other: Way) -> bool:
        """Whether names of both are worked on together."""
        return self.adapter is other.adapter and self.told == other.told and not (self.by_itself or other.by_itself)


@dataclass(slots=True)
class File:
    """One that is about to go."""

    claim: Claim
    way: Way
    seen: Seen
    delivery: Delivery | None = None
