"""The answer of a rule that forbids what a person asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing is changed; ``reason`` is shown to the user.

    ``rule`` is the row of behaviour.md that forbids it. ``kind`` tells a rule from an unacceptable
    value (``field`` names it) and from something that exists already.
    """

    reason: str
    rule: str = ""
    kind: Literal["rule", "invalid", "conflict"] = "rule"
    field: str = ""


def invalid(reason: str, field: str = "") -> Refusal:
    """Return the refusal of a value that is not acceptable."""
    return Refusal(reason, kind="invalid", field=field)


def conflict(reason: str) -> Refusal:
    """Return the refusal of something that exists already."""
    return Refusal(reason, kind="conflict")
