"""S3 and what speaks its protocol, by the client of django-storages: looks by listing, many deletions a call.

Each deletion has a look before it. Where the names lie densely, one listing tells of a thousand of them; else each has
a HEAD of its own, many at a time. A bucket whose storage overwrites names is asked to delete what was seen, and no
other version of it (If-Match).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from os.path import commonprefix
from typing import Any, TypeVar

from boto3.s3.transfer import S3Transfer
from botocore.exceptions import BotoCoreError, ClientError
from django.core.files.storage import Storage

from pgcleanup.conf import settings
from pgcleanup.storages.base import ABSENT, ALIAS, Changed, Presence, Seen
from pgcleanup.storages.calls import Calls
from pgcleanup.storages.clients import with_deadline
from pgcleanup.storages.errors import is_throttled, status_of
from pgcleanup.storages.listing import AT_ONCE, Page, just_before, look_by_listing
from pgcleanup.storages.one_by_one import THREADS, OneByOne
from pgcleanup.storages.s3_errors import as_client_error, is_not_understood, is_refused

T = TypeVar("T")

# A call takes a server as long as it has keys: so many calls at a time, of so many keys at least.
CALLS = 4
WORTH_A_CALL = 100
_MANY = "delete many files, beginning with"

_PAUSES = (0.25, 1.0)
_MARKER = "a delete marker was written: the bucket keeps its versions (PGCLEANUP_DELETE_VERSIONS)"


class _NotUnderstood(Exception):
    """Of a call for many files, by a server that knows none."""


class S3Adapter(OneByOne):
    """The S3Storage of django-storages."""

    stands_in_for = ("delete", "exists", "get_modified_time", "size", "_normalize_name")
    storage: Any

    def __init__(self, storage: Storage, calls: Calls | None = None) -> None:
        super().__init__(with_deadline(storage), calls, threads=THREADS)
        # Unlike the resource, of which each thread has one, a client is everybody's.
        self._client = self.storage.connection.meta.client
        self._bucket: str = self.storage.bucket_name
        self._deletes_versions = settings.delete_versions
        self._if_match = bool(self.storage.file_overwrite)
        self._lists = self._deletes_many = True
        self._is_versioned: bool | None = None

    def look_many(self, names: Sequence[str]) -> dict[str, Seen | Exception]:
        keys = {name: self._key(name) for name in names}
        found: dict[str, Seen | Exception] = {name: ALIAS for name, key in keys.items() if key is None}
        if self._deletes_versions:
            look = self._look_at_versions
        else:
            look = self._look
            by_key = {key: name for name, key in keys.items() if key is not None}
            listed = look_by_listing(list(by_key), self._list, self.calls.enough)
            found |= {by_key[key]: seen for key, seen in listed.items()}
        rest = [name for name in names if name not in found]
        return found | self._until_not_throttled(lambda these: self._each("look at", these, look), rest)

    def delete_many(self, files: Mapping[str, Seen]) -> dict[str, Exception | None]:
        def delete(names: Sequence[str]) -> dict[str, Exception | None]:
            if not self._deletes_many or (len(names) == 1 and not self._deletes_versions):
                return self._each("delete", names, lambda name: self._delete(name, files[name]))
            return self._delete_together({name: files[name] for name in names})

        answers = self._until_not_throttled(delete, list(files), is_refused)
        self.remark = _MARKER if self._is_versioned and not self._deletes_versions else ""
        return answers

    def _key(self, name: str) -> str | None:
        """Return the key of a name; None where the storage has that file under another name."""
        key: str = self.storage._normalize_name(name)
        return None if "\\" in name else key

    def _look(self, name: str) -> Seen:
        key = self._key(name)
        parameters = self.storage.get_object_parameters(key)
        # Of an encrypted object the key must be sent along.
        more = {name: value for name, value in parameters.items() if name in S3Transfer.ALLOWED_DOWNLOAD_ARGS}
        try:
            head = self._client.head_object(Bucket=self._bucket, Key=key, **more)
        except ClientError as error:
            if status_of(error) == 404:
                return ABSENT
            raise
        return _seen(head["LastModified"], head["ContentLength"], head["ETag"])

    def _look_at_versions(self, name: str) -> Seen:
        key, start = self._key(name), dict[str, str]()
        versions: list[dict[str, Any]] = []
        while True:
            page = self._client.list_object_versions(Bucket=self._bucket, Prefix=key, **start)
            # In order, so that the key itself comes before those that only begin with it.
            versions += (version for version in page.get("Versions", ()) if version["Key"] == key)
            if not page["IsTruncated"] or page["NextKeyMarker"] != key:
                break
            start = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}
        if not versions:
            return ABSENT
        newest = max(version["LastModified"] for version in versions)
        ids = tuple((version["VersionId"], version["ETag"]) for version in versions)
        return _seen(newest, sum(version["Size"] for version in versions), ids)

    def _list(self, keys: Sequence[str], size: int) -> Page | None:
        if not self._lists:
            return None
        self.calls.current = f"look at {size:,} names, beginning with", self.storage, keys[0]
        try:
            answer = self._client.list_objects_v2(
                Bucket=self._bucket,
                # Of characters, not of folders.
                Prefix=commonprefix([keys[0], keys[-1]]),  # noqa: RUF071
                StartAfter=just_before(keys[0]),
                MaxKeys=size,
            )
        except (ClientError, BotoCoreError):
            # It may not be listed, or not from a key on: a HEAD for each.
            self._lists = False
            return None
        finally:
            self.calls.current = None
        entries = answer.get("Contents", ())
        there = {entry["Key"]: _seen(entry["LastModified"], entry["Size"], entry["ETag"]) for entry in entries}
        return Page(there, not answer["IsTruncated"])

    def _delete(self, name: str, seen: Seen) -> None:
        condition = {"IfMatch": seen.version} if self._if_match else {}
        try:
            answer = self._client.delete_object(Bucket=self._bucket, Key=self._key(name), **condition)
        except ClientError as error:
            if status_of(error) == 412:
                raise Changed(name) from error
            if condition and is_not_understood(error):
                self._if_match = False
                self._delete(name, seen)
            elif status_of(error) != 404:
                raise
        else:
            self._is_versioned = bool(answer.get("DeleteMarker"))

    def _delete_together(self, files: Mapping[str, Seen]) -> dict[str, Exception | None]:
        """Delete by calls for many files each, a few calls at the same time."""
        size = min(max(-(-len(files) // CALLS), WORTH_A_CALL), AT_ONCE)
        most = max(CALLS * self.threads // THREADS, 1)

        def delete(names: Sequence[str]) -> dict[str, Exception | None]:
            return self._delete_objects({name: files[name] for name in names})

        answers = self._each_part(_MANY, list(files), size, delete, most=most)
        # Not those of another call: they may be gone, and others have their names by now.
        one_by_one = [name for name, answer in answers.items() if isinstance(answer, _NotUnderstood)]
        if not one_by_one:
            return answers
        self._deletes_many = False
        told = {name: answer for name, answer in answers.items() if not isinstance(answer, _NotUnderstood)}
        return {**told, **self._each("delete", one_by_one, lambda name: self._delete(name, files[name]))}

    def _delete_objects(self, files: Mapping[str, Seen]) -> dict[str, Exception | None]:
        """Delete files, up to a thousand objects a call: all versions of one may be more than that."""
        objects = [(name, object_) for name, seen in files.items() for object_ in self._objects(name, seen)]
        names = {object_["Key"]: name for name, object_ in objects}
        told: dict[str, Exception | None] = dict.fromkeys(files)
        for start in range(0, len(objects), AT_ONCE):
            # Told of each, once it is not known whether the bucket keeps versions.
            asked = {
                "Objects": [object_ for _, object_ in objects[start : start + AT_ONCE]],
                "Quiet": self._is_versioned is False,
            }
            try:
                answer = self._client.delete_objects(Bucket=self._bucket, Delete=asked)
            except ClientError as error:
                if is_not_understood(error) and not self._deletes_versions:
                    raise _NotUnderstood from error
                raise
            if deleted := answer.get("Deleted"):
                self._is_versioned = bool(self._is_versioned) or any(one.get("DeleteMarker") for one in deleted)
            errors = {names[error["Key"]]: as_client_error(error) for error in answer.get("Errors", ())}
            told |= {name: error for name, error in errors.items() if error is not None}
        return told

    def _objects(self, name: str, seen: Seen) -> Iterator[dict[str, Any]]:
        key = self._key(name)
        if not self._deletes_versions:
            yield {"Key": key, "ETag": seen.version} if self._if_match else {"Key": key}
            return
        for version, etag in seen.version:  # type: ignore[attr-defined]  # see _look_at_versions
            # Only the one that is no version proper can be overwritten.
            condition = {"ETag": etag} if version == "null" and self._if_match else {}
            yield {"Key": key, "VersionId": version, **condition}

    def _until_not_throttled(
        self,
        ask: Callable[[Sequence[str]], dict[str, T | Exception]],
        names: Sequence[str],
        may_ask_again: Callable[[object], bool] = is_throttled,
    ) -> dict[str, T | Exception]:
        """Ask, and ask again after a while and more slowly for what the server did not get to."""
        answers = ask(names) if names else {}
        for pause in _PAUSES:
            throttled = [name for name, answer in answers.items() if may_ask_again(answer)]
            if not throttled or self.calls.enough():
                break
            self.threads = max(self.threads // 2, 1)
            time.sleep(pause * random.uniform(1, 1.5))  # noqa: S311 -- no secret
            self.calls.alive()
            answers |= ask(throttled)
        return answers


def _seen(modified: datetime, size: int, version: Any) -> Seen:
    return Seen(Presence.PRESENT, datetime.now(timezone.utc) - modified, size, version)
