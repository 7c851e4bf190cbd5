"""A progress bar while a drain runs: tqdm's where it is installed, else a line every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from pgcleanup.drain import FileResult
from pgcleanup.management.output.stream import Output
from pgcleanup.models import Outcome
from pgcleanup.status.words import number, size

SECONDS_BETWEEN_LINES = 5.0

Advance = Callable[[FileResult], None]


@contextmanager
def progress_on(stream: TextIO, total: int | None) -> Iterator[Advance]:
    """Show on `stream`, a terminal, how far a drain is. What it shows is cleared or ended with the block."""
    careful: Any = Output(stream)
    try:
        from tqdm import tqdm
    except ImportError:
        yield _Lines(careful, total)
        return
    with tqdm(total=total, unit=" files", desc="Deleting", file=careful, leave=False, dynamic_ncols=True) as bar:

        def advance(result: FileResult) -> None:
            bar.update()

        yield advance


class _Lines:
    def __init__(self, stream: TextIO, total: int | None) -> None:
        self._stream = stream
        self._of = f" of {number(total)}" if total else ""
        self._names = self._bytes = 0
        self._written = time.monotonic()

    def __call__(self, result: FileResult) -> None:
        self._names += 1
        self._bytes += result.bytes if result.outcome is Outcome.DELETED else 0
        if time.monotonic() - self._written >= SECONDS_BETWEEN_LINES:
            self._written = time.monotonic()
            self._stream.write(f"{number(self._names)}{self._of} files done, {size(self._bytes)} deleted\n")
            self._stream.flush()
