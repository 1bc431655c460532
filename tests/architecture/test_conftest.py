"""Tests of the fixtures that all other tests use."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import port_range


def _fill(url: str) -> None:
    """Create one table, as a stand-in for the migrations."""
    if url.startswith("sqlite:///"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            connection.execute("CREATE TABLE made (id integer)")
        return
    subprocess.run(
        ["psql", "-X", "-q", "-d", url, "-c", "CREATE TABLE made (id integer)"], check=True
    )


def _tables(url: str) -> int:
    if url.startswith("sqlite:///"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            return int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    query = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    return int(
        subprocess.run(
            ["psql", "-X", "-A", "-t", "-d", url, "-c", query],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )


def test_a_fresh_database_has_no_table(database_url):
    """``database_url`` is an empty database, on SQLite and on PostgreSQL."""
    assert _tables(database_url) == 0


def test_a_built_database_is_a_copy(built_database):
    """A copy has the rows of its template and is a database of its own."""
    assert _tables(built_database(_fill)) == 1


def test_a_built_database_is_fresh_again(built_database):
    """The second test that uses a template does not see the changes of the first."""
    url = built_database(_fill)
    assert _tables(url) == 1
    assert urlsplit(url).path


def test_ports_are_not_given_twice(free_ports):
    """Each port is given once, so that two servers of one test do not collide."""
    assert len({free_ports() for _ in range(500)}) == 500


def test_ports_of_two_workers_are_disjoint():
    """Two workers never give the same port."""
    ranges = [port_range(f"gw{number}", 3) for number in range(3)]
    assert len({port for ports in ranges for port in ports}) == sum(map(len, ranges))
    assert len(port_range("", 1)) == 22_000


NEEDY = '''
"""Two tests that cannot run anywhere, and one that can."""
import pytest

@pytest.mark.needs("no-such-program")
def test_by_marker():
    """Needs what is not there."""

def test_by_fixture(require):
    """Needs it too."""
    require("no-such-program")

def test_that_runs():
    """Needs nothing."""
'''


@pytest.mark.parametrize(
    ("require_all", "code"), [("", 0), ("1", 1)], ids=["a user's machine", "CI"]
)
def test_skipped_tests_are_listed(tmp_path, require_all, code):
    """A missing program is listed with its reason; if all are required, the run fails."""
    shutil.copy(Path(__file__).parents[1] / "conftest.py", tmp_path)
    (tmp_path / "test_needy.py").write_text(NEEDY)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "TICKETGATE_REQUIRE_ALL": require_all,
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path]
    run = subprocess.run(
        command,
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == code, run.stdout
    assert "no-such-program is not on this machine" in run.stdout
    assert ("1 failed, 1 passed, 1 error" if require_all else "1 passed, 2 skipped") in run.stdout
    assert ("   2  no-such-program" in run.stdout) is not bool(require_all)
