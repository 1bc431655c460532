"""The answer to a person's request that a rule forbids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused; ``reason`` is shown to the user.

    ``kind`` is "rule" if row ``rule`` of behaviour.md forbids the request, "invalid" for a value
    (of ``field``) that is not acceptable, and "conflict" for something that exists already.
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
