"""Two storages have the same key when, and only when, they would delete the same file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from django.core.files.storage import (
    FileSystemStorage,
    InMemoryStorage,
    Storage,
    default_storage,
    storages,
)
from django.db import models
from django.utils.deconstruct import deconstructible
from pytest_django import Settings

from pgcleanup.storage_keys import UNUSABLE, StorageKeys, describe, lies_inside, storage_key, unwrapped
from tests.support import CHECKOUT


class OtherFileSystemStorage(FileSystemStorage):
    """A class of its own on the same folder."""


class BucketStorage(Storage):
    """Has the attributes of django-storages' S3 storage."""

    def __init__(self, **options: object) -> None:
        self.bucket_name: object = None
        self.endpoint_url: object = None
        self.location: object = ""
        self.access_key: object = None
        self.secret_key: object = None
        vars(self).update(options)


class OtherBucketStorage(BucketStorage):
    """Another service's."""


@deconstructible
class PlainStorage(Storage):
    """Has nothing to tell it by but the arguments it was made with."""

    def __init__(self, root: str = "", **options: object) -> None:
        self._root = root


class DeletingStorage(Storage):
    """Has neither known attributes nor arguments."""

    def delete(self, name: str) -> None: ...


class PrivateStorage(DeletingStorage):
    """The same place by another address."""

    def url(self, name: str | None) -> str:
        return f"/private/{name}"


class OtherDeletingStorage(Storage):
    """Another place."""

    def delete(self, name: str) -> None: ...


class PlacedStorage(OtherDeletingStorage):
    """Says where it works."""

    def __init__(self, place: object) -> None:
        self._place = place

    @property
    def pgcleanup_place(self) -> object:
        return self._place


class PlacedFolder(FileSystemStorage):
    """Says so as well, and has a folder."""

    pgcleanup_place = "vault"


def test_two_instances_on_one_folder_are_the_same(tmp_path: Path) -> None:
    assert storage_key(FileSystemStorage(tmp_path)) == storage_key(FileSystemStorage(str(tmp_path)))


def test_two_classes_on_one_folder_are_the_same(tmp_path: Path) -> None:
    assert storage_key(FileSystemStorage(tmp_path)) == storage_key(OtherFileSystemStorage(tmp_path))


@pytest.mark.parametrize("spelling", ["{}/", "{}/.", "{}/x/..", "{}//"])
def test_two_spellings_of_one_folder_are_the_same(tmp_path: Path, spelling: str) -> None:
    assert storage_key(FileSystemStorage(tmp_path)) == storage_key(FileSystemStorage(spelling.format(tmp_path)))


def test_link_to_a_folder_is_the_same_as_the_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    assert storage_key(FileSystemStorage(tmp_path / "real")) == storage_key(FileSystemStorage(tmp_path / "link"))


def test_two_folders_are_two_storages(tmp_path: Path) -> None:
    assert storage_key(FileSystemStorage(tmp_path / "a")) != storage_key(FileSystemStorage(tmp_path / "b"))


def test_addresses_and_permissions_of_files_do_not_matter(tmp_path: Path) -> None:
    plain = FileSystemStorage(tmp_path)
    other = FileSystemStorage(tmp_path, base_url="/other/", file_permissions_mode=0o600)

    assert storage_key(plain) == storage_key(other)


def test_default_storage_is_the_same_as_what_it_leads_to(settings: Settings) -> None:
    assert storage_key(default_storage) == storage_key(storages["default"])
    assert storage_key(default_storage) == storage_key(FileSystemStorage(settings.MEDIA_ROOT))
    assert unwrapped(default_storage) is not default_storage


def test_default_storage_that_is_no_folder_is_the_same_as_what_it_leads_to(settings: Settings) -> None:
    backend = {"BACKEND": f"{__name__}.BucketStorage", "OPTIONS": {"bucket_name": "media"}}
    settings.STORAGES = {**settings.STORAGES, "default": backend}

    assert storage_key(default_storage) == storage_key(BucketStorage(bucket_name="media"))


def test_default_storage_follows_media_root(settings: Settings, tmp_path: Path) -> None:
    before = storage_key(default_storage)

    settings.MEDIA_ROOT = tmp_path / "elsewhere"

    assert storage_key(default_storage) != before


def test_two_credentials_for_one_bucket_are_the_same() -> None:
    one = BucketStorage(bucket_name="media", access_key="AKIA1", secret_key="one")
    two = BucketStorage(bucket_name="media", access_key="AKIA2", secret_key="two")

    assert storage_key(one) == storage_key(two)


@pytest.mark.parametrize(
    "name", ["secret_key", "password", "api_token", "credentials", "account_key", "sas_token", "auth", "session_id"]
)
def test_two_credentials_in_the_arguments_are_the_same(name: str) -> None:
    assert storage_key(PlainStorage("r", **{name: "one"})) == storage_key(PlainStorage("r", **{name: "two"}))


