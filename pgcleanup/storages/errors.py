"""What errors of storages say, whichever client library they come from."""

from __future__ import annotations


def status_of(error: object) -> int | None:
    """Return the HTTP status that a server answered with; None where it is not known."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore's
        return _number(response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
    return _number(getattr(error, "status_code", None)) or _number(getattr(error, "code", None))


def is_forbidden(error: object) -> bool:
    """Whether the server answered 403: mostly a right that is missing, not a fault of this file."""
    return status_of(error) == 403


def is_throttled(error: object) -> bool:
    """Whether the server asked for fewer requests. It has not carried this one out."""
    return status_of(error) in (429, 503)


def says_not_found(error: Exception) -> bool:
    """Whether an error says that a file is not there; so does one of a storage that cannot be asked for it."""
    return isinstance(error, FileNotFoundError | NotImplementedError | LookupError) or status_of(error) == 404


def _number(value: object) -> int | None:
    return int(value) if isinstance(value, int) else None
