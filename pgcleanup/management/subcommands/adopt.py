"""`manage.py pgcleanup adopt`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandParser

from pgcleanup.columns import find_file_columns
from pgcleanup.drain.permission import person
from pgcleanup.drain.store import find_stores
from pgcleanup.ledger import control, operating
from pgcleanup.ledger.identity import present_identity
from pgcleanup.management.subcommands.base import Subcommand
from pgcleanup.status.words import plural

logger = logging.getLogger("pgcleanup.control")


class Adopt(Subcommand):
    """Tells the drains that a database is theirs."""

    name = "adopt"
    writes = True
    help = "let drains delete in a database that was moved, upgraded or copied"
    description = (
        "Tells the drains that this database is the one whose files they may delete, after it was moved, upgraded or "
        "restored, or is reached at another address. Not for a copy that uses the other one's storages: the drain "
        "would delete files there. Exit code 0: it is; 1: you said no; 2: nobody could be asked."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        self.add_yes_argument(parser)

    def run(self, using: str, options: dict[str, Any]) -> None:
        self.require_control(using)
        known, now = control.read(using).identity, present_identity(using)
        changes = [] if known is None else list(known.differences(now))
        moved = None if known is None else known.moved_to(now)
        if known is not None and not changes and moved is None:
            self.say(f'Nothing to adopt: database "{using}" is known to its drains as {known}.')
            return
        if known is None:
            self.say(f'No drain has run in database "{using}" yet. It is {now}.')
        else:
            self.say(f'Database "{using}" was drained as {known}.')
            self.say(f"Now {' and '.join([*changes, *([moved] if moved else [])])}: it is {now}.")
        self.say("From now on, drains here delete files in:")
        for line in _storages(using):
            self.say(f"  {line}")
        self.confirm("Are these this database's own storages?", options)
        # A new address of the same database stands beside the known ones: other processes use those.
        adopted = now if changes or known is None else known.reached_also_at(now)
        control.adopt(using, adopted, person())
        logger.warning("%s adopted database %s: it was %s, and is %s", person(), using, known or "not known", now)
        self.say(f'Adopted: drains of database "{using}" know it as {adopted}.')


def _storages(using: str) -> Iterator[str]:
    columns = find_file_columns(using)
    pending = operating.names_by_storage(using, columns)
    stores = find_stores(columns)
    for key, store in stores.items():
        yield f"{store.label}: {plural(pending.get(key, 0), 'file')} pending"
    if rest := sum(count for key, count in pending.items() if key not in stores):
        yield f"storages that are not known here: {plural(rest, 'file')} pending"
