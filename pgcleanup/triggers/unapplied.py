"""What `migrate pgcleanup zero` would take back, and what it must not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pgcleanup.exceptions import OthersWouldBeUnapplied
from pgcleanup.triggers import refuse_while_pending

_OURS = "pgcleanup"
_TAKES_TRIGGERS_OUT = "0002_triggers"


def refuse_what_would_be_lost(using: str, plan: Sequence[tuple[Any, bool]]) -> None:
    """Stop a `migrate` before it takes anything back that nobody wants to lose.

    Args:
        using: the database alias.
        plan: what `migrate` is about to do: migrations, and whether they are taken back.

    Raises:
        OthersWouldBeUnapplied: migrations of other apps come after those of ours that are taken back. Their tables
            would go with them.
        PendingEntries: the triggers would go while entries are pending. Their migration says so as well, but by
            then those after it are gone.
    """
    unapplied = [migration for migration, backwards in plan if backwards]
    ours = {migration.name for migration in unapplied if migration.app_label == _OURS}
    if not ours:
        return
    if others := [migration for migration in unapplied if migration.app_label != _OURS]:
        raise OthersWouldBeUnapplied(_explained(others))
    if _TAKES_TRIGGERS_OUT in ours:
        refuse_while_pending(using)


def _explained(others: list[Any]) -> str:
    names = ", ".join(sorted(str(migration) for migration in others))
    depend = [migration for migration in others if any(app == _OURS for app, _ in migration.dependencies)]
    direct = ", ".join(sorted(str(migration) for migration in depend))
    return (
        f"this would also take back {names}, and drop what they made. Nothing was changed. To keep them, take the "
        f"line of {_OURS} out of the dependencies of {direct}, and run it again: the triggers go all the same. If they "
        "are to go, take them back first."
    )
