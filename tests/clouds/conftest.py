"""The fixtures of the drain's tests, which these are: everything is committed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clouds.fake_s3 import Bucket, serving, storage_at
from tests.drain.conftest import *  # noqa: F403
from tests.drain.support import ALIASES
from tests.project.models import Document


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say that each test here uses both databases, for pytest-django to make them."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.django_db(transaction=True, databases=list(ALIASES)))


@pytest.fixture
def bucket(store) -> Iterator[Bucket]:
    """Put the files of Document into a bucket that misbehaves on demand."""
    made = Bucket()
    with serving(made) as endpoint:
        store(storage_at(endpoint), Document)
        yield made
