"""Pipelines with their statuses and switches; :func:`problem` says why statuses are not valid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

StatusState = Literal["open", "closed"]


@dataclass(frozen=True, slots=True)
class Status:
    """A status of a pipeline; ``position`` is its place in the order, from 1."""

    id: int
    name: str
    state: StatusState
    position: int


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The ordered statuses of tickets and the switches over them (behaviour.md S3-S7, C20, P09)."""

    id: int
    name: str
    statuses: tuple[Status, ...]  # in order of position
    set_close_date: bool = True  # S4
    on_email_sent: int | None = None  # trigger A: status id, None = off (S6)
    on_customer_reply: int | None = None  # trigger B: status id, None = off (S7)
    strangers: Literal["move", "flag"] = "move"  # section 5, strangers
    allow_back: bool = True  # P09: binds people only
    is_default: bool = False
    relay: bool = False  # E19: an agent's answer to our notice goes to the customer

    def first_open(self) -> Status:
        """Return the open status with the smallest position; every pipeline has one (P03)."""
        return next(status for status in self.statuses if status.state == "open")

    def status(self, status_id: int) -> Status:
        """Return the status with this id; KeyError if the pipeline has none."""
        for status in self.statuses:
            if status.id == status_id:
                return status
        raise KeyError(status_id)

    def named(self, name: str) -> Status | None:
        """Return the status of this name, compared without case, or None."""
        folded = name.casefold()
        return next((status for status in self.statuses if status.name.casefold() == folded), None)

    def holds(self, status_id: int) -> bool:
        """Tell whether the status belongs to this pipeline."""
        return any(status.id == status_id for status in self.statuses)


def problem(statuses: tuple[Status, ...]) -> str | None:
    """Return why a pipeline may not have these statuses, as a sentence, or None (P03)."""
    for state in ("open", "closed"):
        if not any(status.state == state for status in statuses):
            return f"a pipeline needs at least one {state} status"
    names = [status.name.casefold() for status in statuses]
    twice = [status.name for status in statuses if names.count(status.name.casefold()) > 1]
    return f"the status name {twice[0]!r} is used twice" if twice else None
