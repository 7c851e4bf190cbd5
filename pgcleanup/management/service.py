"""The options of `drain_deletions` that make a service of it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError, CommandParser

from pgcleanup.management.output.base import FAILED, WRONG_USAGE
from pgcleanup.management.output.watched import Journal
from pgcleanup.management.stopping import Stop
from pgcleanup.management.watching import SHORTEST_PAUSE, Pace, Watch

if TYPE_CHECKING:
    from pgcleanup.metrics import Metrics

DEFAULT_INTERVAL = 60.0
_LOCALHOST = "127.0.0.1"


def add_watch_arguments(parser: CommandParser) -> None:
    """Add `--watch` and what belongs to it."""
    parser.add_argument(
        "--watch", action="store_true", help="go on until SIGTERM: drain at once where there is work, seldom without"
    )
    parser.add_argument(
        "--interval",
        type=float,
        metavar="SECONDS",
        help=f"with --watch: the longest pause between two drains ({DEFAULT_INTERVAL:g})",
    )
    parser.add_argument(
        "--metrics",
        metavar="[HOST:]PORT",
        help=f"with --watch: serve metrics for Prometheus there; without a host on {_LOCALHOST} only",
    )


def watch_misuse(options: dict[str, Any]) -> str | None:
    """Return what is wrong with the options of a service, if anything."""
    if not options["watch"]:
        for name in ("interval", "metrics"):
            if options[name] is not None:
                return f"--{name} goes with --watch"
        return None
    for name in ("dry_run", "accept_absent"):
        if options[name]:
            return f"--{name.replace('_', '-')} is for a single drain, and does not go with --watch"
    interval = options["interval"]
    if interval is not None and not SHORTEST_PAUSE <= interval <= timedelta(days=1).total_seconds():
        return f"--interval takes a number of seconds from {SHORTEST_PAUSE:g} to a day, not {interval:g}"
    if options["metrics"] is not None and _address(options["metrics"]) is None:
        return f"--metrics takes a port, or a host and a port such as 0.0.0.0:9187, not {options['metrics']}"
    return None


def watch(
    using: str,
    stdout: Any,
    options: dict[str, Any],
    stop: Stop,
    *,
    limit: int | None,
    grace: timedelta | None,
    wait: timedelta,
) -> None:
    """Drain again and again until a signal comes."""

    def write(text: str) -> None:
        stdout.write(text)
        # Of a pipe or a file nobody would see a line before there are many.
        stdout.flush()

    journal = Journal(write, using, as_objects=options["json"], problems_only=not options["verbosity"])
    metrics = _serve(using, options["metrics"], journal) if options["metrics"] is not None else None
    pace = Pace(options["interval"] or DEFAULT_INTERVAL)
    Watch(using, pace=pace, stop=stop, journal=journal, metrics=metrics, limit=limit, grace=grace, wait=wait).run()


def _serve(using: str, address: str, journal: Journal) -> Metrics:
    try:
        from pgcleanup.metrics import Metrics, serve
    except ImportError as error:
        raise CommandError(
            f'--metrics needs prometheus_client ({error}). Run: pip install "django-pgcleanup[prometheus]"',
            returncode=WRONG_USAGE,
        ) from error
    host, port = _address(address) or ("", 0)
    made = Metrics(using)
    try:
        port = serve(made, host, port)
    except OSError as error:
        raise CommandError(f"cannot serve metrics on {host}:{port}: {error}", returncode=FAILED) from error
    journal.tell("metrics", address=f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics")
    return made


def _address(value: str) -> tuple[str, int] | None:
    host, _, port = value.rpartition(":")
    if not port.isdecimal() or not int(port) < 65536:
        return None
    return host.strip("[]") or _LOCALHOST, int(port)
