"""PGCLEANUP_DRAIN_ON_COMMIT: how much is deleted at once beside other requests, and what it costs.

Requests come from threads, without a pause in between, each in one transaction (ATOMIC_REQUESTS) that lasts as long
as its view: the worst case for a drain that other open transactions hold back.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection, connections, transaction
from django.http import HttpResponse
from django.test import Client, override_settings
from django.urls import path

from benchmarks.figures import Figure, Size
from benchmarks.shop.models import Item
from pgcleanup.on_commit.listening import Listener

CONCURRENT = (1, 5, 20)
VIEW_SECONDS = 0.02  # that a view takes besides
TRANSACTIONS = 2_000
REPEATS = 5


def replace_file(request: Any, number: int) -> HttpResponse:
    """Replace an item's file, and take a while."""
    item = Item.objects.get(pk=number)
    time.sleep(VIEW_SECONDS)
    item.file = f"on_commit/new/{number}"
    item.save(update_fields=["file"])
    return HttpResponse()


urlpatterns = [path("<int:number>", replace_file)]


def measure(size: Size) -> Iterator[Figure]:
    """Ask a site."""
    for concurrent in CONCURRENT:
        at_once, in_the_end, seconds = _requests(size.requests, concurrent, switched_on=True)
        _, _, without = _requests(size.requests, concurrent, switched_on=False)
        what = f"DRAIN_ON_COMMIT, {concurrent} requests at a time, ATOMIC_REQUESTS"
        yield Figure(f"{what}: files gone with the response", at_once, "{:.0%}")
        yield Figure("  when all requests are done, without a drain of the command", in_the_end, "{:.0%}")
        yield Figure("  a request takes", seconds * 1000, "{:.1f} ms")
        yield Figure("  and with the setting off", without * 1000, "{:.1f} ms")
    on, off = _untouched(switched_on=True), _untouched(switched_on=False)
    yield Figure("  a transaction that touches no file, with the setting / without it", on / off)
    yield Figure("  for a statement, in the execute wrapper", _wrapper() * 1e9, "{:.0f} ns")


def _requests(requests: int, concurrent: int, *, switched_on: bool) -> tuple[float, float, float]:
    """Return the shares of the files that were gone at once and in the end, and the median time of a request."""
    files = _fill(requests)

    def request(number: int) -> tuple[bool, float]:
        began = time.perf_counter()
        Client().get(f"/{number}")
        return not files[number].exists(), time.perf_counter() - began

    # New threads have new connections, which read these.
    connections.settings["default"]["ATOMIC_REQUESTS"] = True
    site = {"ROOT_URLCONF": __name__, "ALLOWED_HOSTS": ["testserver"], "PGCLEANUP_DRAIN_ON_COMMIT": switched_on}
    with override_settings(**site), ThreadPoolExecutor(concurrent) as pool:
        answers = list(pool.map(request, files))
        for _ in range(concurrent):
            pool.submit(connections.close_all)
    connections.settings["default"]["ATOMIC_REQUESTS"] = False
    gone = [gone for gone, _ in answers]
    in_the_end = [not path.exists() for path in files.values()]
    _empty()
    return (
        statistics.mean(gone),
        statistics.mean(in_the_end),
        statistics.median(seconds for _, seconds in answers),
    )


def _fill(requests: int) -> dict[int, Path]:
    folder = Path(settings.MEDIA_ROOT, "on_commit")
    folder.mkdir(exist_ok=True)
    files = {}
    for item in Item.objects.bulk_create(Item(title="", file=f"on_commit/{n}", thumb="") for n in range(requests)):
        files[item.pk] = Path(settings.MEDIA_ROOT, str(item.file))
        files[item.pk].write_bytes(b"x")
        os.utime(files[item.pk], (0, 0))
    return files


def _empty() -> None:
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE shop_item, shop_part")
        cursor.execute("TRUNCATE pending_file_deletion, file_deletion_stamp")


def _untouched(*, switched_on: bool) -> float:
    connection.close()
    connection.execute_wrappers.clear()
    with override_settings(PGCLEANUP_DRAIN_ON_COMMIT=switched_on):
        item = Item.objects.create(title="", file="on_commit/a", thumb="")
        times = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            for number in range(TRANSACTIONS):
                with transaction.atomic():
                    Item.objects.filter(pk=item.pk).update(title=str(number))
            times.append((time.perf_counter() - began) / TRANSACTIONS)
    _empty()
    return min(times)


def _wrapper() -> float:
    listener, calls = Listener(connections["default"]), 1_000_000
    began = time.perf_counter()
    for _ in range(calls):
        _nothing(None, None, False, None)
    bare = time.perf_counter() - began
    began = time.perf_counter()
    for _ in range(calls):
        listener(_nothing, None, None, False, None)
    return (time.perf_counter() - began - bare) / calls


def _nothing(*arguments: object) -> None:
    pass
