"""django-pgtrigger's command shows the record triggers as they are, and can switch them."""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from io import StringIO

import pgtrigger
import pytest
from django.core.management import call_command

from tests.support import Scratch, recorded, run_sql

pytestmark = pytest.mark.django_db

DOCUMENT = "project.Document:pgcleanup_row"


def listed(text: str) -> dict[str, str]:
    """Return the status of each trigger in the output of `pgtrigger ls`."""
    lines = re.sub(r"\x1b\[\d+m", "", text).splitlines()
    return {line.split()[-1]: " ".join(line.split()[:-1]) for line in lines}


def ls(*uris: str) -> dict[str, str]:
    # The command prints, whatever stdout it is given.
    with redirect_stdout(StringIO()) as out:
        call_command("pgtrigger", "ls", *uris)
    return listed(out.getvalue())


def test_ls_in_a_process_of_its_own_lists_every_trigger_as_installed_and_enabled(scratch: Scratch) -> None:
    done = scratch.manage("pgtrigger", "ls")

    found = listed(done.stdout)
    installed = scratch.sql("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'pgcleanup%'")
    assert set(found.values()) == {"INSTALLED ENABLED"}
    assert len(found) == installed[0][0]
    assert {DOCUMENT, "project.Odd:pgcleanup_trunc", "thirdparty.Brochure:pgcleanup_del"} <= found.keys()


def test_ls_shows_no_trigger_of_an_ignored_model() -> None:
    assert [uri for uri in ls() if "Ignored" in uri] == []


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ("DROP TRIGGER pgcleanup_row ON project_document", "UNINSTALLED N/A"),
        ("ALTER TABLE project_document DISABLE TRIGGER pgcleanup_row", "INSTALLED DISABLED"),
        ("ALTER TABLE project_document ALTER file TYPE text", "OUTDATED ENABLED"),
    ],
    ids=["dropped", "disabled", "outdated"],
)
def test_ls_shows_a_trigger_that_was(change: str, status: str) -> None:
    run_sql(change)

    assert ls(DOCUMENT) == {DOCUMENT: status}


def test_disable_keeps_the_trigger_from_firing_and_enable_lets_it_fire_again() -> None:
    run_sql("INSERT INTO project_document (title, file) VALUES ('', 'a.txt')")

    call_command("pgtrigger", "disable", DOCUMENT)
    disabled = ls(DOCUMENT)
    run_sql("UPDATE project_document SET file = 'b.txt'")
    call_command("pgtrigger", "enable", DOCUMENT)
    run_sql("UPDATE project_document SET file = 'c.txt'")

    assert disabled == {DOCUMENT: "INSTALLED DISABLED"}
    assert ls(DOCUMENT) == {DOCUMENT: "INSTALLED ENABLED"}
    assert recorded() == [("project.document.file", "b.txt", "UPDATE")]


def test_uninstall_drops_the_trigger_and_install_brings_it_back() -> None:
    call_command("pgtrigger", "uninstall", DOCUMENT)
    without = ls(DOCUMENT)

    call_command("pgtrigger", "install", DOCUMENT)

    assert without == {DOCUMENT: "UNINSTALLED N/A"}
    assert ls(DOCUMENT) == {DOCUMENT: "INSTALLED ENABLED"}


def test_prune_leaves_the_record_triggers_alone() -> None:
    before = ls()

    call_command("pgtrigger", "prune")

    assert ls() == before
    assert set(before.values()) == {"INSTALLED ENABLED"}


def test_triggers_are_in_the_registry_but_in_no_models_options() -> None:
    from tests.project.models import Document

    uris = {trigger.get_uri(model) for model, trigger in pgtrigger.registered()}

    assert DOCUMENT in uris
    assert getattr(Document._meta, "triggers", []) == []


def test_pgtrigger_ignore_does_not_silence_the_ledger() -> None:
    from tests.project.models import Document

    document = Document.objects.create(file="a.txt")

    with pgtrigger.ignore():
        document.delete()

    assert recorded() == [("project.document.file", "a.txt", "DELETE")]
