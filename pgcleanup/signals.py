"""The two signals that a drain sends for each file it deletes.

Both carry django-cleanup's keyword arguments:

* `sender`: the model class whose column held the name
* `instance`: an instance of it that knows only its primary key (after a DELETE also the old name). Any
  other attribute loads the row as it is now, or raises `DoesNotExist`.
* `file`: the `FieldFile`, bound to another instance; `file.name` is None after a successful deletion
* `file_name`, `field_name`, `model_name` ("app_label.model_name"), `default_file_name`
* `deleted`, `updated`: which of the two made the name go; `operation` says it in full
  ("UPDATE", "DELETE", "TRUNCATE", "DROP"); `object_pk`: the primary key as recorded, or None
* `context`: what `pgcleanup.context()` or the middleware noted of who made it go, or None

`cleanup_post_delete` adds `success` and `error`.

They are sent inside the drain's transaction, each in a savepoint of its own: what a receiver writes is
committed together with the entry's settlement. Once for a name however many rows let it go, or again
after a crash.

* A `cleanup_pre_delete` receiver that raises keeps the file: the name is retried later with that error.
  One that sets `file.name = None` keeps the file for good.
* A `cleanup_post_delete` receiver that raises is logged, and nothing else happens.
"""

from __future__ import annotations

from django.dispatch import Signal

cleanup_pre_delete = Signal()
cleanup_post_delete = Signal()
