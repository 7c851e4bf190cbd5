"""File deletions in the admin: an overview, what is pending, what was settled, and each file's story."""

from __future__ import annotations

from pgcleanup.admin.mixin import FileHistoryMixin
from pgcleanup.admin.pending import PendingAdmin
from pgcleanup.admin.settled import SettledAdmin

__all__ = ["FileHistoryMixin", "PendingAdmin", "SettledAdmin"]
