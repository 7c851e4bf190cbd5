from __future__ import annotations

from django.db import migrations


def guard_history(apps, schema_editor):  # type: ignore[no-untyped-def]
    """Let the database refuse changes of the history."""
    from pgcleanup.triggers.history import find_history, install_guard

    using = schema_editor.connection.alias
    if schema_editor.connection.vendor == "postgresql" and (schema := find_history(using)) is not None:
        install_guard(using, schema)


def unguard_history(apps, schema_editor):  # type: ignore[no-untyped-def]
    """Take the trigger out, unless `migrate pgcleanup zero` is about to be refused; make tables that are missing."""
    from pgcleanup.triggers import refuse_while_pending
    from pgcleanup.triggers.history import drop_guard
    from pgcleanup.triggers.missing import make_missing_tables

    using = schema_editor.connection.alias
    if schema_editor.connection.vendor == "postgresql":
        make_missing_tables(apps, schema_editor)
        refuse_while_pending(using)
        drop_guard(using)


class Migration(migrations.Migration):
    """What `sync` puts back where somebody took it away."""

    dependencies = [("pgcleanup", "0003_control")]
    operations = [migrations.RunPython(guard_history, unguard_history, elidable=False)]