@pytest.mark.parametrize(
    ("name", "value"),
    [("bucket_name", "other"), ("location", "prefix"), ("endpoint_url", "https://minio.example")],
)
def test_another_bucket_prefix_or_endpoint_is_another_storage(name: str, value: str) -> None:
    options = {"bucket_name": "media"}

    assert storage_key(BucketStorage(**options)) != storage_key(BucketStorage(**{**options, name: value}))


@pytest.mark.parametrize(
    ("inner", "outer"),
    [
        (FileSystemStorage("/srv/media/private"), FileSystemStorage("/srv/media")),
        (FileSystemStorage("/srv"), FileSystemStorage("/")),
        (BucketStorage(bucket_name="media", location="private"), BucketStorage(bucket_name="media")),
        (
            BucketStorage(bucket_name="media", location="files/private/"),
            BucketStorage(bucket_name="media", location="files"),
        ),
        (BucketStorage(host="one.example", root_path="/srv/a"), BucketStorage(host="one.example", root_path="/srv")),
        (BucketStorage(location="ftp://u:x@host:21/a/b"), BucketStorage(location="ftp://u:y@host:21/a/")),
    ],
    ids=["folder", "root", "bucket", "prefix", "server", "URL"],
)
def test_storage_in_a_folder_of_another_lies_inside_it(inner: Storage, outer: Storage) -> None:
    assert lies_inside(inner, outer)
    assert not lies_inside(outer, inner)
    assert storage_key(inner) != storage_key(outer)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (FileSystemStorage("/srv/media-old"), FileSystemStorage("/srv/media")),
        (BucketStorage(bucket_name="media", location="a"), BucketStorage(bucket_name="other")),
        (BucketStorage(bucket_name="media", location="ab"), BucketStorage(bucket_name="media", location="a")),
        (BucketStorage(bucket_name="media", location="a"), OtherBucketStorage(bucket_name="media")),
        (BucketStorage(bucket_name="media"), BucketStorage(bucket_name="media")),
        (InMemoryStorage("/srv/media/private"), InMemoryStorage("/srv/media")),
        (PlainStorage("/srv/media/private"), PlainStorage("/srv/media")),
    ],
    ids=["folders", "buckets", "prefixes", "classes", "the same", "memory", "unknown"],
)
def test_storages_side_by_side_do_not_lie_inside_each_other(one: Storage, two: Storage) -> None:
    assert not lies_inside(one, two)
    assert not lies_inside(two, one)


def test_another_host_with_the_same_root_is_another_storage() -> None:
    one, two = (BucketStorage(host=host, root_path="/srv/media") for host in ("one.example", "two.example"))

    assert storage_key(one) != storage_key(two)


@pytest.mark.parametrize(
    ("name", "one", "two"),
    [
        ("location", "media", "media/"),
        ("endpoint_url", "https://minio.example", "https://minio.example/"),
        ("custom_endpoint", None, "https://cdn.example"),
        # Google Cloud's own, once its client has been made.
        ("project_id", None, "project-1"),
    ],
)
def test_two_ways_to_one_bucket_are_the_same(name: str, one: object, two: object) -> None:
    options = {"bucket_name": "media"}

    assert storage_key(BucketStorage(**options, **{name: one})) == storage_key(BucketStorage(**options, **{name: two}))


def test_two_passwords_in_a_location_are_the_same() -> None:
    one, two = (BucketStorage(location=f"ftp://user:{password}@host:21/files") for password in ("hush", "h:@sh"))

    assert storage_key(one) == storage_key(two)


def test_bucket_of_another_class_is_another_storage() -> None:
    assert storage_key(BucketStorage(bucket_name="media")) != storage_key(OtherBucketStorage(bucket_name="media"))


def test_storage_without_known_attributes_is_told_by_its_arguments() -> None:
    assert storage_key(PlainStorage("a")) == storage_key(PlainStorage("a"))
    assert storage_key(PlainStorage("a")) != storage_key(PlainStorage("b"))
    assert storage_key(PlainStorage("a", region="x")) != storage_key(PlainStorage("a", region="y"))


def test_class_that_leaves_deleting_to_its_base_is_the_same_storage() -> None:
    assert storage_key(PrivateStorage()) == storage_key(DeletingStorage())


def test_classes_that_delete_each_in_its_own_way_are_two_storages() -> None:
    assert storage_key(DeletingStorage()) != storage_key(OtherDeletingStorage())


def test_storages_that_say_the_same_place_are_the_same_whatever_their_class(tmp_path: Path) -> None:
    assert storage_key(PlacedStorage("vault")) == storage_key(PlacedFolder(tmp_path))


def test_storages_that_say_different_places_are_two() -> None:
    assert storage_key(PlacedStorage("vault")) != storage_key(PlacedStorage("attic"))


