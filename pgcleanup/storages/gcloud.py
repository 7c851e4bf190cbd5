"""Google Cloud Storage, by the client of django-storages: many looks at a time, a hundred deletions a call.

Each deletion is on the condition that the object is still the generation that was seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from django.core.files.storage import Storage
from google.api_core.exceptions import from_http_response

from pgcleanup.storages.base import ABSENT, ALIAS, Changed, Presence, Seen
from pgcleanup.storages.calls import Calls
from pgcleanup.storages.clients import seconds_of_a_request
from pgcleanup.storages.one_by_one import THREADS, OneByOne

# The most that Google asks for in one batch.
_AT_ONCE = 100


class GoogleCloudAdapter(OneByOne):
    """The GoogleCloudStorage of django-storages."""

    stands_in_for = ("delete", "exists", "get_modified_time", "size", "_normalize_name")
    storage: Any

    def __init__(self, storage: Storage, calls: Calls | None = None) -> None:
        super().__init__(storage, calls, threads=THREADS)
        # One attempt, as with S3, and no longer than the drain waits for a call.
        self._options = {"timeout": seconds_of_a_request(), "retry": None}

    def delete_many(self, files: Mapping[str, Seen]) -> dict[str, Exception | None]:
        def delete(names: Sequence[str]) -> dict[str, Exception | None]:
            return self._delete_together({name: files[name] for name in names})

        return self._each_part("delete", list(files), _AT_ONCE, delete)

    def _look(self, name: str) -> Seen:
        if "\\" in name:
            return ALIAS
        blob = self.storage.bucket.get_blob(self.storage._normalize_name(name), **self._options)
        if blob is None:
            return ABSENT
        return Seen(Presence.PRESENT, datetime.now(timezone.utc) - blob.updated, blob.size, blob.generation)

    def _delete(self, name: str, seen: Seen) -> None:
        answer = self._delete_together({name: seen})[name]
        if answer is not None:
            raise answer

    def _delete_together(self, files: Mapping[str, Seen]) -> dict[str, Exception | None]:
        bucket = self.storage.bucket
        batch = self.storage.client.batch(raise_exception=False)
        with batch:
            for name, seen in files.items():
                key = self.storage._normalize_name(name)
                bucket.delete_blob(key, if_generation_match=seen.version, **self._options)
        # Documented, although of this name: the responses in the order of the calls.
        return {name: _outcome(name, response) for name, response in zip(files, batch._responses, strict=True)}


def _outcome(name: str, response: Any) -> Exception | None:
    if response.status_code < 300 or response.status_code == 404:
        return None
    if response.status_code == 412:
        return Changed(name)
    error: Exception = from_http_response(response)
    return error
