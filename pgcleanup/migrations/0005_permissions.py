from __future__ import annotations

from django.db import migrations


class Migration(migrations.Migration):
    """Permissions of their own for retrying and cancelling: `post_migrate` creates them."""

    dependencies = [("pgcleanup", "0004_append_only_history")]
    operations = [
        migrations.AlterModelOptions(
            name="pendingfiledeletion",
            options={
                "permissions": [
                    ("retry_pendingfiledeletion", "Can retry pending file deletions"),
                    ("cancel_pendingfiledeletion", "Can cancel pending file deletions"),
                ],
                "required_db_vendor": "postgresql",
                "verbose_name": "pending file deletion",
                "verbose_name_plural": "pending file deletions",
            },
        ),
    ]
