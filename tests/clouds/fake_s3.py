"""A server that speaks as much of S3 as a drain does, and misbehaves on demand: what a real one does once in a year."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
LONG_AGO = "2026-01-01T00:00:00.000Z"


@dataclass
class Bucket:
    """What the server has, and how it misbehaves."""

    keys: set[str] = field(default_factory=set)
    etags: dict[str, str] = field(default_factory=dict)
    """Of keys that were written again; of all others it is `etag`."""
    requests: Counter[str] = field(default_factory=Counter)
    """By method; LIST and DELETE_MANY are what they say."""
    look: int = 200
    """The status for a HEAD of a key that is there."""
    missing: int = 404
    delete: int = 204
    errors: dict[str, str] = field(default_factory=dict)
    """By key: the code that a deletion of many answers with."""
    may_list: bool = True
    unlisted: set[str] = field(default_factory=set)
    """Keys that no listing shows."""
    knows_conditions: bool = True
    delete_many: int = 200
    """The status of a deletion of many."""
    code: str = ""
    """The code of one that fails as a whole."""
    dislikes: str | None = None
    """A key that makes a deletion of many fail as a whole."""
    throttled: int = 0
    """So many requests are refused with 503 first."""
    loses_answers: bool = False
    before_delete: Callable[[], None] = lambda: None
    """Called when a deletion comes in."""
    after_delete: Callable[[], None] = lambda: None
    """Called when one has been carried out."""

    def etag(self, key: str) -> str:
        return self.etags.get(key, '"etag"')

    def remove(self, key: str, etag: str | None) -> str | None:
        """Delete a key, and return the code of the error if it cannot be."""
        if code := self.errors.get(key):
            return code
        if key in self.keys and etag is not None and etag != self.etag(key):
            return "PreconditionFailed"
        self.keys.discard(key)
        return None


def handler(bucket: Bucket) -> type[BaseHTTPRequestHandler]:
    counting = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self, status: int, body: str = "", **headers: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", headers.pop("length", str(len(body.encode()))))
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        def _error(self, status: int, code: str) -> None:
            self._answer(status, "" if self.command == "HEAD" else f"<Error><Code>{code}</Code></Error>")

        def _is_throttled(self, kind: str) -> bool:
            with counting:
                bucket.requests[kind] += 1
                is_throttled = bucket.throttled > 0
                bucket.throttled -= is_throttled
            if is_throttled:
                self._error(503, "SlowDown")
            return is_throttled

        @property
        def _key(self) -> str:
            return unquote(urlsplit(self.path).path).removeprefix("/bucket").removeprefix("/")

        def do_HEAD(self) -> None:
            if self._is_throttled("HEAD"):
                return
            key = self._key
            if key in bucket.keys and bucket.look == 200:
                self._answer(200, length="7", ETag=bucket.etag(key))
            else:
                self._error(bucket.look if key in bucket.keys else bucket.missing, "")

        def do_DELETE(self) -> None:
            if self._is_throttled("DELETE"):
                return
            if "If-Match" in self.headers and not bucket.knows_conditions:
                self._error(501, "NotImplemented")
                return
            bucket.before_delete()
            code = bucket.remove(self._key, self.headers.get("If-Match")) if bucket.delete == 204 else None
            if bucket.loses_answers:
                self.close_connection = True
            elif code is not None or bucket.delete != 204:
                self._error(412 if code == "PreconditionFailed" else bucket.delete, code or bucket.code)
            else:
                self._answer(204)

        def do_GET(self) -> None:
            if self._is_throttled("LIST"):
                return
            asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            if not bucket.may_list:
                self._error(403, "AccessDenied")
                return
            wanted = sorted(
                key
                for key in bucket.keys - bucket.unlisted
                if key.startswith(asked.get("prefix", "")) and key > asked.get("start-after", "")
            )
            most = int(asked.get("max-keys", "1000"))
            entries = "".join(
                f"<Contents><Key>{escape(quote(key))}</Key><LastModified>{LONG_AGO}</LastModified>"
                f"<ETag>{escape(bucket.etag(key))}</ETag><Size>7</Size></Contents>"
                for key in wanted[:most]
            )
            more = str(len(wanted) > most).lower()
            self._answer(
                200,
                f"<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>{more}</IsTruncated>"
                f"{entries}</ListBucketResult>",
            )

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self._is_throttled("DELETE_MANY"):
                return
            if bucket.delete_many != 200:
                self._error(bucket.delete_many, bucket.code)
                return
            bucket.before_delete()
            answers = []
            objects = list(ElementTree.fromstring(body).iter(f"{NAMESPACE}Object"))
            if bucket.dislikes in [one.findtext(f"{NAMESPACE}Key") for one in objects]:
                self._error(403 if bucket.code == "AccessDenied" else 400, bucket.code)
                return
            for one in objects:
                key, etag = one.findtext(f"{NAMESPACE}Key") or "", one.findtext(f"{NAMESPACE}ETag")
                if code := bucket.remove(key, etag):
                    answers.append(f"<Error><Key>{escape(key)}</Key><Code>{code}</Code><Message>no</Message></Error>")
            bucket.after_delete()
            if bucket.loses_answers:
                self.close_connection = True
                return
            self._answer(200, f"<DeleteResult>{''.join(answers)}</DeleteResult>")

        def log_message(self, *arguments: Any) -> None:
            pass

    return Handler


@contextmanager
def serving(bucket: Bucket) -> Iterator[str]:
    """Answer for the bucket. Yields the endpoint."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(bucket))
    # The server looks whether it is to stop so often: half a second, by default, for each test.
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def storage_at(endpoint: str, **options: Any) -> Any:
    """Return the storage of django-storages for that bucket."""
    from storages.backends.s3 import S3Storage

    settings = {
        "bucket_name": "bucket",
        "endpoint_url": endpoint,
        "access_key": "access",
        "secret_key": "secret",
        "region_name": "us-east-1",
        "addressing_style": "path",
    }
    return S3Storage(**{**settings, **options})
