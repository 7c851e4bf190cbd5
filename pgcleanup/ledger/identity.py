"""Which database this is: what a copy of it, restored or cloned elsewhere, would answer differently."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from django.db import NotSupportedError, ProgrammingError, connections, transaction

from pgcleanup import sql

# A dump that was restored has another oid, and mostly another server; a physical copy has neither.
_DATABASE = """
SELECT d.oid::bigint, d.datname::text,
       inet_server_addr() IS NULL OR inet_server_addr() <<= '127.0.0.0/8' OR inet_server_addr() = '::1'
  FROM pg_database d WHERE d.datname = current_database()
"""
_SERVER = "SELECT system_identifier FROM pg_control_system()"

_CONTAINER_FILES = ("/.dockerenv", "/run/.containerenv")
_CONTAINER_VARIABLES = ("KUBERNETES_SERVICE_HOST", "ECS_CONTAINER_METADATA_URI_V4", "K_SERVICE", "CLOUD_RUN_JOB")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What tells a database from its copies."""

    system_identifier: int | None
    """Of the server, from its initdb; kept by physical copies. None where the role may not ask."""
    oid: int
    name: str
    addresses: tuple[str, ...]
    """How it is reached, as "host:port/name": a physical copy has another, a standby that takes over has not."""

    def __str__(self) -> str:
        """Say it for people."""
        server = f" of server {self.system_identifier}" if self.system_identifier is not None else ""
        return f'"{self.name}" (oid {self.oid}){server}, reached at {" or ".join(self.addresses)}'

    def same_server_as(self, other: Identity) -> bool:
        """Whether both are databases of one server, or of a physical copy of it, as far as both can tell."""
        return None in (mine := (self.system_identifier, other.system_identifier)) or mine[0] == mine[1]

    def differences(self, now: Identity) -> Iterator[str]:
        """Yield how the database of now is another one than this; nothing where it is the same."""
        if not self.same_server_as(now):
            yield "it is on another server"
        if self.oid != now.oid:
            yield "it is another database"
        elif self.name != now.name:
            yield "it has another name"

    def moved_to(self, now: Identity) -> str | None:
        """Say that none of its addresses was known; None where one was."""
        if set(self.addresses) & set(now.addresses):
            return None
        return "it is reached at another address"

    def reached_also_at(self, now: Identity) -> Identity:
        """Return this identity with the addresses of `now` besides its own."""
        return replace(self, addresses=tuple(sorted({*self.addresses, *now.addresses})))


def present_identity(using: str) -> Identity:
    """Return the identity of the database behind an alias. Asks for nothing that takes a special right."""
    oid, name, server_is_local = sql.fetch(using, _DATABASE)[0]
    return Identity(
        system_identifier=system_identifier(using),
        oid=oid,
        name=name,
        addresses=tuple(dict.fromkeys(_addresses(using, server_is_local))),
    )


def system_identifier(using: str) -> int | None:
    """Return the server's own number. Every role may ask for it, unless a provider took that away."""
    try:
        with transaction.atomic(using=using):
            value: int = sql.fetch(using, _SERVER)[0][0]
            return value
    except (ProgrammingError, NotSupportedError):
        return None


def _addresses(using: str, server_is_local: bool) -> Iterator[str]:
    """Yield an address for each host that the settings name.

    Not where the connection led to in the end: after a standby took over, one of several hosts, a name in
    the DNS or a pooler leads to another server.
    """
    connection = connections[using]
    connection.ensure_connection()
    parameters, info = connection.get_connection_params(), connection.connection.info
    # What comes from a service file or the environment libpq knows, all hosts of a list with it.
    known = {option.keyword.decode(): (option.val or b"").decode() for option in connection.connection.pgconn.info}
    hosts = str(parameters.get("host") or parameters.get("hostaddr") or known.get("host") or info.host or "").split(",")
    ports = str(parameters.get("port") or known.get("port") or info.port).split(",")
    for number, host in enumerate(hosts):
        port = ports[number] if len(ports) == len(hosts) else ports[0]
        yield f"{_host(host, server_is_local)}:{port or info.port}/{info.dbname}"


def _host(host: str, server_is_local: bool) -> str:
    """Return a host as others would call it: "localhost" is another one on each machine."""
    host = host.strip().lower().rstrip(".")
    # In a container the name changes with each start, and its "localhost" is a proxy beside it.
    if server_is_local and _means_this_machine(host) and not _in_container():
        return socket.gethostname().lower().partition(".")[0]
    return host or "localhost"


def _means_this_machine(host: str) -> bool:
    if host.startswith(("/", "@")):
        # A proxy's socket is named after the server: /cloudsql/project:region:instance.
        return ":" not in host
    if host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _in_container() -> bool:
    return any(Path(name).exists() for name in _CONTAINER_FILES) or any(map(os.environ.get, _CONTAINER_VARIABLES))
