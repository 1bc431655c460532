"""Who may do what: one table from roles to rights (docs/rights.md; behaviour.md S10, 3.8)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, Literal

Role = Literal["reader", "agent", "automation", "admin"]


class Right(Enum):
    """One kind of act; the value completes the sentence "a reader cannot …"."""

    WORK_ON_TICKETS = "work on tickets"
    DELETE_TICKETS = "delete tickets"
    SEND_MAIL = "send mail"
    HANDLE_OUTBOX = "cancel or retry outgoing mail"
    HANDLE_HELD_MAIL = "release, retry or discard held mail"
    EDIT_CONTACTS = "change contacts"
    COMMENT_ON_WORKFLOWS = "comment on workflows"
    EDIT_WORKFLOWS = "edit workflows"
    ENROL_TICKETS = "put tickets into workflows or take them out"
    EDIT_TEMPLATES = "edit templates"
    MANAGE_PIPELINES = "change pipelines and statuses"
    MANAGE_CHANNELS = "change channels"
    MANAGE_USERS = "change users"
    ERASE_PEOPLE = "erase people"


_AGENT: Final = frozenset(
    {
        Right.WORK_ON_TICKETS,
        Right.DELETE_TICKETS,
        Right.SEND_MAIL,
        Right.HANDLE_OUTBOX,
        Right.HANDLE_HELD_MAIL,
        Right.EDIT_CONTACTS,
        Right.COMMENT_ON_WORKFLOWS,
    }
)
_AUTOMATION: Final = _AGENT | {Right.EDIT_WORKFLOWS, Right.ENROL_TICKETS, Right.EDIT_TEMPLATES}
RIGHTS: Final[Mapping[Role, frozenset[Right]]] = {
    "reader": frozenset(),
    "agent": _AGENT,
    "automation": _AUTOMATION,
    "admin": frozenset(Right),
}
_NOUNS: Final[Mapping[Role, str]] = {
    "reader": "a reader",
    "agent": "an agent",
    "automation": "an automation user",
    "admin": "an admin user",
}


def may(role: Role, right: Right) -> bool:
    """Return whether users of this role have the right."""
    return right in RIGHTS[role]


def who_may(right: Right) -> tuple[Role, ...]:
    """Return the roles that have the right, the least powerful first."""
    return tuple(role for role in RIGHTS if may(role, right))


def why_not(role: Role, right: Right) -> str | None:
    """Return a sentence that says which roles have the right, or None if ``role`` has it."""
    if may(role, right):
        return None
    *others, last = who_may(right)
    roles = f"{', '.join(others)} or {last}" if others else last
    return f"{_NOUNS[role]} cannot {right.value}: an {roles} user can"
