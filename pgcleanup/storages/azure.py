"""Azure Blob Storage, by the client of django-storages: many looks at a time, 256 deletions a call.

Each deletion is on the condition that the blob is still the one that was seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from django.core.files.storage import Storage

from pgcleanup.conf import settings
from pgcleanup.storages.base import ABSENT, ALIAS, Changed, Presence, Seen
from pgcleanup.storages.calls import Calls
from pgcleanup.storages.clients import seconds_of_a_request
from pgcleanup.storages.one_by_one import THREADS, OneByOne

# The most that Azure deletes in one call.
_AT_ONCE = 256


class AzureAdapter(OneByOne):
    """The AzureStorage of django-storages."""

    stands_in_for = ("delete", "exists", "get_modified_time", "size", "_get_valid_path", "_normalize_name")
    storage: Any

    def __init__(self, storage: Storage, calls: Calls | None = None) -> None:
        super().__init__(storage, calls, threads=THREADS)
        seconds = seconds_of_a_request()
        # One attempt, as with S3, and no longer than the drain waits for a call.
        self._options: dict[str, Any] = {"retry_total": 0}
        if seconds is not None:
            self._options |= {"connection_timeout": seconds, "read_timeout": seconds}
        # A blob with snapshots cannot be deleted without them.
        self._snapshots = {"delete_snapshots": "include"} if settings.delete_versions else {}

    def delete_many(self, files: Mapping[str, Seen]) -> dict[str, Exception | None]:
        def delete(names: Sequence[str]) -> dict[str, Exception | None]:
            return self._delete_together({name: files[name] for name in names})

        return self._each_part("delete", list(files), _AT_ONCE, delete)

    def _look(self, name: str) -> Seen:
        if "\\" in name:
            return ALIAS
        blob = self.storage.client.get_blob_client(self.storage._get_valid_path(name))
        try:
            found = blob.get_blob_properties(**self._options)
        except ResourceNotFoundError:
            return ABSENT
        return Seen(Presence.PRESENT, datetime.now(timezone.utc) - found.last_modified, found.size, found.etag)

    def _delete(self, name: str, seen: Seen) -> None:
        answer = self._delete_together({name: seen})[name]
        if answer is not None:
            raise answer

    def _delete_together(self, files: Mapping[str, Seen]) -> dict[str, Exception | None]:
        blobs = [
            {
                "name": self.storage._get_valid_path(name),
                "etag": seen.version,
                "match_condition": MatchConditions.IfNotModified,
                **self._snapshots,
            }
            for name, seen in files.items()
        ]
        responses = self.storage.client.delete_blobs(*blobs, raise_on_any_failure=False, **self._options)
        return {name: _outcome(name, response) for name, response in zip(files, responses, strict=True)}


def _outcome(name: str, response: Any) -> Exception | None:
    if response.status_code < 300 or response.status_code == 404:
        return None
    if response.status_code == 412:
        return Changed(name)
    error: Exception = HttpResponseError(response=response)
    return error
