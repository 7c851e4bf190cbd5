"""Clients that would wait and try again for longer than a drain may."""

from __future__ import annotations

import copy
from typing import Any
from weakref import WeakKeyDictionary

from django.core.files.storage import Storage

from pgcleanup.conf import settings
from pgcleanup.storages.s3_times import read_times_quickly

# Of a deadline for one request to connect, and to be answered: one that fails leaves time to say so.
_SHARE = 4

# As many as there are threads that ask at the same time.
CONNECTIONS = 32

# A client takes long to make, and a process may drain after each commit.
_made: WeakKeyDictionary[Storage, tuple[float, Storage]] = WeakKeyDictionary()


def seconds_of_a_request() -> float | None:
    """Return how long a client may wait for the answer to one request; None without a limit."""
    seconds = settings.storage_timeout.total_seconds()
    return seconds / _SHARE if seconds else None


def with_deadline(storage: Storage) -> Storage:
    """Return a copy of a storage whose client gives up in time; the same one where none can be told.

    In time is before PGCLEANUP_STORAGE_TIMEOUT is over.

    Knows the S3 storages of django-storages, which have boto3's `client_config`. By itself boto3 waits for a
    minute, twice, and makes up to five attempts.

    One attempt only: the answer to a deletion may get lost, and an upload take the free name before the client
    sends the deletion once more. A drain that tries again looks at the file first.
    """
    seconds = settings.storage_timeout.total_seconds()
    config: Any = getattr(storage, "client_config", None)
    if not seconds or not hasattr(config, "merge") or not hasattr(config, "read_timeout"):
        return storage
    if type(storage).__hash__ is None:
        return storage
    known_seconds, known = _made.get(storage, (0.0, storage))
    if known_seconds == seconds:
        return known
    longest = seconds / _SHARE
    retries = {name: value for name, value in (config.retries or {}).items() if name != "max_attempts"}
    shorter = type(config)(
        connect_timeout=min(config.connect_timeout, longest),
        read_timeout=min(config.read_timeout, longest),
        max_pool_connections=max(config.max_pool_connections, CONNECTIONS),
        retries={**retries, "total_max_attempts": 1},
    )
    # Its own `__getstate__` leaves the connections behind, which have the old timeouts.
    changed: Any = copy.copy(storage)
    changed.client_config = config.merge(shorter)
    read_times_quickly(changed)
    _made[storage] = seconds, changed
    return changed  # type: ignore[no-any-return]
