"""A project renames its field and its model with real migrations, in processes of its own, while names are pending.

The other changes of a schema, in this process: test_schema_changes.py, test_record_dropped.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.database.apps import MODELS, App
from tests.database.conftest import scratch_from
from tests.support import Scratch, ledger, manage, with_settings

AFTER = MODELS.replace("Offer", "Bid").replace("file =", "scan =")
RENAME = """
migrations.RenameField("Offer", "file", "scan"),
migrations.RenameModel("Offer", "Bid"),
migrations.RunPython(let_go),
"""
LET_GO = """
def let_go(apps, schema_editor):
    apps.get_model("shop", "Bid").objects.filter(scan="between.pdf").update(scan="")
"""


@pytest.fixture
def scratch(live_template: str, django_db_blocker, media_root: Path) -> Iterator[Scratch]:
    yield from scratch_from(live_template, django_db_blocker, media_root)


def run(scratch: Scratch, folder: Path, *arguments: str) -> str:
    from tests.project.settings import INSTALLED_APPS

    env = with_settings(scratch.env, folder, INSTALLED_APPS=[*INSTALLED_APPS, "shop"])
    done = manage(env, *arguments, "--skip-checks", "-v", "0")
    return done.stdout + done.stderr


def test_pending_entries_follow_a_renamed_field_of_a_renamed_model(live: App, tmp_path: Path, scratch: Scratch) -> None:
    scratch.sql("UPDATE shop_offer SET other = '' WHERE file = 'later.pdf'")
    before = {entry.name: entry.source for entry in ledger("scratch")}
    live.models(AFTER)
    live.migration("0002_rename", RENAME, before=LET_GO)

    said = run(scratch, tmp_path, "migrate")

    scratch.sql("DELETE FROM shop_bid WHERE scan = 'after.pdf'")
    assert said == ""
    assert before == {"pending.pdf": "shop.offer.file", "other-later.pdf": "shop.offer.other"}
    assert {entry.name: entry.source for entry in ledger("scratch")} == {
        "pending.pdf": "shop.bid.scan",
        "other-later.pdf": "shop.bid.other",
        "between.pdf": "shop.bid.scan",
        "after.pdf": "shop.bid.scan",
        "other-after.pdf": "shop.bid.other",
    }


def test_makemigrations_has_nothing_to_write_for_the_triggers(live: App, tmp_path: Path, scratch: Scratch) -> None:
    said = run(scratch, tmp_path, "makemigrations", "--check", "project", "thirdparty", "pgcleanup")

    assert said == ""
    assert sorted(path.name for path in (live.folder / "migrations").glob("0*.py")) == ["0001_initial.py"]
