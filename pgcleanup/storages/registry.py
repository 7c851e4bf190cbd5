"""Which way to work on which class of storages."""

from __future__ import annotations

from django.core.files.storage import FileSystemStorage, InMemoryStorage, Storage
from django.utils.module_loading import import_string

from pgcleanup.storages.base import Adapter
from pgcleanup.storages.calls import Calls
from pgcleanup.storages.generic import GenericAdapter, SerialAdapter
from pgcleanup.storages.local import LocalAdapter
from pgcleanup.storages.one_by_one import OneByOne

# By the name of the class, since most of these libraries are not installed.
_registered: dict[str, type[Adapter] | str] = {
    "django.core.files.storage.filesystem.FileSystemStorage": LocalAdapter,
    "django.core.files.storage.memory.InMemoryStorage": SerialAdapter,
    "storages.backends.s3.S3Storage": "pgcleanup.storages.s3.S3Adapter",
    "storages.backends.gcloud.GoogleCloudStorage": "pgcleanup.storages.gcloud.GoogleCloudAdapter",
    "storages.backends.azure_storage.AzureStorage": "pgcleanup.storages.azure.AzureAdapter",
    # One connection each, which two threads must not use at the same time.
    "storages.backends.ftp.FTPStorage": SerialAdapter,
    "storages.backends.sftpstorage.SFTPStorage": SerialAdapter,
}
# Files on this machine: threads would wait for each other, not for a server.
_SERIAL = (FileSystemStorage, InMemoryStorage)


def register(storage: type[Storage] | str, adapter: type[Adapter] | str) -> None:
    """Work on this class of storages, and on what derives from it, by this adapter.

    Not on a derived class that overrides one of the methods in `adapter.stands_in_for`: it keeps its own way, through
    Django's storage API. Call it when the app registry is ready, in `AppConfig.ready()`.

    Args:
        storage: a class, or its full dotted name as `module.qualname` gives it.
        adapter: a subclass of `Adapter`, or its dotted path. `SerialAdapter` uses Django's storage API in one thread,
            `GenericAdapter` in many.
    """
    _registered[storage if isinstance(storage, str) else _dotted_name(storage)] = adapter


def adapter_for(storage: Storage, calls: Calls | None = None, *, threads: bool = True) -> Adapter:
    """Return the way to work on this (resolved) storage; without `threads`, in this thread alone."""
    made = _adapter_class(storage)(storage, calls)
    if isinstance(made, OneByOne) and not threads:
        made.in_this_thread()
    return made


def _adapter_class(storage: Storage) -> type[Adapter]:
    kind = type(storage)
    for base in kind.__mro__:
        if (found := _registered.get(_dotted_name(base))) is not None:
            adapter: type[Adapter] = import_string(found) if isinstance(found, str) else found
            if all(getattr(kind, name, None) is getattr(base, name, None) for name in adapter.stands_in_for):
                return adapter
            break
    return SerialAdapter if isinstance(storage, _SERIAL) else GenericAdapter


def _dotted_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
