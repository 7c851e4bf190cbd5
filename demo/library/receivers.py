"""What the site does when a file goes: it says goodbye, once for each file."""

from __future__ import annotations

from typing import Any

from django.dispatch import receiver

from demo.library.models import Goodbye
from pgcleanup.signals import cleanup_post_delete


@receiver(cleanup_post_delete)
def say_goodbye(file_name: str, success: bool, **kwargs: Any) -> None:
    if success:
        Goodbye.objects.create(name=file_name)
