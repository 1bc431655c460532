"""The fixtures that every other test stands on."""

from __future__ import annotations

import sqlite3
import subprocess
from urllib.parse import urlsplit


def _fill(url: str) -> None:
    """Makes one table, as a stand-in for the migrations."""
    if url.startswith("sqlite:///"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            connection.execute("CREATE TABLE made (id integer)")
        return
    subprocess.run(["psql", "-X", "-q", "-d", url, "-c", "CREATE TABLE made (id integer)"], check=True)


def _tables(url: str) -> int:
    if url.startswith("sqlite:///"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            return int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    query = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    return int(subprocess.run(["psql", "-X", "-A", "-t", "-d", url, "-c", query], check=True, capture_output=True, text=True).stdout)


def test_a_fresh_database_has_no_table(database_url):
    """A test that asks for a database gets an empty one, on SQLite and on PostgreSQL."""
    assert _tables(database_url) == 0


def test_a_built_database_is_a_copy(built_database):
    """What a template holds is there in the copy, and each copy is a database of its own."""
    assert _tables(built_database(_fill)) == 1


def test_a_built_database_is_fresh_again(built_database):
    """The second test that uses a template does not see what the first did to its copy."""
    url = built_database(_fill)
    assert _tables(url) == 1
    assert urlsplit(url).path


def test_ports_are_not_given_twice(free_ports):
    """Ports that are asked for in a row differ, so two servers of one test do not collide."""
    assert len({free_ports() for _ in range(20)}) == 20
