"""An app of the project's own that a test writes, changes and migrates, in this process.

A process of its own for each `migrate` would take a second; this is the same command.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from textwrap import dedent, indent

from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.test import override_settings
from pgtrigger import registry

IMPORT = "from django.db import models\n\n"
MIGRATION = """
from django.db import migrations, models

{before}

class Migration(migrations.Migration):
    {attributes}
    dependencies = {dependencies}
    operations = [
{operations}
    ]
"""


# What `live` begins with.
MODELS = """
class Offer(models.Model):
    file = models.FileField(upload_to="offers")
    other = models.FileField(upload_to="offers", default="")
"""
CREATE = """
migrations.CreateModel("Offer", [
    ("id", models.BigAutoField(primary_key=True)),
    ("file", models.FileField(upload_to="offers")),
    ("other", models.FileField(upload_to="offers", default="")),
]),
"""
NAMES = ["pending.pdf", "before.pdf", "between.pdf", "after.pdf", "later.pdf"]


class App:
    """An installed app in a folder of its own."""

    def __init__(self, folder: Path, label: str, using: str) -> None:
        self.folder = folder / label
        self.label = label
        self.using = using
        (self.folder / "migrations").mkdir(parents=True)
        for package in (self.folder, self.folder / "migrations"):
            (package / "__init__.py").touch()
        self._last: str | None = None

    def models(self, source: str) -> None:
        """Deploy other models: as a new process would see them."""
        (self.folder / "models.py").write_text(IMPORT + dedent(source))
        self.forget()
        apps.get_app_config(self.label).import_models()
        apps.clear_cache()

    def migration(
        self, name: str, operations: str, *, before: str = "", attributes: str = "", first: bool = False
    ) -> None:
        """Write a migration that comes after the one written last, unless it is to be a first one."""
        last = None if first else self._last
        text = MIGRATION.format(
            before=dedent(before),
            attributes=attributes or "pass",
            dependencies=[(self.label, last)] if last else [],
            operations=indent(dedent(operations).strip(), " " * 8),
        )
        (self.folder / "migrations" / f"{name}.py").write_text(text)
        self._last = name

    def migrate(self, *arguments: str, verbosity: int = 0) -> str:
        """Run `manage.py migrate`, of this app alone if a migration is named; return what it says on stdout."""
        self.forget_migrations()
        out = StringIO()
        target = [self.label, *arguments] if arguments and not arguments[0].startswith("-") else [*arguments]
        call_command("migrate", *target, database=self.using, verbosity=verbosity, stdout=out, skip_checks=True)
        return out.getvalue()

    def forget(self) -> None:
        """Forget all that this process has loaded of the app."""
        self.forget_migrations()
        sys.modules.pop(f"{self.label}.models", None)
        apps.all_models.pop(self.label, None)
        for uri, (model, _) in list(registry._registry.data.items()):
            if model._meta.app_label == self.label:
                del registry._registry.data[uri]
        apps.clear_cache()

    def forget_migrations(self) -> None:
        """Forget the migrations, so that they are read anew: as a new process would."""
        importlib.invalidate_caches()
        for name in [name for name in sys.modules if name.startswith(f"{self.label}.migrations")]:
            del sys.modules[name]


@contextmanager
def installed_app(folder: Path, using: str, label: str = "shop") -> Iterator[App]:
    """Install an app without models, for the time of the block."""
    app = App(folder, label, using)
    (app.folder / "models.py").write_text(IMPORT)
    sys.path.insert(0, str(folder))
    # A file that is written twice in a second would be read from its cache.
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, label]):
            yield app
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = writes_bytecode
        app.forget()
        for name in [name for name in sys.modules if name == label or name.startswith(f"{label}.")]:
            del sys.modules[name]
