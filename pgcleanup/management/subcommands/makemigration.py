"""`manage.py pgcleanup makemigration`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.apps import apps
from django.core.management.base import CommandError, CommandParser
from django.db import connections
from django.db.migrations import Migration
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.writer import MigrationWriter

from pgcleanup.columns import find_file_columns
from pgcleanup.management.output.base import FAILED, WRONG_USAGE
from pgcleanup.management.subcommands.base import Subcommand
from pgcleanup.status.words import plural
from pgcleanup.triggers.migration import MAKES_THE_LEDGER, Statements, render_migration, statements
from pgcleanup.triggers.versions import without


class MakeMigration(Subcommand):
    """Writes the triggers into a migration."""

    name = "makemigration"
    help = "write the triggers into a migration of your own"
    description = (
        "Writes a migration with the SQL that the database lacks: what `sync --check` lists. For projects with "
        "PGCLEANUP_SYNC_ON_MIGRATE = False, where nothing but reviewed migrations may touch the schema. "
        "Exit code 0: written, or nothing to write; 1: it cannot be written; 2: wrong usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("app_label", metavar="APP_LABEL", help="the app of yours that the migration goes to")
        parser.add_argument(
            "--all", action="store_true", help="all triggers that are needed, also those that are there"
        )
        parser.add_argument("--name", default="file_deletion_triggers", help="the name of the file, after its number")
        parser.add_argument("--dry-run", action="store_true", help="print the migration instead of writing it")

    def run(self, using: str, options: dict[str, Any]) -> None:
        label, name = options["app_label"], options["name"]
        if label not in apps.app_configs:
            raise CommandError(f"there is no app {label!r} in INSTALLED_APPS", returncode=WRONG_USAGE)
        if not name.isidentifier():
            raise CommandError(f"--name {name!r} is no Python identifier", returncode=WRONG_USAGE)
        inspection = self.inspection(using)
        catalog, columns = without(inspection.catalog, find_file_columns(using), inspection.left)
        found = statements(using, catalog, columns, everything=options["all"])
        if not found.steps:
            self.say(f'Nothing to write: the triggers of database "{using}" are as they should be. For all: --all')
            return
        loader = MigrationLoader(connections[using], ignore_no_migrations=True)
        self._require_applied(using, loader)
        number, dependencies = _place(loader, label, found)
        file_name = f"{number:04}_{name}"
        title = f"Triggers that record the names of files: {plural(len(found.apps), 'app')}."
        text = render_migration(found, title, using, dependencies)
        if options["dry_run"]:
            self.say(text)
            return
        try:
            path = Path(MigrationWriter(Migration(file_name, label)).path)
            path.write_text(text, encoding="utf-8")
        except (OSError, ValueError) as error:
            raise CommandError(f"{file_name} cannot be written: {error}", returncode=FAILED) from error
        self.say(f"{path}: {plural(found.count, 'statement')} written.")
        self.say(f"Read it, then run: manage.py migrate {label} --database {using}")

    def _require_applied(self, using: str, loader: MigrationLoader) -> None:
        waiting = sorted(set(loader.graph.nodes) - set(loader.applied_migrations or ()))
        if waiting:
            raise CommandError(
                f'database "{using}" has migrations to be applied first, {".".join(waiting[0])} among them: they may '
                f"make tables and columns. Run: manage.py migrate --database {using}",
                returncode=FAILED,
            )


def _place(loader: MigrationLoader, label: str, found: Statements) -> tuple[int, list[tuple[str, str]]]:
    """Return the number of the new migration, and the migrations that come before it: the last of each app.

    Raises:
        CommandError: the app has none, or two last ones.
    """
    leaves = loader.graph.leaf_nodes(label)
    if len(leaves) != 1:
        what = (
            "two last migrations. Run: manage.py makemigrations --merge"
            if leaves
            else "no migrations. Run: manage.py makemigrations"
        )
        raise CommandError(f"app {label!r} has {what} {label}", returncode=FAILED)
    others = [loader.graph.leaf_nodes(app) for app in found.apps if app != label]
    # Not after our last one: who goes back to an earlier one of ours would take the project's migrations back as well.
    before = [*leaves, MAKES_THE_LEDGER, *(node for nodes in others for node in nodes)]
    return (MigrationAutodetector.parse_number(leaves[0][1]) or 0) + 1, before
