"""The errors that S3 answers a deletion with."""

from __future__ import annotations

from collections.abc import Mapping

from botocore.exceptions import ClientError

from pgcleanup.storages.base import Changed
from pgcleanup.storages.errors import status_of

# Of what speaks S3's protocol, but not all of it.
_NOT_UNDERSTOOD = {
    "NotImplemented",
    "MethodNotAllowed",
    "MalformedXML",
    "InvalidArgument",
    "InvalidRequest",
    "MissingContentMD5",
}
_REFUSED = {"SlowDown", "RequestLimitExceeded", "TooManyRequests"}
_STATUS = {
    "AccessDenied": 403,
    "SlowDown": 503,
    "ServiceUnavailable": 503,
    "RequestLimitExceeded": 503,
    "InternalError": 500,
}


def as_client_error(error: Mapping[str, str]) -> Exception | None:
    """Return the error of one key, in a call for many, as if it had been asked for alone; None where it had gone."""
    code = error.get("Code", "")
    if code in ("NoSuchKey", "NoSuchVersion"):
        return None
    if code == "PreconditionFailed":
        return Changed(error["Key"])
    response = {
        "Error": {"Code": code, "Message": error.get("Message", "")},
        "ResponseMetadata": {"HTTPStatusCode": _STATUS.get(code, 400)},
    }
    failure: Exception = ClientError(response, "DeleteObjects")
    return failure


def is_refused(error: object) -> bool:
    """Whether S3 itself asked for fewer requests, before it did anything.

    A 503 of something in front of it may come after all was deleted, and others may have the names by now: to be
    looked at again first.
    """
    return isinstance(error, ClientError) and error.response["Error"]["Code"] in _REFUSED


def is_not_understood(error: ClientError) -> bool:
    """Whether the server does not know what it was asked for."""
    return error.response["Error"]["Code"] in _NOT_UNDERSTOOD or status_of(error) == 501
