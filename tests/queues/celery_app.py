"""A project's Celery app, as docs/service.md has it."""

from __future__ import annotations

import os

from celery import Celery, shared_task

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.queues.settings")

app = Celery("project")
app.config_from_object("django.conf:settings", namespace="CELERY")


@app.on_after_configure.connect
def every_minute(sender, **kwargs):
    """Schedule it, for `celery beat`."""
    sender.add_periodic_task(60.0, delete_files.s(seconds=300), expires=60)


@shared_task(name="delete_files", acks_late=True)
def delete_files(**options):
    """Delete what is due."""
    from pgcleanup.tasks import drain_files

    return drain_files(**options)
