"""Real pictures and PDF files, as small or large as wanted, the same in every run."""

from __future__ import annotations

import io
import random

from django.core.files.base import ContentFile
from PIL import Image, ImageDraw


def picture(name: str, width: int, height: int) -> ContentFile[bytes]:
    """Return a picture in the format that the name ends with."""
    return _file(name, _draw(name, width, height), "PNG" if name.endswith(".png") else "JPEG")


def pdf(name: str, pages: int = 1) -> ContentFile[bytes]:
    """Return a PDF with so many pages; some 100 KB each."""
    first, *rest = (_draw(f"{name}, page {number + 1}", 595, 842) for number in range(pages))
    return _file(name, first, "PDF", save_all=True, append_images=rest)


def _draw(title: str, width: int, height: int) -> Image.Image:
    dice = random.Random(title)
    image = Image.effect_noise((width, height), 60).convert("RGB")
    pencil = ImageDraw.Draw(image)
    for _ in range(12):
        x, y, size = dice.randrange(width), dice.randrange(height), dice.randrange(8, 8 + width // 4)
        colour = tuple(dice.randrange(256) for _ in range(3))
        pencil.ellipse((x, y, x + size, y + size), fill=colour)
    pencil.text((10, 10), title, fill="black")
    return image


def _file(name: str, image: Image.Image, kind: str, **options: object) -> ContentFile[bytes]:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return ContentFile(content.getvalue(), name)
