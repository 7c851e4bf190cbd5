"""How a drain looks at files and deletes them, storage by storage.

`adapter_for(storage)` chooses: `local` for Django's own files on disk, `s3`, `gcloud` and `azure` for those storages of
django-storages, `generic` for every other one; `register` makes it choose another way for a class of your own.
"""

from __future__ import annotations

from pgcleanup.storages.base import Adapter, Changed, Presence, Seen, unclean
from pgcleanup.storages.calls import Call, Calls, block_signals
from pgcleanup.storages.generic import GenericAdapter, SerialAdapter
from pgcleanup.storages.local import LocalAdapter
from pgcleanup.storages.registry import adapter_for, register

__all__ = [
    "Adapter",
    "Call",
    "Calls",
    "Changed",
    "GenericAdapter",
    "LocalAdapter",
    "Presence",
    "Seen",
    "SerialAdapter",
    "adapter_for",
    "block_signals",
    "register",
    "unclean",
]
