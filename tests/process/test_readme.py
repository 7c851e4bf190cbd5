"""Following the README to the letter works: a new project, the built wheel, the three steps."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import textwrap
import time
import venv
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import psycopg
import pytest
from django.db import connection

from tests.project import database_url

CHECKOUT = Path(__file__).parents[2]
README = (CHECKOUT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """Return the code blocks of the README, without their indentation."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", README, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(code) for _, code in found]


def without_times(output: str) -> str:
    """Leave out the time of day, and the day, which it has with it in the hour before midnight."""
    return re.sub(r"(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d", "TIME", output)


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """Make an environment with the built wheel in it, and its dependencies from the environment of the tests."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(CHECKOUT)]
    subprocess.run(command, check=True, capture_output=True)
    venv.create(tmp_path / "venv", with_pip=False)
    site_packages = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    [wheel] = tmp_path.glob("*.whl")
    with ZipFile(wheel) as opened:
        opened.extractall(site_packages)
    # A plain path: the .pth file of the editable install, which lies there, is not followed from here.
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return tmp_path / "venv" / "bin" / "python"


@pytest.fixture
def database(transactional_db: None) -> Iterator[str]:
    """Make an empty database and return its URL."""
    settings = connection.settings_dict
    name = f"{settings['NAME']}_readme"
    with psycopg.connect(database_url.render(settings), autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
        yield database_url.render({**settings, "NAME": name})
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def test_following_the_readme_in_a_new_project_deletes_a_file(python: Path, database: str, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "PYTHON"))}

    def run(*arguments: str) -> str:
        done = subprocess.run([python, *arguments], cwd=project, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("-m", "django", "startproject", "mysite", ".")
    run("manage.py", "startapp", "shop")
    model, _, installed_apps, *_ = blocks("python")
    (project / "shop" / "models.py").write_text(model)
    with (project / "mysite" / "settings.py").open("a") as settings:
        settings.write(f'\nINSTALLED_APPS += ["shop"]\n{installed_apps}\nMEDIA_ROOT = BASE_DIR / "media"\n')
        settings.write(f"DATABASES = {{'default': {database_url.parse(database)!r}}}\n")
    run("manage.py", "makemigrations", "shop")
    install, migrate, drain, *_ = [block.strip() for block in blocks("console")]
    assert install == "pip install django-pgcleanup"

    run(*migrate.split()[1:])
    run(
        "manage.py",
        "shell",
        "-c",
        "from django.core.files.base import ContentFile; from shop.models import Document;"
        "Document.objects.create(title='a', file=ContentFile(b'x' * 2_500_000, 'report.pdf'));"
        "Document.objects.update(file='')",
    )
    first = run(*drain.split()[1:])
    file = project / "media" / "documents" / "report.pdf"
    there_at_first = file.exists()
    two_minutes_ago = time.time() - 120
    os.utime(file, (two_minutes_ago, two_minutes_ago))
    second = run(*drain.split()[1:], "--grace-period", "0")

    assert there_at_first
    assert not file.exists()
    assert without_times(first) == without_times(blocks("text")[0].partition("\n")[2])
    assert second.startswith("Deleted 1 file (2.5 MB)")
    assert not (project / "shop" / "migrations" / "0002_initial.py").exists()
    assert "No changes detected" in run("manage.py", "makemigrations", "--check")