def test_place_that_is_no_text_makes_a_storage_unusable() -> None:
    assert StorageKeys().of(models.FileField(storage=PlacedStorage(7))) == f"{UNUSABLE}: TypeError"


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://s3.amazonaws.com",
        "https://s3.eu-central-1.amazonaws.com/",
        "https://S3.eu-central-1.amazonaws.com:443",
        "https://s3.dualstack.us-east-1.amazonaws.com",
        "https://s3-eu-west-1.amazonaws.com",
    ],
)
def test_endpoint_of_aws_itself_is_the_same_as_none(endpoint: str) -> None:
    one, two = BucketStorage(bucket_name="media"), BucketStorage(bucket_name="media", endpoint_url=endpoint)

    assert storage_key(one) == storage_key(two)


@pytest.mark.parametrize(
    "endpoint", ["https://s3.amazonaws.com.example", "https://media.amazonaws.com", "https://s3.example", "https://h:x"]
)
def test_endpoint_of_somebody_else_is_another_storage_than_aws(endpoint: str) -> None:
    one, two = BucketStorage(bucket_name="media"), BucketStorage(bucket_name="media", endpoint_url=endpoint)

    assert storage_key(one) != storage_key(two)


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("https://minio.example:443", "https://minio.example", True),
        ("http://minio.example:80/", "http://MINIO.example", True),
        ("https://[::1]:443", "https://[::1]", True),
        ("https://minio.example:9000", "https://minio.example", False),
        ("https://minio.example:9443", "https://minio.example:9", False),
        ("https://minio.example:80", "https://minio.example", False),
    ],
)
def test_port_of_an_endpoint_counts_unless_it_is_the_usual_one(one: str, two: str, same: bool) -> None:
    keys = [storage_key(BucketStorage(bucket_name="media", endpoint_url=endpoint)) for endpoint in (one, two)]

    assert (keys[0] == keys[1]) is same


def test_argument_that_is_an_object_does_not_bring_its_address_into_the_key() -> None:
    assert storage_key(PlainStorage("a", client=object())) == storage_key(PlainStorage("a", client=object()))


def test_memory_storages_are_told_by_their_arguments() -> None:
    assert storage_key(InMemoryStorage(location="a")) != storage_key(InMemoryStorage(location="b"))


def test_key_is_the_same_in_every_process(tmp_path: Path) -> None:
    script = (
        "from django.conf import settings; settings.configure()\n"
        "from django.core.files.storage import FileSystemStorage\n"
        "from pgcleanup.storage_keys import storage_key\n"
        f"print(storage_key(FileSystemStorage({str(tmp_path)!r})))"
    )

    done = subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == storage_key(FileSystemStorage(tmp_path))


def test_key_has_no_text_of_the_place_in_it(tmp_path: Path) -> None:
    key = storage_key(FileSystemStorage(tmp_path))

    assert len(key) == 32
    assert set(key) <= set("0123456789abcdef")


def test_description_for_people_names_class_and_place_but_no_credential() -> None:
    storage = BucketStorage(bucket_name="media", location="prefix", access_key="AKIA1", secret_key="hush")

    assert describe(storage) == "BucketStorage (bucket media, prefix)"


def test_description_for_people_has_no_password_of_a_location() -> None:
    assert describe(BucketStorage(location="ftp://user:hush@host:21/files")) == (
        "BucketStorage (ftp://user@host:21/files)"
    )


def test_description_of_a_storage_without_a_place_is_its_class() -> None:
    assert describe(PlainStorage("a", password="hush")) == "PlainStorage"


class CountingStorage(FileSystemStorage):
    """Counts how often it is asked for its folder."""

    asked = 0

    @property
    def location(self) -> str:  # type: ignore[override]  # a cached property there
        self.asked += 1
        return "/somewhere"


def test_storage_of_many_fields_is_asked_for_its_place_once() -> None:
    storage, keys = CountingStorage(), StorageKeys()
    found = {keys.of(models.FileField(storage=storage)) for _ in range(20)}
    assert found == {storage_key(FileSystemStorage("/somewhere"))}
    assert storage.asked == 1


def test_storages_made_for_one_field_each_are_told_apart(tmp_path: Path) -> None:
    keys = StorageKeys()
    # Each is gone, and its id free for the next, unless the keys hold it.
    found = [keys.of(models.FileField(storage=FileSystemStorage(tmp_path / str(number)))) for number in range(20)]
    assert len(set(found)) == 20


def test_storage_that_cannot_be_set_up_has_a_key_that_no_storage_has(settings: Settings) -> None:
    settings.STORAGES = {"default": {"BACKEND": "no.such.Storage"}}
    assert StorageKeys().of(models.FileField()) == f"{UNUSABLE}: InvalidStorageError"
