"""Delete the files of `FileField`s when, and only when, nothing refers to them any more.

Public names and where they live (`docs/reference.md` lists them all):

* `pgcleanup.keep`, `pgcleanup.context`: transaction-local notes for the record triggers
* `pgcleanup.cleanup`: `ignore`, `select`, `keep`, `context`, `refresh`
* `pgcleanup.drain`: `drain`, `DrainReport`
* `pgcleanup.signals`: `cleanup_pre_delete`, `cleanup_post_delete`
* `pgcleanup.models`: the ledger and its history

Importing this package touches no model: Django imports it while the app registry is still filling.
"""

from pgcleanup.cleanup import context, keep

__all__ = ["__version__", "context", "keep"]

__version__ = "0.1.0"
