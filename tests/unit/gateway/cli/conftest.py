"""Fixtures that run the command line in this process: stdout, JSON, stderr and exit code."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.main import main


@dataclass(frozen=True)
class Result:
    """The result of a command."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """Return the printed text, decoded."""
        return self.out.decode()

    @property
    def json(self) -> Any:
        """Return the only JSON document on stdout."""
        assert self.code == 0, self.err
        return json.loads(self.text)


@dataclass
class Cli:
    """`ticketgate` as a function; ``cli.json(...)`` adds --json and returns the document."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    files: int = field(default=0)

    def __call__(self, *arguments: object, stdin: str = "") -> Result:
        """Run one command to its end, as the console script does."""
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
        with self.monkeypatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(sys, "argv", ["ticketgate", *map(str, arguments)])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), "utf-8"))
            try:
                main()
                code = 0
            except SystemExit as ending:
                code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
        out.flush()
        return Result(code, out.buffer.getvalue(), err.getvalue())

    def json(self, *arguments: object, **more: str) -> Any:
        """Return the document of a command that has to succeed."""
        return self(*arguments, "--json", **more).json

    def at(self, instant: str) -> None:
        """Set the clock of all later commands."""
        self.monkeypatch.setenv("TICKETGATE_NOW", instant)

    def setting(self, section_key: str, value: str) -> None:
        """Set a configuration key in the environment of all later commands."""
        self.monkeypatch.setenv(f"TICKETGATE_{section_key.upper()}", value)

    def mail(
        self,
        sender: str,
        key: str,
        *,
        subject: str = "Printer",
        to: str = "support@localhost",
        answers: str = "",
        more: str = "",
    ) -> Path:
        """Write a file with a mail; ``more`` are further header lines."""
        self.files += 1
        path = self.folder / f"{self.files:03}.eml"
        lines = [
            f"From: {sender}",
            f"To: {to}",
            f"Subject: {subject}",
            f"Message-ID: <{key}@mail.example>",
            "Date: Sun, 22 Nov 2026 09:00:00 +0000",
        ]
        lines += [f"In-Reply-To: <{answers}@mail.example>"] * bool(answers) + [more] * bool(more)
        path.write_text("\n".join([*lines, "", f"The text of {key}.", ""]))
        return path

    def replay(self, *arguments: object, **how: str) -> dict[str, Any]:
        """Replay a mail (arguments of :meth:`mail`) and return its line."""
        done = self("replay", self.mail(*arguments, **how), "--json")
        assert done.code == 0, done.err
        line: dict[str, Any] = json.loads(done.text.splitlines()[0])
        return line


@pytest.fixture
def cli(clean_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Return a command line with a fresh installation at 2026-11-22 10:00 UTC."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TICKETGATE_DATABASE__URL", clean_url)
    monkeypatch.setenv("TICKETGATE_DATA__DIRECTORY", str(tmp_path / "var"))
    made = Cli(tmp_path, monkeypatch)
    made.at("2026-11-22T10:00:00Z")
    return made


@pytest.fixture
def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Return a command line without a database: for help pages and wrong command lines."""
    monkeypatch.chdir(tmp_path)
    return Cli(tmp_path, monkeypatch)


@pytest.fixture
def ticket(cli: Cli) -> Callable[..., int]:
    """Return a function that creates a ticket and returns its number."""

    def make(subject: str = "A printer", *options: object) -> int:
        made = cli("ticket", "create", "--subject", subject, *options)
        assert made.code == 0, made.err
        return int(made.text)

    return make


@pytest.fixture
def imported(cli: Cli, tmp_path: Path) -> Any:
    """Import the workflows of workflows.toml."""
    (tmp_path / "w.toml").write_text((Path(__file__).parent / "workflows.toml").read_text())
    return cli.json("workflow", "import", tmp_path / "w.toml", "--yes")
