import django.contrib.postgres.fields
import django.contrib.postgres.indexes
from django.db import migrations, models

import pgcleanup.models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="FileDeletionColumn",
            fields=[
                ("source", models.TextField(primary_key=True, serialize=False, verbose_name="source")),
                ("table_name", models.TextField(null=True, verbose_name="table")),
                ("attnum", models.SmallIntegerField(null=True, verbose_name="attribute number")),
                ("storage_key", models.TextField(null=True, verbose_name="storage")),
            ],
            options={
                "verbose_name": "file column",
                "verbose_name_plural": "file columns",
                "db_table": "file_deletion_column",
                "managed": False,
                "required_db_vendor": "postgresql",
            },
        ),
        migrations.CreateModel(
            name="FileDeletionStamp",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "stamped_at",
                    models.DateTimeField(db_default=pgcleanup.models.ClockTimestamp(), verbose_name="seen at"),
                ),
                (
                    "fence",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.TextField(), size=None, verbose_name="open transactions"
                    ),
                ),
                ("checked", models.BooleanField(db_default=False, verbose_name="checked")),
            ],
            options={
                "verbose_name": "stamp",
                "verbose_name_plural": "stamps",
                "db_table": "file_deletion_stamp",
                "required_db_vendor": "postgresql",
            },
        ),
        migrations.CreateModel(
            name="PendingFileDeletion",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("source", models.TextField(help_text="app.model.field that held the name", verbose_name="source")),
                ("name", models.TextField(verbose_name="file name")),
                (
                    "object_pk",
                    models.TextField(help_text="primary key of the row, where known", null=True, verbose_name="object"),
                ),
                (
                    "operation",
                    models.TextField(
                        choices=[
                            ("UPDATE", "update"),
                            ("DELETE", "delete"),
                            ("TRUNCATE", "truncate"),
                            ("DROP", "drop"),
                        ],
                        verbose_name="operation",
                    ),
                ),
                ("transaction_id", models.BigIntegerField(verbose_name="transaction")),
                ("db_user", models.TextField(verbose_name="database user")),
                ("application_name", models.TextField(verbose_name="application")),
                ("context", models.TextField(null=True, verbose_name="context")),
                ("keep", models.BooleanField(db_default=False, verbose_name="keep")),
                (
                    "recorded_at",
                    models.DateTimeField(db_default=pgcleanup.models.ClockTimestamp(), verbose_name="recorded at"),
                ),
                ("stamp_id", models.BigIntegerField(null=True, verbose_name="stamp")),
                ("retry_at", models.DateTimeField(null=True, verbose_name="retry at")),
                ("attempts", models.IntegerField(db_default=0, verbose_name="attempts")),
                ("exhausted_at", models.DateTimeField(null=True, verbose_name="failed at")),
                ("cancelled_at", models.DateTimeField(null=True, verbose_name="cancelled at")),
                ("last_error", models.TextField(blank=True, db_default="", default="", verbose_name="last error")),
            ],
            options={
                "verbose_name": "pending file deletion",
                "verbose_name_plural": "pending file deletions",
                "db_table": "pending_file_deletion",
                "required_db_vendor": "postgresql",
                "indexes": [
                    models.Index(condition=models.Q(("stamp_id__isnull", True)), fields=["id"], name="pfd_unstamped"),
                    models.Index(
                        models.Func(models.F("name"), models.Value(0), function="hashtextextended"),
                        condition=models.Q(("stamp_id__isnull", False)),
                        name="pfd_name",
                    ),
                    models.Index(
                        condition=models.Q(
                            ("exhausted_at__isnull", True), ("retry_at__isnull", True), ("stamp_id__isnull", False)
                        ),
                        fields=["stamp_id", "id"],
                        name="pfd_ready",
                    ),
                    models.Index(
                        condition=models.Q(("retry_at__isnull", False)), fields=["retry_at"], name="pfd_retry"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="SettledFileDeletion",
            fields=[
                ("source", models.TextField(help_text="app.model.field that held the name", verbose_name="source")),
                ("name", models.TextField(verbose_name="file name")),
                (
                    "object_pk",
                    models.TextField(help_text="primary key of the row, where known", null=True, verbose_name="object"),
                ),
                (
                    "operation",
                    models.TextField(
                        choices=[
                            ("UPDATE", "update"),
                            ("DELETE", "delete"),
                            ("TRUNCATE", "truncate"),
                            ("DROP", "drop"),
                        ],
                        verbose_name="operation",
                    ),
                ),
                ("transaction_id", models.BigIntegerField(verbose_name="transaction")),
                ("db_user", models.TextField(verbose_name="database user")),
                ("application_name", models.TextField(verbose_name="application")),
                ("context", models.TextField(null=True, verbose_name="context")),
                ("keep", models.BooleanField(db_default=False, verbose_name="keep")),
                (
                    "recorded_at",
                    models.DateTimeField(db_default=pgcleanup.models.ClockTimestamp(), verbose_name="recorded at"),
                ),
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("attempts", models.IntegerField(verbose_name="attempts")),
                ("last_error", models.TextField(blank=True, db_default="", default="", verbose_name="last error")),
                ("cancelled_at", models.DateTimeField(null=True, verbose_name="cancelled at")),
                ("stamped_at", models.DateTimeField(null=True, verbose_name="seen at")),
                (
                    "outcome",
                    models.TextField(
                        choices=[
                            ("deleted", "deleted"),
                            ("absent", "absent"),
                            ("kept", "kept"),
                            ("rejected", "rejected"),
                            ("cancelled", "cancelled"),
                            ("postponed", "retrying"),
                            ("exhausted", "failed"),
                        ],
                        verbose_name="outcome",
                    ),
                ),
                ("reason", models.TextField(blank=True, db_default="", default="", verbose_name="reason")),
                (
                    "bytes",
                    models.BigIntegerField(
                        help_text="on one entry of each deleted file", null=True, verbose_name="bytes"
                    ),
                ),
                (
                    "settled_at",
                    models.DateTimeField(db_default=pgcleanup.models.ClockTimestamp(), verbose_name="settled at"),
                ),
                ("drained_by", models.TextField(blank=True, db_default="", default="", verbose_name="drained by")),
            ],
            options={
                "verbose_name": "settled file deletion",
                "verbose_name_plural": "settled file deletions",
                "db_table": "settled_file_deletion",
                "required_db_vendor": "postgresql",
                "indexes": [django.contrib.postgres.indexes.BrinIndex(fields=["settled_at"], name="sfd_settled_at")],
            },
        ),
    ]
