"""The examples of docs/testing.md pass as the tests of a new project."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from django.db import connection

from pgcleanup import testing
from tests.project import database_url
from tests.support import CHECKOUT

PAGE = (CHECKOUT / "docs" / "testing.md").read_text()
MODEL = re.search(r"```python\n(.*?class Document.*?)```", (CHECKOUT / "README.md").read_text(), re.DOTALL)
SETTINGS = """
DATABASES = {{"default": {database!r}}}
INSTALLED_APPS = ["pgtrigger", "pgcleanup", "shop"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SECRET_KEY = "of a test"
USE_TZ = True
"""


def test_examples_of_the_page_pass_in_a_new_project(transactional_db: None, tmp_path: Path) -> None:
    examples = [code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "def test_" in code]
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    assert MODEL is not None
    (tmp_path / "shop" / "models.py").write_text(MODEL[1])
    for number, code in enumerate(examples):
        (tmp_path / f"test_{number}.py").write_text(code)
    database = {**database_url.parse(os.environ["DATABASE_URL"]), "NAME": f"{connection.settings_dict['NAME']}_docs"}
    (tmp_path / "site_settings.py").write_text(SETTINGS.format(database=database))
    (tmp_path / "pytest.ini").write_text("[pytest]\nDJANGO_SETTINGS_MODULE = site_settings\npythonpath = .\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "PYTEST_"))}

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "--create-db"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )

    tests = sum(code.count("def test_") for code in examples)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{tests} passed" in done.stdout


def test_page_has_every_public_name() -> None:
    missing = [name for name in testing.__all__ if f"`{name}" not in PAGE]

    assert not missing
