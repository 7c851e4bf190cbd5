"""A service whose server is restarted under it, again and again."""

from __future__ import annotations

import time
from pathlib import Path

from tests.faults.conftest import Injected
from tests.faults.support import own_site
from tests.process.test_watch import watching

RESTARTS = 5


def test_service_goes_on_after_each_restart_of_its_server(tmp_path: Path, injected: Injected) -> None:
    with own_site(tmp_path) as (server, site), watching(site, "--interval", "1", "--json") as service:
        for number in range(RESTARTS):
            site.let_go(20, f"before {number}")
            service.until_event("drained")
            server.stop("immediate" if number % 2 else "fast")
            service.until_event("error")
            server.start()
            service.until_event("reached")
            injected("restart of the server under --watch")
        service.stop()
        site.finish()

        assert site.stored() == set()
        site.assert_told_once(killed={service.process.pid})


def test_several_services_at_once_tell_of_each_file_once(tmp_path: Path) -> None:
    with (
        own_site(tmp_path) as (_, site),
        watching(site, "--json", PGCLEANUP_TEST_BATCH="10") as one,
        watching(site, "--json", PGCLEANUP_TEST_BATCH="10") as other,
    ):
        site.let_go(2000)
        while site.pending():
            assert one.process.poll() is other.process.poll() is None
            time.sleep(0.05)
        one.stop()
        other.stop()

        deleted = [event.get("deleted", 0) for event in one.events + other.events]
        assert sum(deleted) == 2000
        assert site.stored() == set()
        site.assert_told_once()
