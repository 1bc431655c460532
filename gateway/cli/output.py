"""How a command shows its result: one JSON document with ``--json``, tables and plain lines
otherwise, progress on a terminal only.

What can go wrong: stdout is closed before everything is written (a pager that was left); Python
reports that at the end, nothing is lost.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
PLAIN_WIDTH = 32_767  # a table that is piped elsewhere is not cut


def emit(document: Any) -> None:
    """Print one JSON document on stdout."""
    print(json.dumps(document, ensure_ascii=False, default=_plain))


def emit_done(document: dict[str, Any]) -> None:
    """The document of a command that acted, where no one ticket is in the middle of it: the keys of
    interfaces.md 2.1, then its own.
    """
    emit({"ticket": None, "message": None, "changes": []} | document)


def _plain(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None
) -> None:
    """Print rows under headings. Text from mail is shown as it is: markup and control characters in
    it mean nothing.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    shown = Table(
        title=title,
        box=None if not sys.stdout.isatty() else _box(),
        pad_edge=False,
        header_style="bold",
    )
    for column in columns:
        shown.add_column(column, overflow="fold", no_wrap=not sys.stdout.isatty())
    for row in rows:
        shown.add_row(*(Text(visible(said(cell))) for cell in row))
    console.print(shown)


def _box() -> Any:
    from rich import box

    return box.SIMPLE_HEAD


def said(value: object) -> str:
    """A value as a person reads it: yes and no, times to the second, lists and tables in a line."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.isoformat(" ", "seconds")
        case dict():
            return "; ".join(f"{name}: {said(each)}" for name, each in value.items())
        case list() | tuple():
            return ", ".join(map(said, value))
        case _:
            return str(value)


def visible(text: str) -> str:
    """A line of text without what would act on a terminal: control characters become a space."""
    return "".join(character if character.isprintable() else " " for character in text)


def paragraph(text: str) -> str:
    """Several lines of text without what would act on a terminal; line ends stay."""
    return "\n".join(visible(line) for line in text.splitlines())


def facts(pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one a line, those without a value left out."""
    shown = [(name, visible(said(value))) for name, value in pairs if value not in (None, "", [])]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        print(f"{name:<{width}}  {value}")


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr while it is a terminal; the block calls what it gets with the number
    of steps done. ``total`` None: unknown.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda steps: bar.advance(task, steps)


def agree(question: str, *, yes: bool, dry_run: bool) -> bool:
    """Whether to go on: ``--yes``, ``--dry-run``, or the answer of a person at a terminal;
    UsageError where there is none of them.
    """
    refuse_unasked(yes=yes, dry_run=dry_run)
    return yes or (not dry_run and typer.confirm(question))


def refuse_unasked(*, yes: bool, dry_run: bool) -> None:
    """UsageError where it is not said what to do and nobody can be asked."""
    from gateway.errors import UsageError

    if yes and dry_run:
        raise UsageError("--yes and --dry-run exclude each other")
    if not (yes or dry_run) and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("there is no terminal to ask at: say --yes or --dry-run")
