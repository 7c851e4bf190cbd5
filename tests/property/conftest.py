"""The databases of the drain's tests: real commits, emptied without a flush."""

from __future__ import annotations

from tests.drain.conftest import _django_db_helper, database

__all__ = ["_django_db_helper", "database"]
