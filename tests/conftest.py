"""Fixtures for all tests: programs, real databases, ports, a clock that tests set.

A test that needs a program is marked ``@pytest.mark.needs("postfix")`` or calls the ``require``
fixture. Where the program is missing, the test is skipped and listed at the end with its reason;
with ``TICKETGATE_REQUIRE_ALL=1`` every skip is a failure.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from gateway.clock import Clock

REQUIRE_ALL = os.environ.get("TICKETGATE_REQUIRE_ALL") == "1"
PACKAGES = {
    "postfix": "postfix",
    "dovecot": "dovecot-imapd",
    "swaks": "swaks",
    "strace": "strace",
    "chromium": "chromium",
    "initdb": "postgresql",
    "systemd-analyze": "systemd",
}
SBIN = os.pathsep.join(
    (os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin", "/usr/local/sbin")
)
START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)

# The same examples on every machine, without deadlines; ARGS=--hypothesis-profile=default looks
# for new ones.
settings.register_profile(
    "ticketgate", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ticketgate")

for _name in [
    name
    for name in os.environ
    if name.startswith("TICKETGATE_") and name != "TICKETGATE_REQUIRE_ALL"
]:
    del os.environ[_name]  # the developer's own settings must not affect tests


def find_program(name: str) -> Path | None:
    """Return the path of a program, also outside PATH (sbin, Debian's PostgreSQL), or None."""
    if name == "initdb":
        found = sorted(
            Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
        )
        if found:
            return found[-1]
    path = shutil.which(name, path=SBIN)
    return Path(path) if path else None


def require_program(name: str) -> Path:
    """Return the path of a program; without it, skip the test, or fail if all are required."""
    path = find_program(name)
    if path is None:
        reason = f"{name} is not on this machine (Debian package {PACKAGES.get(name, name)})"
        if REQUIRE_ALL:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return path


@pytest.fixture(scope="session")
def require() -> Callable[[str], Path]:
    """Return :func:`require_program`, as a fixture."""
    return require_program


def pytest_configure(config: pytest.Config) -> None:
    """Register our markers, since unknown ones are errors."""
    config.addinivalue_line(
        "markers", "needs(*programs): programs of the machine without which the test cannot run"
    )
    config.addinivalue_line(
        "markers",
        "sweep: one of the long sweeps; they run by `make test-sweep`, not by `make test`",
    )
    config.addinivalue_line("markers", "bench: measures speed; runs by `make bench`")
    config.addinivalue_line(
        "markers", "alone: measures time or memory under load; `make test` runs it after the rest"
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test early if a program that its marker names is missing."""
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            require_program(name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn every skip into a failure when everything is required."""
    report = yield
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = (
            f"{item.nodeid} was skipped, and TICKETGATE_REQUIRE_ALL=1 makes that a failure: "
            f"{reason}"
        )
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the tests that could not run, with reasons."""
    skipped: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        skipped[reason.removeprefix("Skipped: ")] = (
            skipped.get(reason.removeprefix("Skipped: "), 0) + 1
        )
    terminalreporter.section("what could not run on this machine")
    for reason, number in sorted(skipped.items()):
        terminalreporter.write_line(f"{number:4d}  {reason}")
    if REQUIRE_ALL:
        terminalreporter.write_line(
            "nothing may be skipped here: what is missing is a failure or an error above"
        )
    elif not skipped:
        terminalreporter.write_line("nothing: every selected test ran")


_given_ports: set[int] = set()


def port_range(worker: str, workers: int) -> range:
    """Return the ports that a worker of pytest-xdist ("gw0", "gw1", ...; "" for none) may give.

    They are below the ephemeral ports of Linux, so that nothing else takes one before its user
    does; no two workers share one.
    """
    size = 22_000 // workers
    first = 10_000 + size * int(worker.removeprefix("gw") or 0)
    return range(first, first + size)


PORTS = port_range(
    os.environ.get("PYTEST_XDIST_WORKER", ""), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
)


def open_port() -> int:
    """Return a free TCP port of the loopback that this process has not returned before."""
    while True:
        port = secrets.choice(PORTS)
        with closing(socket.socket()) as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given_ports:
                _given_ports.add(port)
                return port


@pytest.fixture
def free_port() -> int:
    """Return one free TCP port on 127.0.0.1."""
    return open_port()


@pytest.fixture
def free_ports() -> Callable[[], int]:
    """Return a function that returns another free TCP port on 127.0.0.1 at each call."""
    return open_port


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands at 2026-11-22 10:00 UTC until the test moves it."""
    return Clock(START)


@dataclass(slots=True)
class Postgres:
    """A PostgreSQL server for the tests, and the template databases in it."""

    folder: Path
    binaries: Path
    port: int
    templates: dict[object, str] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=count)

    def url(self, name: str = "postgres") -> str:
        """Return the address of one of its databases, as ``[database] url`` takes it."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def sql(self, statement: str) -> None:
        """Run one statement in the maintenance database."""
        command: list[str | Path] = [
            self.binaries / "psql",
            "-X",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            self.url(),
            "-c",
            statement,
        ]
        subprocess.run(command, check=True, capture_output=True, text=True)

    def create(self, template: str = "template1") -> str:
        """Create a database as a copy of ``template`` and return its name."""
        name = f"test_{next(self.numbers)}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def control(self, *arguments: str) -> None:
        """Run pg_ctl on this server, as a user that PostgreSQL accepts."""
        command: list[str | Path] = [
            self.binaries / "pg_ctl",
            "-D",
            self.folder / "data",
            *arguments,
        ]
        subprocess.run(
            [*_other_user(), *command], check=True, stdout=subprocess.DEVNULL, cwd=self.folder
        )


def _other_user() -> list[str]:
    """Return the command prefix that runs PostgreSQL's programs as another user than root."""
    return ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Run a PostgreSQL server on a free port; commits are synchronous but not synced to disk."""
    binaries = require_program("initdb").resolve().parent
    folder = Path(tempfile.mkdtemp(prefix="ticketgate-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    server = Postgres(folder=folder, binaries=binaries, port=open_port())
    initdb: list[str | Path] = [
        binaries / "initdb",
        "-D",
        folder / "data",
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
    ]
    subprocess.run([*_other_user(), *initdb], check=True, stdout=subprocess.DEVNULL, cwd=folder)
    settings = {
        "port": server.port,
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": folder,
        "fsync": "off",
        "synchronous_commit": "on",
        "max_connections": 200,
        "shared_buffers": "64MB",
    }
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    server.control("-w", "-t", "60", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield server
    finally:
        server.control("-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_url(postgres: Postgres) -> str:
    """Return the address of its maintenance database."""
    return postgres.url()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """Run the test once on each database."""
    kind: str = request.param
    return kind


@pytest.fixture
def database_url(
    database_kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[str]:
    """Return the address of an empty database without tables, on each database in turn."""
    if database_kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'ticketgate.db'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    name = server.create()
    yield server.url(name)
    server.sql(f"DROP DATABASE {name} WITH (FORCE)")


@dataclass(frozen=True, slots=True)
class Templates:
    """Prepared databases, built once a session by the first test that asks and then copied."""

    folder: Path
    files: dict[object, Path] = field(default_factory=dict)

    def sqlite(self, build: Callable[[str], None], target: Path) -> str:
        """Return the address of a copy, at ``target``, of the file that ``build(url)`` fills."""
        if build not in self.files:
            path = self.folder / f"{len(self.files)}.db"
            build(f"sqlite:///{path}")
            self.files[build] = path
        for suffix in ("", "-wal"):
            source = self.files[build].with_name(self.files[build].name + suffix)
            if source.exists():
                shutil.copyfile(source, target.with_name(target.name + suffix))
        return f"sqlite:///{target}"

    def postgresql(self, build: Callable[[str], None], server: Postgres) -> str:
        """Return the name of a copy of what ``build(url)`` makes and then leaves unconnected."""
        if build not in server.templates:
            name = server.create()
            build(server.url(name))
            server.templates[build] = name
        return server.create(server.templates[build])


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """Return the prepared databases of this session."""
    return Templates(tmp_path_factory.mktemp("templates"))


@pytest.fixture
def built_database(
    database_kind: str, tmp_path: Path, templates: Templates, request: pytest.FixtureRequest
) -> Iterator[Callable[[Callable[[str], None]], str]]:
    """Return a function that gives the address of a fresh database prepared by ``upgrade(url)``.

    ``upgrade`` runs once a session and database kind. It must be a function of a module, since it
    is the key of the template.
    """
    names: list[str] = []

    def fresh(build: Callable[[str], None]) -> str:
        if database_kind == "sqlite":
            return templates.sqlite(build, tmp_path / "ticketgate.db")
        server: Postgres = request.getfixturevalue("postgres")
        names.append(templates.postgresql(build, server))
        return server.url(names[-1])

    yield fresh
    for name in names:
        server: Postgres = request.getfixturevalue("postgres")
        server.sql(f"DROP DATABASE {name} WITH (FORCE)")
