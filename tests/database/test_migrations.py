"""Migrations: ours match our models, and nobody else gets any because of us."""

from __future__ import annotations

from io import StringIO

import pytest
from django.apps import apps
from django.core.management import call_command

from tests.support import CHECKOUT, manage

pytestmark = pytest.mark.django_db(databases=["default", "other"])


def test_makemigrations_check_is_quiet_for_all_apps(process_env: dict[str, str]) -> None:
    done = manage(process_env, "makemigrations", "--check", "--dry-run", "--skip-checks")

    assert done.stdout.strip() == "No changes detected"


def test_own_migrations_match_the_models() -> None:
    call_command("makemigrations", "pgcleanup", check_changes=True, dry_run=True, stdout=StringIO())


def test_own_models_need_no_app_besides_ours() -> None:
    own = apps.get_app_config("pgcleanup").get_models()

    assert [problem for model in own for problem in model.check(databases=["default"])] == []


def test_registration_leaves_the_options_of_every_model_alone() -> None:
    touched = [
        model._meta.label
        for model in apps.get_models(include_auto_created=True)
        if getattr(model._meta, "triggers", None) or model._meta.original_attrs.get("triggers")
    ]

    assert touched == []


@pytest.mark.parametrize("app", ["project", "thirdparty"])
def test_migrations_folder_holds_nothing_but_what_its_authors_wrote(app: str, process_env: dict[str, str]) -> None:
    folder = CHECKOUT / "tests" / app / "migrations"
    before = {path.name: path.read_bytes() for path in folder.glob("*.py")}

    manage(process_env, "makemigrations", "--skip-checks")

    after = {path.name: path.read_bytes() for path in folder.glob("*.py")}
    for name in after.keys() - before.keys():
        (folder / name).unlink()
    assert after == before


def test_no_receiver_of_ours_listens_to_the_instances_of_user_models() -> None:
    from django.db.models import signals

    listening = [
        name
        for name in ("pre_init", "post_init", "pre_save", "post_save", "pre_delete", "post_delete", "m2m_changed")
        for receiver in getattr(signals, name)._live_receivers(apps.get_model("project", "Document"))[0]
        if "pgcleanup" in getattr(receiver, "__module__", "")
    ]

    assert listening == []
