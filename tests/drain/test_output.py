"""An output that cannot show or take what is written to it. Pipes and processes: tests/process/test_output.py."""

from __future__ import annotations

import errno
import io
import json

import pytest
from django.core.management import CommandError, call_command

from tests.drain.support import orphaned, settled

NAME = "é🙂.txt"
ESCAPED = r"\u00e9\ud83d\ude42.txt"


class Full(io.StringIO):
    """A file on a disk that is full."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def ascii_output(*options: str, verbosity: int = 1) -> str:
    """Drain with an output that has no other characters, and return what was written."""
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    call_command("drain_deletions", *options, stdout=output, verbosity=verbosity)
    return output.buffer.getvalue().decode()  # type: ignore[attr-defined]  # a BytesIO


def test_name_that_the_output_cannot_show_is_escaped() -> None:
    path = orphaned(NAME)

    output = ascii_output(verbosity=2)

    assert ESCAPED in output
    assert not path.exists()


def test_name_that_the_output_cannot_show_is_what_it_was_to_machines() -> None:
    orphaned(NAME)

    output = ascii_output("--dry-run", "--json")

    assert ESCAPED in output
    assert json.loads(output)["files"][0]["name"] == NAME


@pytest.mark.parametrize("command", [("drain_deletions",), ("pgcleanup", "export")], ids=" ".join)
def test_command_whose_output_fills_the_disk_fails_when_its_work_is_done(command) -> None:
    orphaned("a.txt")

    with pytest.raises(CommandError, match=r"could not be written: .* No space left"):
        call_command(*command, stdout=Full())

    assert settled() == ([("a.txt", "deleted")] if command == ("drain_deletions",) else [])
