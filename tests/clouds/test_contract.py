"""What a drain asks of each kind of storage in a cloud, on a server that speaks it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.base import ContentFile

from pgcleanup.drain import drain
from pgcleanup.models import Outcome
from pgcleanup.storages import Changed, GenericAdapter, Presence, SerialAdapter, adapter_for
from tests.clouds.servers import SERVERS, MakeStorage
from tests.drain.support import let_go, pending, results, settled
from tests.project.models import Document

ODD = ["docs/ä ö.txt", 'docs/it\'s a "b".txt', "docs/50%.txt", "docs/a+b&c=d?e#f.txt", "docs/日本.txt", "docs/<x>.txt"]


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[MakeStorage]:
    with SERVERS[request.param]() as make:
        yield make


@pytest.fixture
def cloud(server: MakeStorage, store: Any) -> Any:
    """Put the files of Document into a bucket of its own."""
    return store(server(), Document)


def put(storage: Any, *names: str, content: bytes = b"content") -> None:
    for name in names:
        assert storage.save(name, ContentFile(content)) == name


def test_storage_has_an_adapter_of_its_own(cloud):
    assert not isinstance(adapter_for(cloud), GenericAdapter | SerialAdapter)


def test_look_tells_presence_age_and_size(cloud):
    put(cloud, "docs/a.txt")

    seen = adapter_for(cloud).look_many(["docs/a.txt", "docs/none.txt"])

    there = seen["docs/a.txt"]
    assert there.presence is Presence.PRESENT
    assert there.size == 7
    assert timedelta(seconds=-2) < there.age < timedelta(minutes=2)
    assert seen["docs/none.txt"].presence is Presence.ABSENT


def test_files_of_odd_names_are_found_and_deleted(cloud):
    put(cloud, *ODD)
    adapter = adapter_for(cloud)
    seen = adapter.look_many(ODD)

    assert [seen[name].presence for name in ODD] == [Presence.PRESENT] * len(ODD)
    assert adapter.delete_many(seen) == dict.fromkeys(ODD)
    assert not any(cloud.exists(name) for name in ODD)


def test_file_that_has_gone_since_the_look_is_no_error(cloud):
    put(cloud, "docs/a.txt", "docs/b.txt")
    adapter = adapter_for(cloud)
    seen = adapter.look_many(["docs/a.txt", "docs/b.txt"])
    cloud.delete("docs/a.txt")

    answers = adapter.delete_many(seen)

    # Azurite says of what is not there that it has changed: then the next look finds it absent.
    assert answers["docs/a.txt"] is None or isinstance(answers["docs/a.txt"], Changed)
    assert answers["docs/b.txt"] is None


def test_name_under_which_the_storage_has_another_file_is_left_alone(cloud):
    """To it a backslash is a slash: the file may be named by a row that has the slash."""
    put(cloud, "docs/a.txt")

    seen = adapter_for(cloud).look_many(["docs\\a.txt"])

    assert seen["docs\\a.txt"].presence is Presence.ALIAS


def test_drain_deletes_hundreds_of_files_and_says_how_many_bytes(cloud):
    names = [f"docs/{number:04}.txt" for number in range(300)]
    put(cloud, *names)
    let_go(*names, "docs/none.txt")

    report = drain()

    assert report.counts == {Outcome.DELETED: 300, Outcome.ABSENT: 1}
    assert report.bytes_deleted == 2_100
    assert pending() == []
    assert cloud.listdir("docs")[1] == []


def test_file_that_a_row_names_stays(cloud):
    put(cloud, "docs/a.txt", "docs/b.txt")
    let_go("docs/a.txt", "docs/b.txt")
    Document.objects.create(file="docs/a.txt")

    report = drain()

    assert report.counts == {Outcome.DELETED: 1, Outcome.KEPT: 1}
    assert cloud.exists("docs/a.txt")


def test_young_file_is_left_for_later(cloud, settings):
    settings.PGCLEANUP_UPLOAD_WINDOW = timedelta(minutes=10)
    put(cloud, "docs/a.txt")
    let_go("docs/a.txt")

    report, told = results()

    assert report.counts == {}
    assert told["docs/a.txt"].waiting == "upload_window"
    assert cloud.exists("docs/a.txt")


class TestOverwriting:
    """A storage that writes an upload over the file that has its name."""

    @pytest.fixture
    def cloud(self, server: MakeStorage, store: Any, request: pytest.FixtureRequest) -> Any:
        kind = request.node.callspec.params["server"]
        if kind == "moto":
            pytest.skip("moto ignores the ETag of a key in a deletion of many; tests/clouds/test_s3.py has it")
        if kind == "Google's emulator":
            pytest.skip("the emulator ignores ifGenerationMatch")
        return store(server(overwrite_files=True) if kind == "Azurite" else server(), Document)

    @pytest.mark.parametrize("names", [["docs/a.txt"], ["docs/a.txt", "docs/b.txt"]])
    def test_file_that_was_written_again_since_the_look_stays(self, cloud, names):
        put(cloud, *names)
        adapter = adapter_for(cloud)
        seen = adapter.look_many(names)
        put(cloud, "docs/a.txt", content=b"another")

        answers = adapter.delete_many(seen)

        assert isinstance(answers.pop("docs/a.txt"), Changed)
        assert set(answers.values()) <= {None}
        assert [name for name in names if cloud.exists(name)] == ["docs/a.txt"]


class TestVersions:
    """A bucket that keeps the versions of what is deleted."""

    @pytest.fixture
    def cloud(self, server: MakeStorage, store: Any, request: pytest.FixtureRequest) -> Any:
        if request.node.callspec.params["server"] not in ("moto", "SeaweedFS"):
            pytest.skip("not of S3")
        return store(server(versioned=True), Document)

    def versions(self, storage: Any) -> list[str]:
        page = storage.connection.meta.client.list_object_versions(Bucket=storage.bucket_name)
        return [version["Key"] for version in page.get("Versions", ())]

    @pytest.mark.parametrize("names", [["docs/a.txt"], ["docs/a.txt", "docs/b.txt", "docs/c.txt"]])
    def test_deletion_is_told_to_have_left_the_versions(self, cloud, names):
        put(cloud, *names)
        let_go(*names)

        report = drain()

        assert report.counts == {Outcome.DELETED: len(names)}
        assert {reason for (reason,) in settled("reason")} == {
            "a delete marker was written: the bucket keeps its versions (PGCLEANUP_DELETE_VERSIONS)"
        }
        assert self.versions(cloud) == names

    def test_versions_go_too_where_that_is_asked_for(self, cloud, settings):
        settings.PGCLEANUP_DELETE_VERSIONS = True
        put(cloud, "docs/a.txt", "docs/ab.txt", "docs/b.txt")
        put(cloud, "docs/a.txt", content=b"a longer one")
        let_go("docs/a.txt", "docs/b.txt")

        report = drain()

        assert report.counts == {Outcome.DELETED: 2}
        assert report.bytes_deleted == 7 + 12 + 7
        assert self.versions(cloud) == ["docs/ab.txt"]
        assert {reason for (reason,) in settled("reason")} == {""}

    def test_version_that_was_written_since_the_look_stays(self, cloud, settings):
        settings.PGCLEANUP_DELETE_VERSIONS = True
        put(cloud, "docs/a.txt")
        adapter = adapter_for(cloud)
        seen = adapter.look_many(["docs/a.txt"])
        put(cloud, "docs/a.txt", content=b"another")

        assert adapter.delete_many(seen) == {"docs/a.txt": None}
        with cloud.open("docs/a.txt") as file:
            assert file.read() == b"another"
