"""What the ledger remembers of storages that failed as a whole, and of names that fail by themselves."""

from __future__ import annotations

from datetime import datetime

from pgcleanup import sql

_RETRY_PUT_OFF = """
UPDATE pending_file_deletion SET retry_at = clock_timestamp()
 WHERE retry_at > clock_timestamp() AND attempts = 0 AND starts_with(last_error, 'retrying: ')
"""

# Of each source that was put off because its storage failed as a whole: until when, if it still waits, and why.
# What hung waits for its own retry, by its own attempts. What is put off comes back within a minute, so that the next
# retries and the last ones tell of it: an outage may have put off a million names.
_PUT_OFF = """
SELECT source,
       max(retry_at) FILTER (WHERE attempts = 0 AND retry_at > clock_timestamp()),
       (array_agg(regexp_replace(last_error, '^(retrying|StorageHung): ', '') ORDER BY retry_at DESC))[1]
  FROM ((SELECT * FROM pending_file_deletion
          WHERE retry_at IS NOT NULL AND retry_at > clock_timestamp() ORDER BY retry_at LIMIT %(limit)s)
        UNION ALL
        (SELECT * FROM pending_file_deletion
          WHERE retry_at IS NOT NULL AND retry_at <= clock_timestamp() ORDER BY retry_at DESC LIMIT %(limit)s)) p
 WHERE exhausted_at IS NULL
   AND (attempts = 0 AND starts_with(last_error, 'retrying: storage ') OR starts_with(last_error, 'StorageHung: '))
 GROUP BY source
"""
_LOOKED_AT = 2_000

# How many names of each source have failed by themselves, as far as it matters.
_FAILING = """
SELECT source, count(DISTINCT name)
  FROM (SELECT source, name FROM pending_file_deletion
         WHERE retry_at IS NOT NULL AND exhausted_at IS NULL AND attempts > 0
         LIMIT %(limit)s) p
 GROUP BY source
"""


def put_off_sources(using: str) -> list[tuple[str, datetime | None, str]]:
    """Return the sources whose storage failed as a whole: source, until when it is left alone, and why."""
    return [(source, until, reason) for source, until, reason in sql.fetch(using, _PUT_OFF, {"limit": _LOOKED_AT})]


def failing_names(using: str) -> dict[str, int]:
    """Return how many names of each source wait for a retry after a failure of their own; of many, some are counted."""
    return dict(sql.fetch(using, _FAILING, {"limit": _LOOKED_AT}))


def retry_put_off(using: str) -> int:
    """Make those entries due that only wait because their storage as a whole failed. Returns how many."""
    return sql.execute(using, _RETRY_PUT_OFF)
