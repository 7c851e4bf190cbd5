"""What `migrate pgcleanup zero` would take back, and what it must not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pgcleanup.exceptions import OthersWouldBeUnapplied

_OURS = "pgcleanup"


def refuse_what_would_be_lost(plan: Sequence[tuple[Any, bool]]) -> None:
    """Stop a `migrate` before it takes anything back that nobody wants to lose.

    Args:
        plan: what `migrate` is about to do: migrations, and whether they are taken back.

    Raises:
        OthersWouldBeUnapplied: migrations of other apps come after those of ours that are taken back. Their tables
            would go with them.
    """
    unapplied = [migration for migration, backwards in plan if backwards]
    others = [migration for migration in unapplied if migration.app_label != _OURS]
    if others and len(others) < len(unapplied):
        raise OthersWouldBeUnapplied(_explained(others))


def _explained(others: list[Any]) -> str:
    names = ", ".join(sorted(str(migration) for migration in others))
    depend = [migration for migration in others if any(app == _OURS for app, _ in migration.dependencies)]
    direct = ", ".join(sorted(str(migration) for migration in depend))
    return (
        f"this would also take back {names}, and drop what they made. Nothing was changed. To keep them, take the "
        f"line of {_OURS} out of the dependencies of {direct}, and run it again: the triggers go all the same. If they "
        "are to go, take them back first."
    )
