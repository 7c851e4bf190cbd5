"""The subcommands of `manage.py pgcleanup`, in the order of its --help.

To add one: a module with a `Subcommand`, a line here, and a row in docs/reference.md.
"""

from __future__ import annotations

from pgcleanup.management.subcommands.adopt import Adopt
from pgcleanup.management.subcommands.base import Subcommand
from pgcleanup.management.subcommands.explain import Explain
from pgcleanup.management.subcommands.export import Export
from pgcleanup.management.subcommands.makemigration import MakeMigration
from pgcleanup.management.subcommands.operate import Cancel, Retry
from pgcleanup.management.subcommands.pause import Pause, Resume
from pgcleanup.management.subcommands.prune import Prune
from pgcleanup.management.subcommands.status import Status
from pgcleanup.management.subcommands.sync import Sync
from pgcleanup.management.subcommands.uninstall import Uninstall

__all__ = ["SUBCOMMANDS", "Subcommand"]

SUBCOMMANDS: tuple[type[Subcommand], ...] = (
    Status,
    Explain,
    Sync,
    MakeMigration,
    Retry,
    Cancel,
    Pause,
    Resume,
    Adopt,
    Export,
    Prune,
    Uninstall,
)
