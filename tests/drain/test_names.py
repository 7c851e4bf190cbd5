"""Whatever a column held: a clear answer, no file outside the storage touched, and no name lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgcleanup.drain import drain
from pgcleanup.models import Outcome
from tests.drain.support import let_go, pending, put, results, settled
from tests.project.models import Document
from tests.storages import MemoryStorage

UNCLEAN = {
    "../outside.txt": "leads out of the storage",
    "docs/../../outside.txt": "leads out of the storage",
    "docs/..": "leads out of the storage",
    "/etc/hostname": "absolute path",
    "C:\\outside.txt": "absolute path",
    "\\\\host\\share": "absolute path",
    ".": "empty name",
    "docs//a.txt": "not normalised",
    "docs/./a.txt": "not normalised",
    "./a.txt": "not normalised",
    "docs/": "not normalised",
}
ORDINARY = {
    "unicode": "docs/Überraschung-ファイル-🎉.txt",
    "combining characters": "docs/u\u0308.txt",
    "quotes": 'docs/it\'s "quoted" `name`.txt',
    "newline": "docs/two\nlines.txt",
    "percent signs": "docs/100%s %(name)s %%.txt",
    "backslash": "docs/back\\slash.txt",
    "blanks": " docs /  a.txt ",
    "dots that lead nowhere": "docs/..a..b..txt",
    "dollar signs and braces": "docs/$1 {} {name}.txt",
    "no folder": "a.txt",
}


@pytest.mark.parametrize("name", UNCLEAN)
def test_name_that_is_not_clean_is_rejected_and_nothing_is_touched(name, media_root: Path):
    outside = media_root.parent / "outside.txt"
    outside.write_text("not ours")
    inside = put("docs/a.txt")
    let_go(name)

    report = drain()

    assert report.counts == {Outcome.REJECTED: 1}
    assert settled("name, outcome, reason") == [(name, "rejected", UNCLEAN[name])]
    assert outside.exists()
    assert inside.exists()


@pytest.mark.parametrize("name", UNCLEAN)
def test_name_that_is_not_clean_never_reaches_the_storage(name, store, heard):
    storage = store(MemoryStorage(), Document)
    let_go(name)

    drain()

    assert storage.calls == []
    assert heard == []


@pytest.mark.parametrize("name", UNCLEAN)
def test_name_that_is_not_clean_but_still_in_use_is_kept(name):
    Document.objects.create(file=name)
    let_go(name)

    assert drain().counts == {Outcome.KEPT: 1}


@pytest.mark.parametrize("name", ORDINARY.values(), ids=ORDINARY)
def test_file_goes_whose_name_has(name):
    path = put(name)
    beside = put("docs/beside.txt")
    let_go(name)

    report, heard = results()

    assert report.counts == {Outcome.DELETED: 1}
    assert heard[name].outcome is Outcome.DELETED
    assert settled() == [(name, "deleted")]
    assert not path.exists()
    assert beside.exists()


@pytest.mark.parametrize("name", ORDINARY.values(), ids=ORDINARY)
def test_file_stays_while_a_row_names_it_whose_name_has(name):
    path = put(name)
    Document.objects.create(file=name)
    let_go(name)

    assert drain().counts == {Outcome.KEPT: 1}
    assert path.exists()


def test_empty_name_is_never_recorded():
    let_go("")

    assert pending() == []


def test_name_of_a_folder_is_rejected_and_the_folder_stays():
    inside = put("docs/folder/a.txt")
    let_go("docs/folder")

    report = drain()

    assert report.counts == {Outcome.REJECTED: 1}
    assert settled("outcome, reason") == [("rejected", "a directory")]
    assert inside.exists()


@pytest.mark.parametrize("character", ["x", "é", "漢"])
def test_name_of_a_thousand_characters_is_settled(character):
    name = f"docs/{character * 995}"
    let_go(name)

    report = drain()

    assert report.counts == {Outcome.ABSENT: 1}
    assert settled("name") == [(name,)]


def test_path_of_a_thousand_characters_is_deleted():
    name = "/".join(["folder" * 20] * 8) + "/a.txt"
    path = put(name)
    let_go(name)

    assert drain().counts == {Outcome.DELETED: 1}
    assert not path.exists()


def test_name_below_a_file_is_absent():
    path = put("docs/a.txt")
    let_go("docs/a.txt/below")

    assert drain().counts == {Outcome.ABSENT: 1}
    assert path.exists()


def test_link_goes_and_what_it_leads_to_stays(media_root: Path):
    target = media_root.parent / "target.txt"
    target.write_text("not ours")
    link = media_root / "link.txt"
    link.symlink_to(target)
    let_go("link.txt")

    assert drain().counts == {Outcome.DELETED: 1}
    assert target.exists()
    assert not link.is_symlink()


def test_link_that_leads_nowhere_goes(media_root: Path):
    link = media_root / "link.txt"
    link.symlink_to(media_root / "nowhere")
    let_go("link.txt")

    assert drain().counts == {Outcome.DELETED: 1}
    assert not link.is_symlink()


def test_one_unclean_name_does_not_hold_up_the_others():
    path = put("docs/a.txt")
    let_go("../x", "docs/a.txt", "/x")

    report = drain()

    assert report.counts == {Outcome.REJECTED: 2, Outcome.DELETED: 1}
    assert not path.exists()


def test_rejected_name_is_nothing_to_worry_about_in_the_exit_code():
    let_go("../x")

    assert drain().exit_code == 0
