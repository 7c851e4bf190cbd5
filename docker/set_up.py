"""Make the demo site ready, as the role that owns its tables: buckets, tables, rights, a login, rows with files."""

from __future__ import annotations

from pathlib import Path

import boto3
import django
from django.conf import settings
from django.core.management import call_command
from django.db import connection

django.setup()

from django.contrib.auth import get_user_model  # noqa: E402 -- models need the setup

from demo.library.models import Document  # noqa: E402
from demo.story import fill  # noqa: E402


def make_buckets() -> None:
    """Make the buckets of the storages; those that are there stay as they are."""
    for alias in ("default", "archive"):
        options = settings.STORAGES[alias]["OPTIONS"]
        client = boto3.client(
            "s3",
            endpoint_url=options["endpoint_url"],
            region_name=options["region_name"],
            aws_access_key_id=options["access_key"],
            aws_secret_access_key=options["secret_key"],
        )
        if options["bucket_name"] not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
            client.create_bucket(Bucket=options["bucket_name"])


make_buckets()
call_command("migrate", verbosity=1)
with connection.cursor() as cursor:
    cursor.execute(Path("rights.sql").read_text())
users = get_user_model().objects
if not users.filter(username="demo").exists():
    users.create_superuser("demo", "demo@example.com", "demo")
if not Document.objects.exists():
    fill()
