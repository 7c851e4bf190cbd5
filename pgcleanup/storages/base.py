"""What a drain needs of a storage."""

from __future__ import annotations

import ntpath
import re
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from datetime import timedelta
from enum import Enum
from typing import ClassVar, NamedTuple

from django.core.files.storage import Storage

from pgcleanup.storages.calls import Calls


class Presence(Enum):
    """What a look found under a name."""

    PRESENT = "present"
    ABSENT = "absent"
    DIRECTORY = "directory"
    ALIAS = "alias"
    """The storage has the file under another name, which rows may name."""


class Seen(NamedTuple):
    """What a look told of one name."""

    presence: Presence
    age: timedelta | None = None
    """Since the last write, by this machine's clock; None where the storage cannot tell. May be negative."""
    size: int | None = None
    version: Hashable = None
    """What tells these bytes from others under the same name, where the storage can delete on that condition."""


ABSENT = Seen(Presence.ABSENT)
DIRECTORY = Seen(Presence.DIRECTORY)
ALIAS = Seen(Presence.ALIAS)


class Changed(Exception):
    """Not deleted: the name was written again after the look."""


class Adapter(ABC):
    """One storage, as a drain works on it: it looks at many names together, and deletes what may go together.

    Both answer name by name, with an exception for a name of which the storage raised one; never because a file is not
    there, which differs from storage to storage. A name that is missing from the answer was not tried, and comes again
    later: because `calls.enough()` said so, or because nothing worked. What they raise is the exception of every name.

    To work on storages of your own in another way than through Django's storage API, subclass it and `register` it.
    """

    stands_in_for: ClassVar[tuple[str, ...]] = ()
    """Methods of the storage that this does in its own way: a class that overrides one of them keeps its own."""
    at_once = 1
    """How many names are looked at, and then deleted, together, at most."""
    at_first = 1
    """How many at first, before it is known how long they take."""
    remote = False
    """Whether the time goes into waiting for a server: then even names that receivers are told of go together."""
    has_folders = False
    """Whether another volume may be mounted on a folder, whose files are gone together with it."""
    remark = ""
    """What is to be noted of each deletion, such as that the bucket keeps old versions."""

    def __init__(self, storage: Storage, calls: Calls | None = None) -> None:
        self.storage = storage
        self.calls = Calls() if calls is None else calls

    @abstractmethod
    def look_many(self, names: Sequence[str]) -> dict[str, Seen | Exception]:
        """Look at names, without following any out of the storage. They are clean (see `unclean`) and differ."""

    @abstractmethod
    def delete_many(self, files: Mapping[str, Seen]) -> dict[str, Exception | None]:
        """Delete files that were seen a moment ago; None for each that went, or had gone meanwhile.

        On the condition of the version seen where the storage can, with `Changed` for one that has another.
        """

    def look(self, name: str) -> Seen:
        """Look at one name.

        Raises:
            Exception: whatever the storage raises.
        """
        seen = self.look_many([name])[name]
        if isinstance(seen, Exception):
            raise seen
        return seen

    def trouble(self) -> str | None:
        """Say why the storage as a whole must not be believed when it says that a file is absent, if so."""
        return None

    def is_empty(self) -> bool:
        """Whether the storage can tell that it holds nothing at all."""
        return False


# An empty, "." or ".." part, a drive or a share of Windows. Most names have none of it. "10:30.png" is a name.
_SUSPICIOUS = re.compile(r"(?:^|/)\.{0,2}(?:/|\Z)|^[A-Za-z]:[/\\]|^\\")


def unclean(name: str) -> str | None:
    """Say why a name must not be handed to any storage, or return None for a clean one."""
    if not _SUSPICIOUS.search(name):
        return None
    if not name or name == ".":
        return "empty name"
    if ".." in name.split("/"):
        return "leads out of the storage"
    if name[0] == "/" or ntpath.isabs(name) or name[0] == "\\":
        return "absolute path"
    return "not normalised"
