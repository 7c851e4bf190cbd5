from __future__ import annotations

from django.apps import AppConfig


class LibraryConfig(AppConfig):
    name = "demo.library"

    def ready(self) -> None:
        from demo.library import receivers  # noqa: F401 -- connects them
