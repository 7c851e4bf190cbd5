"""Database URLs, to and from Django's settings: `postgresql://user:password@host:port/name?option=value`."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

SCHEMES = ("postgres", "postgresql")


def parse(url: str) -> dict[str, Any]:
    """Return an entry of DATABASES.

    The query holds libpq's parameters; `host` among them is how a URL names a socket directory.

    Raises:
        ValueError: the URL is not one of PostgreSQL, or names no database.
    """
    parts = urlsplit(url)
    name = unquote(parts.path.removeprefix("/"))
    if parts.scheme not in SCHEMES or not name:
        raise ValueError("a database URL has the form postgresql://user:password@host:port/name")

    options = dict(parse_qsl(parts.query))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": options.pop("host", unquote(parts.hostname or "")),
        "PORT": str(parts.port or ""),
        "OPTIONS": options,
    }


def render(database: dict[str, Any]) -> str:
    """Return the URL of an entry of DATABASES, or of a connection's `settings_dict`."""
    user, password, name = (quote(database[key], safe="") for key in ("USER", "PASSWORD", "NAME"))
    credentials = f"{user}:{password}@" if password else f"{user}@" if user else ""
    host, options = database["HOST"], {**database["OPTIONS"]}
    if host.startswith("/"):
        options["host"], host = host, ""
    elif ":" in host:
        host = f"[{host}]"
    port = f":{database['PORT']}" if database["PORT"] else ""
    query = f"?{urlencode(options)}" if options else ""
    return f"postgresql://{credentials}{host}{port}/{name}{query}"
