r"""Print results as one JSON document or as tables and lines, and show progress on a terminal.

This is the only place that writes to stdout and stderr. What strangers wrote could steer a terminal
or turn the order of letters around, so each control character is written as an escape like
``\u001b``, which JSON and TOML read as that character.

When stdout is closed early (the user left a pager), Python reports the error at exit.
"""

from __future__ import annotations

import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TextIO

import typer

PLAIN_WIDTH = 32_767  # a table that is piped elsewhere is not cut


def say(
    text: object = "",
    *,
    error: bool = False,
    end: str = "\n",
    to: TextIO | None = None,
    flush: bool = False,
) -> None:
    """Print text to the stream ``to`` if given, else to stderr for an ``error``, else to stdout."""
    stream = to or (sys.stderr if error else sys.stdout)
    print(_safe(str(text)), end=end, file=stream, flush=flush)


def emit(document: Any, *, to: TextIO | None = None, indent: int | None = None) -> None:
    """Print one JSON document on stdout or to another stream."""
    text = json.dumps(document, ensure_ascii=False, default=_plain, indent=indent)
    print(_SUSPECT.sub(_shown_in_json, text), file=to or sys.stdout)


def say_bytes(data: bytes) -> None:
    """Write bytes to stdout as they are; on a terminal, as text."""
    if sys.stdout.isatty():
        say(data.decode("utf-8", "replace"))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
    sys.stdout.flush()


@contextmanager
def output_optional() -> Iterator[None]:
    """Ignore errors of writing to stdout: the act matters more than its output."""
    try:
        yield
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def emit_done(document: dict[str, Any]) -> None:
    """Print the result of an act that concerns several tickets or none.

    Keys of interfaces.md 2.1 that are not in ``document`` are added.
    """
    emit({"ticket": None, "message": None, "changes": []} | document)


def _plain(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None
) -> None:
    """Print rows under headings; markup and control characters in the cells have no effect."""
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
        shown.add_row(*(Text(visible(readable(cell))) for cell in row))
    console.print(shown)


def columns(rows: Iterable[Mapping[str, Any]], **headings: str) -> None:
    """Print rows as a table; each heading names the key of its column."""
    table(list(headings), ([row[key] for key in headings.values()] for row in rows))


def _box() -> Any:
    from rich import box

    return box.SIMPLE_HEAD


def readable(value: object) -> str:
    """Return a value as text: yes and no, times to the second, lists and tables in one line."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.isoformat(" ", "seconds")
        case dict():
            return "; ".join(f"{name}: {readable(each)}" for name, each in value.items())
        case list() | tuple():
            return ", ".join(map(readable, value))
        case _:
            return str(value)


def visible(text: str) -> str:
    """Return text as one line: line ends become spaces, other control characters escapes."""
    return paragraph(text).replace("\n", " ").replace("\t", " ")


def paragraph(text: str) -> str:
    """Return text with an escape for each control character except line ends and tabs."""
    return _safe(text).removesuffix("\n")


def _safe(text: str) -> str:
    """Return text that cannot steer a terminal: see :func:`paragraph`."""
    return _SUSPECT.sub(_shown, text.replace("\r\n", "\n"))


_SUSPECT = re.compile(r"[^ -~\n\t]")
_JOINERS = frozenset("\u200c\u200d")  # many scripts and emoji would be wrong without them


def _shown(found: re.Match[str]) -> str:
    """Return a character, or an escape that TOML knows for one that is not printed."""
    if _is_harmless(found[0]):
        return found[0]
    code = ord(found[0])
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _shown_in_json(found: re.Match[str]) -> str:
    """Return a character of a JSON string, or its escape: JSON reads both as the same."""
    return found[0] if _is_harmless(found[0]) else json.dumps(found[0])[1:-1]


def _is_harmless(character: str) -> bool:
    """Tell whether a character is printed, a space or a joiner."""
    known = character.isprintable() or character in _JOINERS
    return known or unicodedata.category(character) == "Zs"


def count(number: int, noun: str) -> str:
    """Return a number with its noun in singular or plural, as in "1 ticket" and "2 tickets"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def facts(pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one pair on each line; leave out pairs without a value."""
    shown = [
        (name, visible(readable(value))) for name, value in pairs if value not in (None, "", [])
    ]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        say(f"{name:<{width}}  {value}")


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a progress bar if stderr is a terminal; yield a function that adds finished steps.

    ``total`` is None if the number of steps is unknown.
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
    """Return whether to go on: yes for ``--yes``, no for ``--dry-run``, else ask the user."""
    refuse_unasked(yes=yes, dry_run=dry_run)
    return yes or (not dry_run and typer.confirm(visible(question)))


def refuse_unasked(*, yes: bool, dry_run: bool) -> None:
    """Raise UsageError for ``--yes`` together with ``--dry-run``.

    Also raises it if neither is given and there is no terminal on which to ask the user.
    """
    from gateway.errors import UsageError

    if yes and dry_run:
        raise UsageError("--yes and --dry-run exclude each other")
    if not (yes or dry_run) and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("no terminal on which to ask for confirmation: give --yes or --dry-run")
