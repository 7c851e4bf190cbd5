from __future__ import annotations

from django.db import migrations


def remove_triggers(apps, schema_editor):  # type: ignore[no-untyped-def]
    """Empty the record functions, then drop the triggers, before the ledger goes."""
    from pgcleanup.triggers import uninstall

    uninstall(schema_editor.connection.alias)


class Migration(migrations.Migration):
    """Forwards nothing: `post_migrate` installs the triggers, in step with the models of the moment.

    Backwards it takes them out. A migration of its own, and not atomic, so that `migrate pgcleanup zero`
    locks one table at a time instead of all at once.
    """

    atomic = False
    dependencies = [("pgcleanup", "0001_initial")]
    operations = [migrations.RunPython(migrations.RunPython.noop, remove_triggers, elidable=False)]
