"""For the tests of projects: drain inside a test's own transaction, look at what became of files, make storages fail.

    from pgcleanup.testing import assert_files_deleted

    def test_replacing_the_file(self):
        with assert_files_deleted(self.document.file):
            self.client.post(self.url, {"file": new_file})

Works in an ordinary TestCase and with pytest-django's `db`, with no commit. See docs/testing.md.
"""

from __future__ import annotations

from pgcleanup.testing.assertions import FileAssertions, assert_files_deleted, assert_files_kept
from pgcleanup.testing.draining import Drained, drain_now
from pgcleanup.testing.storages import FailingStorage, replace_storage

__all__ = [
    "Drained",
    "FailingStorage",
    "FileAssertions",
    "assert_files_deleted",
    "assert_files_kept",
    "drain_now",
    "replace_storage",
]
