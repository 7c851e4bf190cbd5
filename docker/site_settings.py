"""Settings of the demo site in a container: those of `make demo`, with the files in buckets."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from demo.settings import *  # noqa: F403

S3_ADDRESS = os.environ["S3_ADDRESS"]
S3_PUBLIC_ADDRESS = os.environ["S3_PUBLIC_ADDRESS"]


def bucket(name: str) -> dict[str, Any]:
    """Return an entry of STORAGES."""
    return {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            "access_key": os.environ["S3_ACCESS_KEY"],
            "secret_key": os.environ["S3_SECRET_KEY"],
            "endpoint_url": f"http://{S3_ADDRESS}",
            "region_name": "us-east-1",
            "bucket_name": name,
            # A name must never be used twice: see docs/guarantees.md.
            "file_overwrite": False,
            # A browser reaches the store by another address than the containers; whoever has the name may read it.
            "custom_domain": f"{S3_PUBLIC_ADDRESS}/{name}",
            "url_protocol": "http:",
        },
    }


STORAGES = {
    "default": bucket("media"),
    "archive": bucket("archive"),
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
# Thumbnails too: a folder in the container would be another one for the drain.
THUMBNAIL_DEFAULT_STORAGE_ALIAS = "default"

# To see something happen. In earnest the defaults are better: an hour, and a minute.
PGCLEANUP_GRACE_PERIOD = timedelta(seconds=20)
PGCLEANUP_UPLOAD_WINDOW = timedelta(seconds=10)
