"""The wheel that users install has what the checkout has."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

import pytest

CHECKOUT = Path(__file__).parents[2]
TEMPLATES = CHECKOUT / "migrations_templates"
RUNTIME_DEPENDENCIES = {"django>=5.2", "psycopg>=3.2", "django-pgtrigger<5,>=4.17"}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZipFile]:
    """Build the wheel from this checkout and open it."""
    folder = tmp_path_factory.mktemp("wheel")
    # Without isolation, which would fetch hatchling once more: the development requirements have it.
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(CHECKOUT)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    [path] = folder.glob("*.whl")
    with ZipFile(path) as opened:
        yield opened


def metadata(wheel: ZipFile, header: str) -> list[str]:
    [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return message_from_bytes(wheel.read(name)).get_all(header, [])


@pytest.mark.parametrize("name", sorted(path.name for path in TEMPLATES.iterdir()))
def test_wheel_carries_template(wheel: ZipFile, name: str) -> None:
    assert wheel.read(f"pgcleanup/migrations_templates/{name}") == (TEMPLATES / name).read_bytes()


def test_wheel_carries_every_module_and_the_typing_marker(wheel: ZipFile) -> None:
    modules = {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "pgcleanup").rglob("*.py")}

    assert modules | {"pgcleanup/py.typed"} <= set(wheel.namelist())


def test_wheel_carries_the_pages_and_the_styles_of_the_admin(wheel: ZipFile) -> None:
    folders = [CHECKOUT / "pgcleanup" / folder for folder in ("templates", "static")]
    files = {str(path.relative_to(CHECKOUT)) for folder in folders for path in folder.rglob("*.*")}

    assert {"pgcleanup/static/pgcleanup/admin.css"} < files <= set(wheel.namelist())


def test_wheel_puts_nothing_beside_the_package(wheel: ZipFile) -> None:
    top_level = {name.split("/")[0] for name in wheel.namelist()}

    assert {name for name in top_level if not name.endswith(".dist-info")} == {"pgcleanup"}


def test_wheel_needs_exactly_the_three_runtime_dependencies(wheel: ZipFile) -> None:
    requirements = metadata(wheel, "Requires-Dist")

    assert {requirement for requirement in requirements if "extra ==" not in requirement} == RUNTIME_DEPENDENCIES


def test_wheel_has_the_version_of_the_package(wheel: ZipFile) -> None:
    import pgcleanup

    assert metadata(wheel, "Version") == [pgcleanup.__version__]
