"""Imports inside the package go down the layers of DESIGN.md, or stay in one without a cycle."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PACKAGE = CHECKOUT / "pgcleanup"

LAYERS = [
    {"conf", "exceptions", "signals", "sql"},
    {"cleanup", "columns", "labels", "leftovers", "models", "storage_keys", "templates"},
    {"ledger", "references", "storages", "triggers"},
    {"drain", "orphans", "status"},
    {"admin", "checks", "metrics", "middleware", "on_commit", "tasks", "templatetags", "testing"},
    {"apps", "management"},
]
LAYER_OF = {module: number for number, layer in enumerate(LAYERS) for module in layer}

# The package itself (pgcleanup/__init__.py), which Django imports before the app registry is ready.
ROOT = "pgcleanup"
ROOT_MAY_IMPORT = (LAYERS[0] | LAYERS[1]) - {"models"}

FILES = sorted(PACKAGE.rglob("*.py"))
MIGRATIONS = [path for path in FILES if path.relative_to(PACKAGE).parts[0] == "migrations"]
MODULES = sorted({path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES} - {"__init__"})


def module_of(path: Path) -> str:
    """Return the module of the layer table that a file belongs to: a package of several files counts as one."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return ROOT if first == "__init__" else first


def imported(source: str, path: Path, *, lazily: bool = True) -> set[str]:
    """Return the modules of the layer table that a file imports, also `lazily`, that is inside functions."""
    return {
        parts[1] if len(parts) > 1 and parts[1] in LAYER_OF else ROOT
        for name in dotted_names(ast.parse(source), path, lazily)
        if (parts := name.split("."))[0] == ROOT
    }


def nodes_of(tree: ast.AST, lazily: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if lazily or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
            yield from nodes_of(node, lazily)


def dotted_names(tree: ast.Module, path: Path, lazily: bool) -> Iterator[str]:
    """Yield the absolute name of everything that is imported."""
    for node in nodes_of(tree, lazily):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = list(path.relative_to(PACKAGE.parent).parts[: -node.level]) if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imports_of(module: str) -> set[str]:
    files = [path for path in FILES if module_of(path) == module]
    return set().union(*(imported(path.read_text(), path) for path in files)) - {module}


def test_every_module_has_a_layer() -> None:
    unknown = set(MODULES) - set(LAYER_OF) - {"migrations"}

    assert not unknown, f"put {sorted(unknown)} into a layer, here and in DESIGN.md"


@pytest.mark.parametrize("module", [module for module in MODULES if module != "migrations"])
def test_module_imports_no_higher_layer(module: str) -> None:
    upward = {name for name in imports_of(module) - {ROOT} if LAYER_OF[name] > LAYER_OF[module]}

    assert not upward, f"{module} (layer {LAYER_OF[module]}) imports {sorted(upward)}, which stand above it"


def test_modules_import_each_other_without_a_cycle() -> None:
    graph = {module: imports_of(module) - {ROOT} for module in MODULES if module != "migrations"}

    TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: path.stem)
def test_migration_imports_triggers_inside_functions_only(path: Path) -> None:
    assert "triggers" not in imported(path.read_text(), path, lazily=False)


def test_package_itself_imports_neither_models_nor_the_higher_layers() -> None:
    assert imports_of(ROOT) <= ROOT_MAY_IMPORT


def test_package_can_be_imported_without_settings_and_loads_no_models() -> None:
    program = "import sys, pgcleanup; sys.exit('pgcleanup.models' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}

    done = subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, env=environment, capture_output=True)

    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        ("ledger.py", "from pgcleanup.drain import drain", {"drain"}),
        ("ledger.py", "from pgcleanup import drain, conf", {"drain", "conf"}),
        ("ledger.py", "import pgcleanup.drain.report", {"drain"}),
        ("ledger.py", "from . import drain", {"drain"}),
        ("ledger.py", "from .drain import report", {"drain"}),
        ("ledger/stamp.py", "from ..drain import report", {"drain"}),
        ("ledger/__init__.py", "from .stamp import stamp", {"ledger"}),
        ("ledger.py", "from pgcleanup import __version__", {"pgcleanup"}),
        ("ledger.py", "def f():\n    from pgcleanup.drain import drain", {"drain"}),
        ("ledger.py", "if TYPE_CHECKING:\n    from pgcleanup.drain import drain", {"drain"}),
        ("ledger.py", "import os\nfrom django.db import models", set()),
    ],
)
def test_imports_are_found(file: str, source: str, expected: set[str]) -> None:
    assert imported(source, PACKAGE / file) == expected


@pytest.mark.parametrize("definition", ["def f():", "async def f():", "class C:\n  def f(self):"])
def test_lazy_imports_are_told_apart(definition: str) -> None:
    source = f"{definition}\n    from pgcleanup import triggers"

    assert imported(source, PACKAGE / "migrations/0001.py") == {"triggers"}
    assert imported(source, PACKAGE / "migrations/0001.py", lazily=False) == set()
