"""What happens on the demo site: rows with files, then ten ways to change and remove them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import psycopg
from django.core.files.storage import default_storage
from django.db import connection, transaction
from post_office.models import Attachment, Email

from demo.files import pdf, picture
from demo.library.models import Document, Folder, Invoice, Photo, Profile, Scan
from demo.site import Site
from pgcleanup.status.words import plural, size

DEFAULT_AVATAR = "avatars/default.png"

File = tuple[str, str]
"""Storage ("media" or "archive") and name."""


@dataclass(frozen=True)
class Change:
    """One way to change rows: what it is called, what it does, and what must become of the files."""

    title: str
    do: Callable[[Site], Expected]


@dataclass(frozen=True)
class Expected:
    """The files that a change is about."""

    goes: tuple[File, ...] = ()
    stays: tuple[File, ...] = ()


def fill() -> None:
    """Give the site its rows and files."""
    default_storage.save(DEFAULT_AVATAR, picture("default.png", 96, 96))
    for slug, pages in {"contract": 2, "price-list": 1, "minutes-1": 1, "minutes-2": 1, "minutes-3": 3}.items():
        Document.objects.create(slug=slug, file=pdf(f"{slug}.pdf", pages))
    Document.objects.create(slug="manual", file=pdf("manual.pdf", 12))
    draft = Document.objects.create(slug="draft", file=pdf("report.pdf", 2))
    Document.objects.create(slug="final", file=draft.file.name)
    for title, width, height in [("sea", 1600, 1200), ("lighthouse", 640, 480), ("gull", 320, 200)]:
        photo = Photo.objects.create(title=title, image=picture(f"{title}.jpg", width, height))
        for alias in ("list", "page"):
            photo.image[alias]  # makes the thumbnail
    for name in ("ada", "grace"):
        Profile.objects.create(name=name, avatar=picture(f"{name}.png", 96, 96))
    for number in (1001, 1002, 1003, 1004):
        Invoice.objects.create(number=number, file=pdf(f"{number}.pdf"))
    for title in ("letters", "maps"):
        folder = Folder.objects.create(title=title)
        for page in (1, 2, 3):
            Scan.objects.create(folder=folder, file=picture(f"{title}-{page}.png", 400, 560))
    mail = Email.objects.create(from_email="shop@example.com", to=["you@example.com"], subject="Your order")
    attachment = Attachment.objects.create(name="order.pdf", file=pdf("order.pdf", 2))
    attachment.emails.add(mail)


def save(site: Site) -> Expected:
    document = Document.objects.get(slug="contract")
    old = document.file.name
    document.file = pdf("contract-signed.pdf", 2)
    document.save()
    return Expected(goes=media(old), stays=media(document.file.name))


def delete(site: Site) -> Expected:
    photo = Photo.objects.get(title="sea")
    thumbnails = [thumbnail.name for thumbnail in photo.image.get_thumbnails()]
    photo.delete()
    return Expected(goes=media(photo.image.name, *thumbnails))


def update(site: Site) -> Expected:
    profiles = Profile.objects.filter(name__in=["ada", "grace"])
    names = list(profiles.values_list("avatar", flat=True))
    profiles.update(avatar=DEFAULT_AVATAR)
    return Expected(goes=media(*names), stays=media(DEFAULT_AVATAR))


def bulk_update(site: Site) -> Expected:
    documents = list(Document.objects.filter(slug__startswith="minutes-").order_by("slug"))
    old = [document.file.name for document in documents]
    for document in documents[:2]:
        document.file = documents[2].file.name
    Document.objects.bulk_update(documents, ["file"])
    return Expected(goes=media(*old[:2]), stays=media(old[2]))


def upsert(site: Site) -> Expected:
    old = Document.objects.get(slug="price-list").file.name
    new = Document(slug="price-list", file=pdf("price-list-2.pdf"))
    Document.objects.bulk_create([new], update_conflicts=True, unique_fields=["slug"], update_fields=["file"])
    return Expected(goes=media(old), stays=media(new.file.name))


def raw_sql(site: Site) -> Expected:
    name = Attachment.objects.get(name="order.pdf").file.name
    with psycopg.connect(site.url, application_name="nightly.sql") as other:
        other.execute("DELETE FROM post_office_attachment_emails")
        other.execute("DELETE FROM post_office_attachment WHERE name = 'order.pdf'")
    return Expected(goes=media(name))


def truncate(site: Site) -> Expected:
    names = list(Invoice.objects.values_list("file", flat=True))
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE library_invoice")
    return Expected(goes=tuple(("archive", name) for name in names))


def database_cascade(site: Site) -> Expected:
    names = list(Scan.objects.filter(folder__title="letters").values_list("file", flat=True))
    others = list(Scan.objects.filter(folder__title="maps").values_list("file", flat=True))
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM library_folder WHERE title = 'letters'")
    return Expected(goes=media(*names), stays=media(*others))


def rollback(site: Site) -> Expected:
    manual = Document.objects.get(slug="manual")
    with transaction.atomic():
        Document.objects.filter(slug="manual").delete()
        transaction.set_rollback(True)
    return Expected(stays=media(manual.file.name))


def shared(site: Site) -> Expected:
    draft = Document.objects.get(slug="draft")
    draft.delete()
    return Expected(stays=media(draft.file.name))


def last_row(site: Site) -> Expected:
    final = Document.objects.get(slug="final")
    final.delete()
    return Expected(goes=media(final.file.name))


def default_avatar(site: Site) -> Expected:
    Profile.objects.all().delete()
    return Expected(stays=media(DEFAULT_AVATAR))


def media(*names: str) -> tuple[File, ...]:
    """Return files of the default storage."""
    return tuple(("media", name) for name in names)


CHANGES = (
    Change("save() puts a new file into a document", save),
    Change("delete() of a photo with two thumbnails", delete),
    Change("QuerySet.update() of two avatars to the default one", update),
    Change("bulk_update() lets two documents name the file of a third", bulk_update),
    Change("upsert: bulk_create(update_conflicts=True)", upsert),
    Change("raw SQL from another connection, in a third-party app's table: post_office", raw_sql),
    Change("TRUNCATE, in the second storage", truncate),
    Change("a cascade of the database's own, ON DELETE CASCADE", database_cascade),
    Change("delete() in a transaction that is rolled back", rollback),
    Change("delete() of one of two rows that share a file", shared),
)

# After the first drain that deletes.
LATER = (
    Change("delete() of the other row that shared the file", last_row),
    Change("delete() of everybody who has the default avatar", default_avatar),
)


def sizes(site: Site) -> dict[File, int]:
    """Return every file on disk with its size."""
    return {
        (storage, str(path.relative_to(site.files / storage))): path.stat().st_size
        for storage in ("media", "archive")
        for path in (site.files / storage).rglob("*")
        if path.is_file()
    }


def summary(files: Iterable[int]) -> str:
    """Return number and size of files."""
    listed = list(files)
    return f"{plural(len(listed), 'file')}, {size(sum(listed))}"
