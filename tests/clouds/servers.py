"""Servers that speak what the storages of a cloud speak, each in a process or a thread of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest

# Where `make test-clouds` has put what is not from PyPI.
_NODE_MODULES = Path(os.environ.get("PGCLEANUP_TEST_NODE_MODULES", "node_modules"))

MakeStorage = Callable[..., Any]


@contextmanager
def moto() -> Iterator[MakeStorage]:
    """Serve S3 by moto, in a thread."""
    server_module = pytest.importorskip("moto.server", reason="run: make setup")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield lambda **options: _s3_storage("http://{}:{}".format(*server.get_host_and_port()), **options)
    finally:
        server.stop()


@contextmanager
def seaweedfs() -> Iterator[MakeStorage]:
    """Serve S3 by SeaweedFS."""
    weed = shutil.which("weed", path=os.pathsep.join([*programs(), os.environ["PATH"]]))
    if weed is None:
        pytest.skip("needs SeaweedFS: make test-clouds")
    with tempfile.TemporaryDirectory(prefix="pgcleanup-weed-") as folder:
        config = Path(folder, "s3.json")
        credentials = [{"accessKey": "access1", "secretKey": "secret12"}]
        identity = {"name": "a", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
        config.write_text(json.dumps({"identities": [identity]}))
        names = [f"{of}.port{kind}" for of in ("master", "volume", "filer") for kind in ("", ".grpc")]
        ports = {name: _free_port() for name in ("s3.port", "s3.port.grpc", *names)}
        command = [weed, f"-logdir={folder}", "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        command += [f"-s3.config={config}", "-admin.ui=false", "-webdav=false"]
        command += [f"-{name}={port}" for name, port in ports.items()]
        endpoint = f"http://127.0.0.1:{ports['s3.port']}"
        with _running(command, endpoint):
            yield lambda **options: _s3_storage(endpoint, access_key="access1", secret_key="secret12", **options)


@contextmanager
def google() -> Iterator[MakeStorage]:
    """Serve Google Cloud Storage by its emulator."""
    pytest.importorskip("google.cloud.storage", reason="run: make test-clouds")
    from google.auth.credentials import AnonymousCredentials
    from storages.backends.gcloud import GoogleCloudStorage

    port = _free_port()
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host=127.0.0.1", "--in-memory"]
    command.append(f"--port={port}")
    with _running(command, f"http://127.0.0.1:{port}"), _variable("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}"):

        def make(**options: Any) -> Any:
            storage = GoogleCloudStorage(
                bucket_name=_name(), project_id="pgcleanup", credentials=AnonymousCredentials(), **options
            )
            storage.client.create_bucket(storage.bucket_name)
            return storage

        yield make


@contextmanager
def azure() -> Iterator[MakeStorage]:
    """Serve Azure Blob Storage by Azurite."""
    pytest.importorskip("azure.storage.blob", reason="run: make test-clouds")
    from storages.backends.azure_storage import AzureStorage

    azurite = _NODE_MODULES / ".bin" / "azurite-blob"
    if not azurite.exists():
        pytest.skip("needs Azurite: make test-clouds")
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="pgcleanup-azurite-") as folder:
        command = [str(azurite), "--blobPort", str(port), "--location", folder, "--skipApiVersionCheck", "--silent"]
        with _running(command, f"http://127.0.0.1:{port}"):
            # The account that Azurite has, whose key is in its documentation.
            key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
            endpoint = f"http://127.0.0.1:{port}/devstoreaccount1"
            connection = (
                f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={key};BlobEndpoint={endpoint};"
            )

            def make(**options: Any) -> Any:
                container = _name()
                storage = AzureStorage(connection_string=connection, azure_container=container, **options)
                storage.service_client.create_container(container)
                return storage

            yield make


SERVERS = {"moto": moto, "SeaweedFS": seaweedfs, "Google's emulator": google, "Azurite": azure}


def _s3_storage(endpoint: str, *, versioned: bool = False, **options: Any) -> Any:
    from tests.clouds.fake_s3 import storage_at

    storage = storage_at(endpoint, **{"bucket_name": _name(), **options})
    client = storage.connection.meta.client
    client.create_bucket(Bucket=storage.bucket_name)
    if versioned:
        client.put_bucket_versioning(Bucket=storage.bucket_name, VersioningConfiguration={"Status": "Enabled"})
    return storage


def _name() -> str:
    return f"bucket-{uuid.uuid4().hex}"


def programs() -> list[str]:
    """Return where programs from PyPI lie that were installed into a folder of their own."""
    return [str(Path(path, "bin")) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


@contextmanager
def _running(command: list[str], endpoint: str) -> Iterator[None]:
    """Run a server until the end of the block, once it answers anything at all."""
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **quiet) as process:
        try:
            end = time.monotonic() + 60
            while True:
                try:
                    urlopen(endpoint, timeout=5)  # noqa: S310 -- http, of our own
                    break
                except HTTPError:
                    break
                except (URLError, OSError):
                    assert process.poll() is None, f"it ended with {process.returncode}: {command}"
                    assert time.monotonic() < end, f"it does not answer: {command}"
                    time.sleep(0.05)
            yield
        finally:
            process.terminate()
