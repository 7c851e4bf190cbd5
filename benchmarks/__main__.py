"""`make bench`: start a server, measure, print a table."""

from __future__ import annotations

import os
import platform
import sys
import tempfile

from tests.postgres import postgres


def main() -> None:
    """Measure the parts named on the command line, or all."""
    with postgres() as server, tempfile.TemporaryDirectory(prefix="pgcleanup-bench-") as media:
        os.environ.update(
            DATABASE_URL=server.url, PGCLEANUP_BENCH_MEDIA=media, DJANGO_SETTINGS_MODULE="benchmarks.settings"
        )
        import django

        django.setup()
        from django.core.management import call_command

        from benchmarks import admin, draining, loading, on_commit, recording, syncing

        call_command("migrate", run_syncdb=True, verbosity=0)
        parts = {
            "loading": loading,
            "syncing": syncing,
            "recording": recording,
            "draining": draining,
            "on_commit": on_commit,
            "admin": admin,
        }
        print(f"{server.description}, Python {platform.python_version()}, {os.cpu_count()} cores")
        for name in sys.argv[1:] or parts:
            for what, target, result in parts[name].measure():
                print(f"{what:<78} {target:>18} {result:>32}", flush=True)


if __name__ == "__main__":
    main()
