"""A parser of IMAP commands: atoms, quoted strings, literals and lists."""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error

Word = bytes | list["Word"]

LITERAL = re.compile(rb"\{(\d+)(\+?)\}$")
_SPACE = re.compile(rb" *")
_QUOTED = re.compile(rb'"((?:[^"\\\r\n]|\\["\\])*)"')
_COUNTED = re.compile(rb"\{(\d+)\+?\}\r\n")
_ATOM = re.compile(
    rb'[^ ()"\[\]]*(?:\[[^\]]*\](?:<[\d.]+>)?)?'
)  # BODY[HEADER.FIELDS (FROM TO)]<0.9> is one


def words(command: bytes) -> list[Word]:
    """Return the words of a command with its literals; ValueError if it is malformed."""
    found, at = _some(command, 0)
    if at < len(command):
        raise ValueError(command[at:])
    return found


def _some(command: bytes, at: int) -> tuple[list[Word], int]:
    found: list[Word] = []
    while True:
        at = _end(_SPACE, command, at)
        if at >= len(command) or command[at : at + 1] == b")":
            return found, at
        word, at = _one(command, at)
        found.append(word)


def _one(command: bytes, at: int) -> tuple[Word, int]:
    if command[at : at + 1] == b"(":
        inner, at = _some(command, at + 1)
        if command[at : at + 1] != b")":
            raise ValueError("a list without an end")
        return inner, at + 1
    if quoted := _QUOTED.match(command, at):
        return re.sub(rb"\\(.)", rb"\1", quoted[1]), quoted.end()
    if counted := _COUNTED.match(command, at):
        end = counted.end() + int(counted[1])
        return command[counted.end() : end], end
    end = _end(_ATOM, command, at)
    if end == at:
        raise ValueError(command[at:])
    return command[at:end], end


def _end(pattern: re.Pattern[bytes], command: bytes, at: int) -> int:
    match = pattern.match(command, at)
    assert match is not None
    return match.end()


def listed(word: Word) -> list[bytes]:
    """Return the words of a list; a single word is a list of one."""
    return [each for each in word if isinstance(each, bytes)] if isinstance(word, list) else [word]


def decoded(response: bytes) -> bytes:
    """Return a client's decoded Base64; ValueError if it is invalid."""
    try:
        return b"" if response == b"=" else b64decode(response, validate=True)
    except Error as error:
        raise ValueError(response) from error
