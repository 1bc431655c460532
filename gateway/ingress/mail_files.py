"""Read mail from files, one mail at a time: .eml files, mbox, Maildir, and folders of them.

A file that cannot be read, is too large, or changes while it is read becomes an :class:`Unreadable`
item, so one bad file does not end an import. A line that looks like an mbox separator counts as one
only between an empty line and a header, since not all writers quote such lines.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gateway.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_MAIL_BYTES = 64 << 20  # nothing sent by mail is larger, and it has to fit into memory
_BLOCK = 1 << 20
_LOOK_AHEAD = 2048  # bytes needed to recognize a separator
_NAMES = (".eml", ".mbox", ".mbx")
# a separator with a date as asctime() writes it
_DATED = (
    rb"From [^\r\n]*[A-Z][a-z]{2} +[A-Z][a-z]{2} +\d+ "
    rb"+\d+:\d\d[^\r\n]*\r?\n(?=[!-9;-~]{1,200}[ \t]*:|>From |\r?\n)"
)
# a separator with only a time, an address, or a dash
_SLOPPY = (
    rb"From (?:[^\r\n]*\d:\d\d[^\r\n]*|\S+@\S+[ \t]*|- [^\r\n]*)\r?\n(?=[!-9;-~]{1,200}[ "
    rb"\t]*:|>From )"
)
_SEPARATOR = re.compile(_DATED + b"|" + _SLOPPY)
_FIELD = re.compile(rb"[!-9;-~]{1,200}[ \t]*:")
_QUOTED = re.compile(rb"^>(>*From )", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class FoundMail:
    """One mail, and where it is: the path of its file, followed by ``:1``, ``:2`` … in an mbox."""

    file: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file, or a mail of an mbox, that could not be read, and the reason."""

    file: str
    reason: str


Found = FoundMail | Unreadable


def iter_paths(paths: Iterable[str | Path]) -> Iterator[Found]:
    """Yield all mails of the files and folders, in the order of ``paths``.

    Files of a folder or a Maildir are sorted by name. In a folder, only files named .eml, .mbox or
    .mbx are read, and files without a suffix that begin like mail; hidden files are skipped.
    """
    for path in map(Path, paths):
        try:
            if path.is_dir():
                yield from _folder(path)
            elif path.exists():
                yield from _file(path)
            else:
                yield Unreadable(str(path), "there is no such file")
        except OSError as error:
            yield Unreadable(str(path), _reason(error))


def read_limited(path: Path) -> bytes:
    """Return the content of a file; raises Invalid if it cannot be read or is too large."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_MAIL_BYTES + 1)
    except OSError as error:
        raise Invalid(f"cannot read {path}: {error.strerror}") from None
    if len(raw) > MAX_MAIL_BYTES:
        raise Invalid(f"{path} is larger than {MAX_MAIL_BYTES >> 20} MiB")
    return raw


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def _folder(folder: Path) -> Iterator[Found]:
    if (folder / "cur").is_dir() and (folder / "new").is_dir():
        both = [
            path
            for part in ("cur", "new")
            for path in (folder / part).iterdir()
            if not path.name.startswith(".")
        ]
        for path in sorted(both, key=lambda path: path.name):
            yield from _single(path)
        return
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name.startswith("."):
            continue
        try:
            if path.is_dir():
                yield from _folder(path)
            elif _is_mail(path):
                yield from _file(path)
        except OSError as error:
            yield Unreadable(str(path), _reason(error))


def _open(path: Path) -> BinaryIO:
    """Open a file; raises OSError for a pipe or device, since it may never end."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "is neither a file nor a folder")
    return path.open("rb")


def _is_mail(path: Path) -> bool:
    if path.suffix.lower() in _NAMES:
        return True
    if path.suffix or not path.is_file():
        return False
    with path.open("rb") as stream:
        head = stream.read(256)
    return head.startswith(b"From ") or _FIELD.match(head) is not None


def _file(path: Path) -> Iterator[Found]:
    if path.suffix.lower() != ".eml":
        with _open(path) as stream:
            start = stream.read(5)
            if start == b"From ":
                stream.seek(0)
                yield from _mbox(path, stream)
                return
            if start and path.suffix.lower() in _NAMES:
                yield Unreadable(str(path), "is not an mbox: it does not begin with a From line")
            if not start or path.suffix.lower() in _NAMES:
                return
    yield from _single(path)


def _single(path: Path) -> Iterator[Found]:
    try:
        with _open(path) as stream:
            raw = stream.read(MAX_MAIL_BYTES + 1)
    except OSError as error:
        yield Unreadable(str(path), _reason(error))
        return
    yield _within_limit(str(path), raw)


def _within_limit(file: str, raw: bytes) -> Found:
    if len(raw) > MAX_MAIL_BYTES:
        return Unreadable(file, f"is larger than {MAX_MAIL_BYTES >> 20} MiB")
    return FoundMail(file, raw)


def _mbox(path: Path, stream: BinaryIO) -> Iterator[Found]:
    number = 0
    try:
        for raw in _split(stream):
            number += 1
            yield _within_limit(
                f"{path}:{number}", _unquote(raw) if len(raw) <= MAX_MAIL_BYTES else raw
            )
    except OSError as error:
        yield Unreadable(f"{path}:{number + 1}", _reason(error))


def _split(stream: BinaryIO) -> Iterator[bytes]:
    """Yield each mail of an mbox, with its separator line.

    A mail over ``MAX_MAIL_BYTES`` is cut one byte beyond that limit, so that it is recognised as
    too large.
    """
    held = bytearray()
    scanned = 1  # the separator at the beginning ends no mail
    more = True
    while more:
        block = stream.read(_BLOCK)
        more = bool(block)
        held += block
        begin = 0
        limit = len(held) - (_LOOK_AHEAD if more else 0)
        while (found := held.find(b"\nFrom ", max(scanned - 1, 0))) >= 0 and found < limit:
            scanned = found + 2
            if _is_separator(held, found + 1):
                yield bytes(held[begin : found + 1])
                begin = found + 1
        scanned = max(scanned, found + 1 if found >= 0 else len(held) - 5) - begin
        if begin:
            del held[:begin]
        if len(held) > MAX_MAIL_BYTES + _BLOCK:
            dropped = len(held) - MAX_MAIL_BYTES - _LOOK_AHEAD
            del held[MAX_MAIL_BYTES : MAX_MAIL_BYTES + dropped]
            scanned = max(1, scanned - dropped)
    if held:
        yield bytes(held)


def _is_separator(held: bytearray, at: int) -> bool:
    """Return whether the "From " line at ``at`` follows an empty line and precedes a header."""
    before = bytes(held[max(at - 4, 0) : at])
    return (
        before.endswith((b"\n\n", b"\n\r\n"))
        and _SEPARATOR.match(held, at, at + _LOOK_AHEAD) is not None
    )


def _unquote(raw: bytes) -> bytes:
    """Return a mail without separator line, last empty line and quoting of "From " lines."""
    end = len(raw)
    if raw.endswith(b"\r\n\r\n"):
        end -= 2
    elif raw.endswith(b"\n\n"):
        end -= 1
    raw = raw[raw.find(b"\n") + 1 : end]
    return _QUOTED.sub(rb"\1", raw) if b">From " in raw else raw
