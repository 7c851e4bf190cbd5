"""What a drain's process has in addition when it is to be killed. All of it is told by the environment:

PGCLEANUP_TEST_HEARD    the file to which its receivers append what they hear
PGCLEANUP_TEST_PAUSE    seconds that a receiver takes, so that there is a mid-work to be killed in
PGCLEANUP_TEST_PRINT    its receivers print what they hear
PGCLEANUP_TEST_BATCH    names in one batch
PGCLEANUP_TEST_WINDOW   seconds of PGCLEANUP_UPLOAD_WINDOW, where names are used again
PGCLEANUP_TEST_SECONDS_TO_END   instead of the six that a drain has to end after SIGTERM
PGCLEANUP_TEST_HANG     the storage hangs with every deletion while this file exists
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.core.files.storage import FileSystemStorage


class Listening(AppConfig):
    """Connects the receivers."""

    name = "tests.faults.listening"

    def ready(self) -> None:
        """Connect them; they live as long as the process."""
        from pgcleanup.drain import run
        from pgcleanup.management import stopping
        from pgcleanup.signals import cleanup_post_delete, cleanup_pre_delete

        run.BATCH_SIZE = int(os.environ.get("PGCLEANUP_TEST_BATCH", run.BATCH_SIZE))
        if seconds := os.environ.get("PGCLEANUP_TEST_SECONDS_TO_END"):
            stopping.SECONDS_TO_END = float(seconds)
        if path := os.environ.get("PGCLEANUP_TEST_HEARD"):
            # Each line is one write: O_APPEND keeps those of several processes apart, and a kill cannot cut it.
            self.descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            cleanup_pre_delete.connect(self.before)
            cleanup_post_delete.connect(self.after)

    def before(self, file_name: str, **kwargs: Any) -> None:
        """Note the first signal, and take some time."""
        self.note("pre", file_name)
        if "PGCLEANUP_TEST_PRINT" in os.environ:
            print(file_name, flush=True)
        time.sleep(float(os.environ.get("PGCLEANUP_TEST_PAUSE", "0")))

    def after(self, file_name: str, **kwargs: Any) -> None:
        """Note the second."""
        self.note("post", file_name)

    def note(self, signal: str, name: str) -> None:
        """Append one line."""
        os.write(self.descriptor, f"{os.getpid()} {signal} {name}\n".encode())


class HangingFiles(FileSystemStorage):
    """Files on a disk that does not answer, for a while."""

    def delete(self, name: str) -> None:
        """Wait first."""
        hanging = Path(os.environ["PGCLEANUP_TEST_HANG"])
        if hanging.exists():
            Path(f"{hanging}.reached").touch()
        while hanging.exists():
            time.sleep(0.05)
        super().delete(name)
