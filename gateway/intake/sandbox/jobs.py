"""What passes between the daemon and its reading processes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReadJob:
    """One mail to read; ``null_sender`` is None if unknown, ``html`` asks for sanitised HTML."""

    raw: bytes
    null_sender: bool | None = None
    html: bool = False


@dataclass(frozen=True, slots=True)
class ReadFailure:
    """A mail that could not be read in two tries; ``reason`` is a plain sentence."""

    reason: str
