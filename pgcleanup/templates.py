"""Find and fill the texts in `migrations_templates/`."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgcleanup.exceptions import TemplateError
from pgcleanup.sql import quote_identifier, quote_literal

if TYPE_CHECKING:
    from importlib.abc import Traversable


def root() -> Traversable:
    """Return the template folder: inside an installed wheel, beside the package in a checkout."""
    installed = resources.files("pgcleanup") / "migrations_templates"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "migrations_templates"


def render(name: str, **values: Any) -> str:
    """Fill the template `name`.

    Every placeholder says how its value is quoted: `{x:i}` an identifier, `{x:l}` a literal, `{x:q}` SQL
    that is rendered already. Literal braces are doubled.

    Raises:
        TemplateError: no such template, no value for a placeholder, or a placeholder without its kind.
    """
    try:
        return "".join(
            literal if field is None else literal + _QUOTING[kind](values[field])
            for literal, field, kind in _parsed(name)
        )
    except KeyError as error:
        raise TemplateError(f"template {name} has a placeholder {error} that nothing was given for") from error


@cache
def text(name: str) -> str:
    """Return a template as it stands.

    Raises:
        TemplateError: there is none of that name.
    """
    try:
        return (root() / name).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise TemplateError(f"template {name} is missing from {root()}; reinstall django-pgcleanup") from error


@cache
def digest(name: str) -> str:
    """Fingerprint a template."""
    return hashlib.sha256(text(name).encode()).hexdigest()


@cache
def _parsed(name: str) -> list[tuple[str, str | None, str]]:
    """Return the template cut at its placeholders. Once: string.Formatter parses and looks up at every use."""
    # string.Template would turn the $$ around a function body into $ without a word.
    parts = [(literal, field, kind or "") for literal, field, kind, _ in string.Formatter().parse(text(name))]
    for _, field, kind in parts:
        if field is not None and kind not in _QUOTING:
            raise TemplateError(f"placeholder {{{field}:{kind}}} of template {name} is not of the kind i, l or q")
    return parts


_QUOTING: dict[str, Callable[[Any], str]] = {"i": quote_identifier, "l": quote_literal, "q": str}
