"""Enqueue drains, as a project's code would: `python -m tests.queues.enqueue celery|tasks NUMBER LIMIT`.

With Celery it waits for the results and prints them as JSON; those of the other are in the database.
"""

from __future__ import annotations

import json
import sys

import django


def main(queue: str, number: int, limit: int) -> None:
    """Enqueue so many."""
    django.setup()
    if queue == "celery":
        from tests.queues.celery_app import delete_files

        sent = [delete_files.delay(limit=limit, wait=0) for _ in range(number)]
        print(json.dumps([one.get(timeout=600) for one in sent]))
    else:
        from pgcleanup.tasks import drain_deletions

        print(json.dumps([str(drain_deletions.enqueue(limit=limit).id) for _ in range(number)]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
