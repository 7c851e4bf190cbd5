"""Where the commands write to. What becomes of their output changes nothing of their work."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable
from typing import Any, TextIO

_ESCAPED = "pgcleanup.escaped"


class Output:
    """A stream that does not stop who writes to it: once it fails, what follows is dropped.

    A reader has gone, as with `| head`, or a disk is full. In the midst of a drain that must abort nothing.
    """

    error: OSError | ValueError | None = None
    """Why it was given up."""
    is_of_the_process = False
    """Whether others write to it besides, who must not run into the same error: a receiver that prints."""

    def __init__(self, stream: TextIO | None) -> None:
        # None is what Python has for one that was closed before it began.
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> None:
        """Write; characters that the stream's encoding lacks as JSON escapes them."""
        self._try(lambda stream: stream.write(text), lambda stream: stream.write(_encodable(text, stream)))

    def flush(self) -> None:
        """Hand on what was written."""
        self._try(lambda stream: stream.flush())

    def _try(self, *ways: Callable[[TextIO], object]) -> None:
        if self.error is not None or self._stream is None:
            return
        for way in ways:
            try:
                way(self._stream)
            except UnicodeEncodeError:
                continue
            except (OSError, ValueError) as error:
                self._give_up(error)
            return

    def _give_up(self, error: OSError | ValueError) -> None:
        self.error = error
        if self.is_of_the_process and isinstance(error, OSError) and self._stream is not None:
            # What the stream still holds goes there, too: Python would try it once more in the end, and complain.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def _encodable(text: str, stream: TextIO) -> str:
    return text.encode(stream.encoding, _ESCAPED).decode(stream.encoding)


def _escape(error: UnicodeError) -> tuple[str, int]:
    """Escape as JSON does, in which Python's own \\xe9 and \\U0001f600 mean nothing."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2)), error.end


codecs.register_error(_ESCAPED, _escape)
