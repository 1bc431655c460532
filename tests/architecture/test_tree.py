"""Tests of the folders, dependencies and locks, and of style, types and imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {"gateway", "core", "config", "tests", "docker", "docs", ".ci", ".github"}
CHECKS = {
    "ruff check": ["ruff", "check", "--no-fix"],
    "ruff format": ["ruff", "format", "--check"],
    "mypy": ["mypy"],
    "import-linter": ["lint-imports"],
}


def git_files() -> list[Path]:
    """Return every file of the project, relative to it, without what git ignores."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        pytest.skip(
            "git is not here, or this is no checkout: what belongs to the project cannot be listed"
        )
    return [Path(line) for line in run.stdout.splitlines() if (ROOT / line).exists()]


@pytest.mark.parametrize("check", CHECKS)
def test_linters_and_type_checker_pass(check):
    """Linter, formatter, type checker and import contracts accept every file."""
    program, *arguments = CHECKS[check]
    command: list[str | Path] = [Path(sys.executable).with_name(program), *arguments]
    run = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280
    )
    assert run.returncode == 0, f"{check}\n{run.stdout}\n{run.stderr}"


def test_top_level_folders_are_the_agreed_ones():
    """The top level has the agreed folders and files only."""
    assert {path.parts[0] for path in git_files() if len(path.parts) > 1} <= FOLDERS


def test_docker_is_no_package():
    """The folder docker cannot be imported, which would hide the library of that name."""
    assert not list((ROOT / "docker").rglob("__init__.py"))


def declared() -> set[str]:
    """Return the dependencies of the project file without versions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {re.split(r"[\[<>=~ ]", text)[0].lower() for text in project["dependencies"]}


def used() -> set[str]:
    """Return the distributions that the program imports, wherever in a file."""
    distributions = {
        "mailparser": "mail-parser",
        "flufl": "flufl.bounce",
        "pydantic_core": "pydantic",
        "dkim": "dkimpy",
        "charset_normalizer": "charset-normalizer",
        "prometheus_client": "prometheus-client",
    }
    found = set()
    for package in ("core", "config", "gateway"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_bytes())):
                names = (
                    [alias.name for alias in node.names]
                    if isinstance(node, ast.Import)
                    else [node.module]
                    if isinstance(node, ast.ImportFrom)
                    else []
                )
                found |= {name.split(".")[0] for name in names if name}
    return {
        distributions.get(name, name)
        for name in found - set(sys.stdlib_module_names) - {"core", "config", "gateway"}
    }


def test_every_library_we_import_is_a_dependency_of_ours():
    """Every imported library is a direct dependency."""
    assert used() - declared() == set()


def test_every_dependency_is_used():
    """The program imports every dependency, except the data of time zones."""
    assert declared() - used() == {"tzdata"}


def test_locks_hold_hashes_and_no_address():
    """The locks have hashes and no address of an index."""
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        assert "--index" not in text
        assert "--find-links" not in text
        entries = [line for line in text.splitlines() if line and line[0].isalnum()]
        assert entries
        assert text.count(" \\\n") >= len(entries)
        assert all("==" in line for line in entries)


def test_the_lock_covers_the_project_file():
    """Every dependency of the project file is in the lock that `make run` installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    locked = {
        line.split("==")[0]
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line
    }
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["build"]]
    names = {
        text.split("[")[0].split(">")[0].split("=")[0].strip().lower().replace(".", "-")
        for text in wanted
    }
    assert names <= locked
