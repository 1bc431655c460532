"""Mail that lies in files: single .eml files, mbox, Maildir, and folders of them, one mail at a
time.

What can go wrong: a file that cannot be read, that is larger than any mail, or that changes while
it is read. That is an :class:`Unreadable` item in the stream, never an exception, so that one bad
file does not end an import. A line of text that looks like the separator of an mbox and was not
quoted by its writer splits a mail; a separator is therefore believed only after an empty line and
before a header.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LARGEST = (
    64 << 20
)  # bytes of one mail; nothing sent by mail is larger, and it has to fit into memory
_BLOCK = 1 << 20
_LOOK_AHEAD = 2048  # bytes after a separator that are needed to judge it
_NAMES = (".eml", ".mbox", ".mbx")
# asctime
_DATED = (
    rb"From [^\r\n]*[A-Z][a-z]{2} +[A-Z][a-z]{2} +\d+ "
    rb"+\d+:\d\d[^\r\n]*\r?\n(?=[!-9;-~]{1,200}[ \t]*:|>From |\r?\n)"
)
_SLOPPY = (
    rb"From (?:[^\r\n]*\d:\d\d[^\r\n]*|\S+@\S+[ \t]*|- [^\r\n]*)\r?\n(?=[!-9;-~]{1,200}[ "
    rb"\t]*:|>From )"
)
_SEPARATOR = re.compile(_DATED + b"|" + _SLOPPY)
_FIELD = re.compile(rb"[!-9;-~]{1,200}[ \t]*:")
_QUOTED = re.compile(rb"^>(>*From )", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class FoundMail:
    """One mail: the bytes as stored, and where: the path, for an mbox with ``:1``, ``:2`` ... after
    it.
    """

    file: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file, or one mail of an mbox, that could not be read, and the reason in one plain sentence."""

    file: str
    reason: str


Found = FoundMail | Unreadable


def iter_paths(paths: Iterable[str | Path]) -> Iterator[Found]:
    """All mails of the given files and folders: in the order given, a folder and a Maildir by file
    name, an mbox as stored.

    In a folder only what is named like mail counts (.eml, .mbox, .mbx), and files without an ending
    that begin like mail; hidden files never do.
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
    """Opens a file; OSError for a named pipe, which would wait for ever, and for a device, which
    may never end.
    """
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
            raw = stream.read(LARGEST + 1)
    except OSError as error:
        yield Unreadable(str(path), _reason(error))
        return
    yield _limited(str(path), raw)


def _limited(file: str, raw: bytes) -> Found:
    if len(raw) > LARGEST:
        return Unreadable(file, f"is larger than {LARGEST >> 20} MiB")
    return FoundMail(file, raw)


def _mbox(path: Path, stream: BinaryIO) -> Iterator[Found]:
    number = 0
    try:
        for raw in _split(stream):
            number += 1
            yield _limited(f"{path}:{number}", _unquoted(raw) if len(raw) <= LARGEST else raw)
    except OSError as error:
        yield Unreadable(f"{path}:{number + 1}", _reason(error))


def _split(stream: BinaryIO) -> Iterator[bytes]:
    """The mails of an mbox with their separator lines; what is beyond ``LARGEST`` of a mail is left
    out, one byte over it stays as the sign.
    """
    held = bytearray()
    scanned = 1  # the separator at the very beginning is no end of a mail
    more = True
    while more:
        block = stream.read(_BLOCK)
        more = bool(block)
        held += block
        begin = 0
        limit = len(held) - (_LOOK_AHEAD if more else 0)
        while (found := held.find(b"\nFrom ", max(scanned - 1, 0))) >= 0 and found < limit:
            scanned = found + 2
            if _separates(held, found + 1):
                yield bytes(held[begin : found + 1])
                begin = found + 1
        scanned = max(scanned, found + 1 if found >= 0 else len(held) - 5) - begin
        if begin:
            del held[:begin]
        if len(held) > LARGEST + _BLOCK:
            dropped = len(held) - LARGEST - _LOOK_AHEAD
            del held[LARGEST : LARGEST + dropped]
            scanned = max(1, scanned - dropped)
    if held:
        yield bytes(held)


def _separates(held: bytearray, at: int) -> bool:
    """Whether the line at ``at``, which begins with "From ", parts two mails: an empty line before,
    a header after.
    """
    before = bytes(held[max(at - 4, 0) : at])
    return (
        before.endswith((b"\n\n", b"\n\r\n"))
        and _SEPARATOR.match(held, at, at + _LOOK_AHEAD) is not None
    )


def _unquoted(raw: bytes) -> bytes:
    """A mail without its separator, without the empty line that closes it, and with the quoting of
    "From " undone.
    """
    end = len(raw)
    if raw.endswith(b"\r\n\r\n"):
        end -= 2
    elif raw.endswith(b"\n\n"):
        end -= 1
    raw = raw[raw.find(b"\n") + 1 : end]
    return _QUOTED.sub(rb"\1", raw) if b">From " in raw else raw
