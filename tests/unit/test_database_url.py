from __future__ import annotations

import pytest

from tests.project import database_url


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://127.0.0.1/app",
        "postgresql://me@localhost:5433/app",
        "postgresql://me:p%40ss%2F%3Aword@[::1]:5433/my%20app",
        "postgresql://me:secret@db.example.com/app?sslmode=require&connect_timeout=3",
        "postgresql://me@/app?host=%2Fvar%2Frun%2Fpostgresql",
    ],
)
def test_url_survives_the_way_through_settings(url: str) -> None:
    assert database_url.render(database_url.parse(url)) == url


def test_url_is_decoded() -> None:
    database = database_url.parse("postgres://me:p%40ss@host:5433/my%20app?sslmode=require")

    assert database == {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "my app",
        "USER": "me",
        "PASSWORD": "p@ss",
        "HOST": "host",
        "PORT": "5433",
        "OPTIONS": {"sslmode": "require"},
    }


@pytest.mark.parametrize("url", ["sqlite:///db.sqlite3", "mysql://host/app", "postgresql://host", "app"])
def test_url_of_something_else_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match="has the form postgresql://user:password@host:port/name"):
        database_url.parse(url)
