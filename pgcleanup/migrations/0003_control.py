from __future__ import annotations

import django.contrib.postgres.fields
from django.db import migrations, models


def refuse_while_entries_are_pending(apps, schema_editor):  # type: ignore[no-untyped-def]
    """Refuse `migrate pgcleanup zero` before it drops what the drain that it asks for needs."""
    from pgcleanup.triggers import refuse_while_pending

    refuse_while_pending(schema_editor.connection.alias)


class Migration(migrations.Migration):
    dependencies = [("pgcleanup", "0002_triggers")]

    operations = [
        migrations.CreateModel(
            name="FileDeletionControl",
            fields=[
                ("id", models.SmallIntegerField(db_default=1, default=1, primary_key=True, serialize=False)),
                ("paused_at", models.DateTimeField(null=True, verbose_name="paused at")),
                ("paused_by", models.TextField(blank=True, db_default="", default="", verbose_name="paused by")),
                ("pause_reason", models.TextField(blank=True, db_default="", default="", verbose_name="reason")),
                ("system_identifier", models.BigIntegerField(null=True, verbose_name="server")),
                ("database_oid", models.BigIntegerField(null=True, verbose_name="database")),
                (
                    "database_name",
                    models.TextField(blank=True, db_default="", default="", verbose_name="database name"),
                ),
                (
                    "addresses",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.TextField(),
                        blank=True,
                        db_default=[],
                        default=list,
                        size=None,
                        verbose_name="addresses",
                    ),
                ),
                ("drained_at", models.DateTimeField(null=True, verbose_name="last drained at")),
                ("identified_at", models.DateTimeField(null=True, verbose_name="known since")),
                (
                    "identified_by",
                    models.TextField(blank=True, db_default="", default="", verbose_name="known by"),
                ),
            ],
            options={
                "verbose_name": "control",
                "verbose_name_plural": "control",
                "db_table": "file_deletion_control",
                "required_db_vendor": "postgresql",
                "constraints": [models.CheckConstraint(condition=models.Q(("id", 1)), name="fdc_one_row")],
            },
        ),
        migrations.RunPython(migrations.RunPython.noop, refuse_while_entries_are_pending, elidable=False),
    ]
