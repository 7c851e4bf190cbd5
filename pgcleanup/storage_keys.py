"""Which storages are the same place: two fields share a storage when deleting in one deletes in the other."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from django.core.files.storage import FileSystemStorage, InMemoryStorage, Storage
from django.db.models import FileField
from django.utils.functional import LazyObject, empty

UNUSABLE = "unusable"

# What decides which file a name means, over the storages that people use (django-storages among them). Nothing that
# only says how to get there, such as Google Cloud's custom_endpoint and project_id: that makes no other place.
_FOLDER = ("location", "_location", "root_path")
_PLACE = (
    *_FOLDER,
    "base_location",
    "bucket_name",
    "endpoint_url",
    "azure_container",
    "account_name",
    "host",  # SFTP's, of which two may have one root_path
)
_PASSWORD = re.compile(r"(//[^/:@]*):[^/]*(?=@)")
"""In a URL, which django-storages' FTP storage has for its location."""
_AWS = re.compile(r"s3[.-](?:[a-z0-9.-]+\.)?amazonaws\.com(?:\.cn)?")
"""The host of S3 itself, which is where a storage without an endpoint works."""
_CREDENTIAL = re.compile(r"secret|passw|token|credential|key|sas|auth|session", re.IGNORECASE)


def unwrapped(storage: Storage) -> Storage:
    """Return the storage behind a lazy one, such as `default_storage`."""
    while isinstance(storage, LazyObject):
        if storage._wrapped is empty:
            storage._setup()
        storage = storage._wrapped
    return storage


def storage_key(storage: Storage) -> str:
    """Return a digest of the place a storage keeps its files in; never of a credential.

    Equal for two storages that would delete the same file. Two local storages are the same place when
    their resolved locations are equal, whatever their classes: taking them for two could delete a file
    that the other one's rows still name. So are two that say the same `pgcleanup_place`.
    """
    return hashlib.sha256(repr(_place(unwrapped(storage))).encode()).hexdigest()[:32]


def lies_inside(inner: Storage, outer: Storage) -> bool:
    """Whether each file of `inner` is one of `outer` as well, under a longer name."""
    (place, folder), (outer_place, outer_folder) = _place(unwrapped(inner)), _place(unwrapped(outer))
    shared = len(outer_folder)
    return place == outer_place and len(folder) > shared and folder[:shared] == outer_folder


class StorageKeys:
    """The keys of many fields' storages, each storage looked at once: resolving a location asks the file system.

    For one pass over the models, no longer: a storage may be another place after its settings have changed.
    """

    def __init__(self) -> None:
        # With the storage itself: the id of one that is gone may be another's.
        self._known: dict[int, tuple[Storage, str]] = {}

    def of(self, field: FileField) -> str:
        """Return the key of the field's storage, or one that no storage has where it cannot be set up.

        Broken storage settings must not break a migration. The drain refuses such a storage by itself, since
        the key differs from the database's, and a check names it.
        """
        try:
            return self._of_storage(field.storage)
        except Exception as error:  # whatever a third party's storage raises when it is made
            return f"{UNUSABLE}: {type(error).__name__}"

    def _of_storage(self, storage: Storage) -> str:
        if id(storage) not in self._known:
            self._known[id(storage)] = storage, storage_key(storage)
        return self._known[id(storage)][1]


def describe(storage: Storage) -> str:
    """Name a storage for people: class and place, no credentials."""
    storage = unwrapped(storage)
    known = _attributes(storage)
    place = known.get("location") or known.get("_location")
    bucket = known.get("bucket_name") or known.get("azure_container")
    parts = [part for part in (bucket and f"bucket {bucket}", place) if part]
    return f"{type(storage).__name__} ({', '.join(parts)})" if parts else type(storage).__name__


def _place(storage: Storage) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """Return the disk, bucket or server that a storage works on, and the path of its folder there."""
    said = getattr(storage, "pgcleanup_place", None)
    if said is not None:
        if not isinstance(said, str):
            raise TypeError(f"pgcleanup_place is a text, not {said!r}")
        return ("pgcleanup_place", said), ()
    if isinstance(storage, FileSystemStorage):
        return ("FileSystemStorage",), Path(os.path.realpath(storage.location)).parts
    # The class that deletes first of all, not one that derives from it: a public and a private one are one place.
    deletes = [kind for kind in type(storage).__mro__ if "delete" in vars(kind) and kind is not Storage]
    base = deletes[-1] if deletes else type(storage)
    name = f"{base.__module__}.{base.__qualname__}"
    known = _attributes(storage)
    if known and not isinstance(storage, InMemoryStorage):
        folder = PurePosixPath(next((known.pop(name) for name in _FOLDER if name in known), "")).parts
        return (name, *sorted(known.items())), folder
    return (name, *sorted(known.items()), *_constructor_arguments(storage)), ()


def _attributes(storage: Storage) -> dict[str, str]:
    values = {name: getattr(storage, name, None) for name in _PLACE}
    texts = {name: str(value) for name, value in values.items() if isinstance(value, str | os.PathLike)}
    if "endpoint_url" in texts:
        texts["endpoint_url"] = _endpoint(texts["endpoint_url"])
    return {name: cleaned for name, text in texts.items() if (cleaned := _PASSWORD.sub(r"\1", text.rstrip("/")))}


def _endpoint(url: str) -> str:
    """Return a server's address in one spelling; none for AWS itself."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return url
    if _AWS.fullmatch(host):
        return ""
    default = {"http": 80, "https": 443}.get(parts.scheme)
    address = parts.netloc.lower()
    return parts._replace(netloc=address.removesuffix(f":{port}") if port == default else address).geturl()


def _constructor_arguments(storage: Storage) -> tuple[str, ...]:
    """Return what a storage was made with, as `@deconstructible` keeps it, less what smells of a credential."""
    positional, named = getattr(storage, "_constructor_args", ((), {}))
    shown = [_text(value) for value in positional]
    shown += [f"{name}={_text(value)}" for name, value in sorted(named.items()) if not _CREDENTIAL.search(name)]
    return tuple(shown)


def _text(value: Any) -> str:
    """Return a text that is the same in every process: an object's default repr has its address in it."""
    plain = isinstance(value, str | int | float | bool | os.PathLike | type(None))
    return repr(value) if plain else type(value).__qualname__
