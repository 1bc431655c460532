"""Tests of the wheel: its content, and that the installed program runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = ("config/ticketgate.example.toml", "config/ticketgate.service")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build the wheel as `pip install .` would, from a copy of the sources alone."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("core", "config", "gateway"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        folder,
        source,
    ]
    subprocess.run(command, check=True, timeout=250)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_contains_the_three_packages_and_their_data(wheel):
    """Code, data, licence and the console script are in it; tests and documents are not."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = next(
            name.split("/")[0] for name in names if name.split("/")[0].endswith(".dist-info")
        )
        entry = archive.read(f"{info}/entry_points.txt").decode()
        metadata = archive.read(f"{info}/METADATA").decode()
    assert {name.split("/")[0] for name in names} == {"core", "config", "gateway", info}
    assert names >= set(DATA)
    assert f"{info}/licenses/LICENSE" in names
    assert "ticketgate = gateway.cli.main:main" in entry
    assert "License-Expression: GPL-3.0-or-later" in metadata


def test_every_file_that_the_packages_need_is_in_the_wheel(wheel):
    """Every file of a package is in the wheel: migrations, templates, example files."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for package in ("core", "config", "gateway"):
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert path.relative_to(ROOT).as_posix() in names


def test_the_installed_program_runs_outside_the_checkout(wheel, tmp_path):
    """From a fresh environment, without the checkout, the command finds its modules and data."""
    venv.create(tmp_path / "venv", with_pip=False, system_site_packages=False)
    python = tmp_path / "venv/bin/python"
    site = next((tmp_path / "venv/lib").glob("python*/site-packages"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # The locked libraries of the running environment stand in for a download; ours come from the
    # wheel alone.
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    for entry in next(Path(sys.prefix).glob("lib/python*/site-packages")).iterdir():
        if not entry.name.startswith(("ticketgate", "_ticketgate", "_editable", "__editable")):
            (libraries / entry.name).symlink_to(entry)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(libraries), "TERM": "dumb"}
    command = [
        python,
        "-P",
        "-c",
        (
            "import sys; from gateway.cli.main import main; sys.argv = ['ticketgate', 'config', "
            "'show']; main()"
        ),
    ]
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    assert tomllib.loads(run.stdout)["smtp"]["listen"] == ["127.0.0.1:2525"]
    where = subprocess.run(
        [python, "-P", "-c", "import core; print(core.__file__)"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(tmp_path))


@pytest.mark.needs("systemd-analyze")
def test_the_unit_is_understood_by_systemd(tmp_path):
    """Every line of the unit file is known to systemd."""
    unit = tmp_path / "ticketgate.service"
    unit.write_text(
        (ROOT / "config/ticketgate.service")
        .read_text()
        .replace("/opt/ticketgate/bin/ticketgate", "/bin/true")
    )
    run = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "ticketgate.service" not in run.stderr, run.stderr
