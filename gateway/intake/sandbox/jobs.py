"""The values that the daemon and its reading processes send each other."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReadJob:
    """One mail to read; ``html`` asks for sanitised HTML.

    ``null_sender`` tells whether the envelope sender is empty; it is None if that is unknown.
    """

    raw: bytes
    null_sender: bool | None = None
    html: bool = False


@dataclass(frozen=True, slots=True)
class ReadFailure:
    """A mail that could not be read in two tries; ``reason`` is a plain sentence."""

    reason: str
