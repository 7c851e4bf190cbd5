"""A drain of a bucket that is 20 ms away, beside what its client library does by itself."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from django.db import connection

from benchmarks.distance import SECONDS, far_away
from benchmarks.figures import Figure, Size
from benchmarks.files import empty_ledger, vacuum
from benchmarks.shop.models import Upload
from benchmarks.tasks import drain_in_threads
from pgcleanup.triggers import sync

# One name of so many lets a listing show too few of those that are asked for.
SPARSE = 12
ONE_BY_ONE = 100
A_CALL = 1_000

_RECORD = """
INSERT INTO pending_file_deletion
       (source, name, operation, transaction_id, db_user, application_name, keep)
SELECT 'shop.upload.file', name, 'DELETE', pg_current_xact_id()::text::bigint, session_user, 'bench', false
  FROM unnest(%s::text[]) AS name
"""


def measure(size: Size) -> Iterator[Figure]:
    """Compare, on SeaweedFS."""
    from tests.clouds.servers import programs, seaweedfs

    if shutil.which("weed", path=":".join(programs())) is None:
        raise SystemExit("clouds needs SeaweedFS, which `make bench` installs")
    with seaweedfs() as make:
        near = make()
        with far_away(urlsplit(near.endpoint_url).port) as port:
            far = make(bucket_name="far", endpoint_url=f"http://127.0.0.1:{port}")
            near.bucket_name = "far"
            yield from _compared(near, far, size)


def _compared(near: Any, far: Any, size: Size) -> Iterator[Figure]:
    pool = [f"pool/{number:07}.dat" for number in range(SPARSE * size.objects)]
    scattered = pool[::SPARSE]
    dense = [name for name in pool if name not in set(scattered)][: 2 * size.objects]
    singles = [f"single/{number:07}.dat" for number in range(ONE_BY_ONE)]
    _put(near, [*pool, *singles])

    one_by_one = ONE_BY_ONE / _timed(lambda: [far.delete(name) for name in singles])
    Upload._meta.get_field("file").storage = far
    sync("default", triggers=False)
    few, many = (_drained(names) for names in (scattered, dense))
    _put(near, [*scattered, *dense])
    few_in_two, many_in_two = (_drained(names, threads=2) for names in (scattered, dense))
    _put(near, dense)
    bare = len(dense) / _timed(lambda: _delete_objects(far, dense))

    away = f"S3 {SECONDS * 1000:.0f} ms away"
    beside = "files a second / storage.delete by itself"
    yield Figure(f"{away}, {len(scattered):,} scattered names: {beside}", few / one_by_one, at_least=25)
    yield Figure(f"{away}, {len(dense):,} dense names: {beside}", many / one_by_one, at_least=100)
    yield Figure("  the latter / a bare loop of boto3's delete_objects", many / bare, at_least=0.5)
    yield Figure("  scattered, dense", few, "{:,.0f}" + f", {many:,.0f} files a second")
    two = f"{few_in_two / few:.2f}, {many_in_two / many:.2f}"
    yield Figure("  scattered, dense: two drains in two threads / one drain", few_in_two / few, two)
    yield Figure("  storage.delete, delete_objects", one_by_one, "{:,.0f}" + f", {bare:,.0f} files a second")


def _put(storage: Any, names: Sequence[str]) -> None:
    client = storage.connection.meta.client

    def put(name: str) -> None:
        client.put_object(Bucket=storage.bucket_name, Key=name, Body=b"content")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, names))


def _drained(names: Sequence[str], threads: int = 1) -> float:
    """Return how many files a second a drain deletes, or one in each of some threads."""
    empty_ledger()
    with connection.cursor() as cursor:
        cursor.execute(_RECORD, [list(names)])
    vacuum()
    seconds, counts = drain_in_threads(threads)
    if counts != {"deleted": len(names)}:
        raise SystemExit(f"the drain did something else: {counts}")
    return len(names) / seconds


def _delete_objects(storage: Any, names: Sequence[str]) -> None:
    client = storage.connection.meta.client
    for start in range(0, len(names), A_CALL):
        objects = [{"Key": name} for name in names[start : start + A_CALL]]
        client.delete_objects(Bucket=storage.bucket_name, Delete={"Objects": objects, "Quiet": True})


def _timed(call: Any) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
