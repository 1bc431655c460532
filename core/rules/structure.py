"""Refuse wrong changes of pipelines, statuses, channels, users and templates (behaviour.md 2.5).

Each function returns why a change is refused, or None. The caller first loads and counts the facts
that the function takes, and writes only after the call.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from core.mail.our_addresses import MOST_PLUS_PARTS, our_address
from core.mail.reply_tokens import ends_in_token
from core.pipeline import Pipeline, Status, StatusState, problem
from core.rules.refusal import Refusal, conflict, invalid

ADDRESS: Final = re.compile(r"[^@\s<>\"',;:()]+@[^@\s<>\"',;:()]+")
_SENDER_RULE: Final = re.compile(r"(?:[^@\s<>\"',;:()]+)?@[^@\s<>\"',;:()]+")
TRIGGERS: Final = ("on_email_sent", "on_customer_reply")


@dataclass(frozen=True, slots=True)
class References:
    """The tickets, triggers, channels, actions and other things that use a status or a pipeline.

    ``tickets`` also counts merged tickets and those in the trash; ``triggers`` and ``actions`` move
    tickets to the status or ask for it, ``channels`` open tickets in it, ``others`` are like
    "filter of Support / New".
    """

    tickets: int
    triggers: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether anything uses the status or pipeline."""
        return self != References(0)

    def __str__(self) -> str:
        """Return a list like ``2 tickets, the trigger on_email_sent, the channel a@b.example``."""
        plural = "" if self.tickets == 1 else "s"
        tickets = [f"{self.tickets} ticket{plural}"] if self.tickets else []
        rest = (
            ("trigger ", self.triggers),
            ("channel ", self.channels),
            ("action ", self.actions),
            ("", self.others),
        )
        named = (f"the {what}{each}" for what, names in rest for each in names)
        return ", ".join([*tickets, *named])


# ---- pipelines


def refuse_new_pipeline(
    name: str, statuses: Sequence[tuple[str, StatusState]], known: Iterable[Pipeline]
) -> Refusal | None:
    """Refuse a name in use and statuses that are not sound (P03)."""
    return _name_taken("pipeline", name, (each.name for each in known)) or refuse_statuses(statuses)


def refuse_statuses(statuses: Sequence[tuple[str, StatusState]]) -> Refusal | None:
    """Refuse statuses if none is open, if none is closed, or if two have the same name (P03)."""
    placed = enumerate(statuses, 1)
    return _unsound(Status(0, name, state, place) for place, (name, state) in placed)


def refuse_switches(
    pipeline: Pipeline, settings: Mapping[str, Any], known: Iterable[Pipeline]
) -> Refusal | None:
    """Refuse wrong settings of a pipeline.

    A trigger must not name another pipeline's status, and no two pipelines have the same name. The
    default pipeline stays the default until another one is made the default.
    """
    for trigger in TRIGGERS:
        target = settings.get(trigger)
        if target is not None and not pipeline.holds(target):
            return invalid(f"{trigger} names a status of another pipeline", trigger)
    if settings.get("is_default") is False and pipeline.is_default:
        return Refusal("one pipeline has to be the default: make another one the default instead")
    if "name" not in settings:
        return None
    others = (each.name for each in known if each.id != pipeline.id)
    return _name_taken("pipeline", settings["name"], others)


def refuse_pipeline_deletion(pipeline: Pipeline, uses: References) -> Refusal | None:
    """Refuse to delete the default pipeline, or a pipeline with tickets or channels (P06)."""
    if pipeline.is_default:
        return Refusal("the default pipeline cannot be deleted", "P06")
    return Refusal(f"the pipeline {pipeline.name!r} is in use: {uses}", "P06") if uses else None


# ---- statuses


def refuse_status_name(
    pipeline: Pipeline, name: str, status: Status | None = None
) -> Refusal | None:
    """Refuse a name that another status has; ``status``, if given, is the status to be renamed."""
    own = status.id if status is not None else None
    return _name_taken("status", name, (each.name for each in pipeline.statuses if each.id != own))


def refuse_position(pipeline: Pipeline, position: int) -> Refusal | None:
    """Refuse a position outside of the pipeline; the first is 1."""
    last = len(pipeline.statuses)
    if 1 <= position <= last:
        return None
    return invalid(f"the pipeline {pipeline.name!r} has the positions 1 to {last}", "position")


def refuse_state(pipeline: Pipeline, status: Status, state: StatusState) -> Refusal | None:
    """Refuse to make the last closed status open, or the last open status closed (P03)."""
    return _unsound(
        replace(each, state=state) if each.id == status.id else each for each in pipeline.statuses
    )


def refuse_missing_status(pipeline: Pipeline, status: Status) -> Refusal | None:
    """Refuse to leave the pipeline without any open or any closed status (P03)."""
    return _unsound(each for each in pipeline.statuses if each.id != status.id)


def refuse_status_deletion(pipeline: Pipeline, status: Status, uses: References) -> Refusal | None:
    """Refuse to delete a status in use (P04), or the last open or last closed one (P03)."""
    last = refuse_missing_status(pipeline, status)
    if last is not None or not uses:
        return last
    return Refusal(f"the status {status.name!r} is in use: {uses}", "P04")


def refuse_replacement(status: Status, target: Status) -> Refusal | None:
    """Refuse to move the tickets of a deleted status to that same status (P04)."""
    return invalid("choose another status for the tickets") if status.id == target.id else None


def refuse_unclear_names(name: str, places: Sequence[str]) -> Refusal | None:
    """Refuse to rename a status if it is unclear whether conditions mean it or a namesake (P04).

    ``places`` are those conditions; the namesakes are statuses of other pipelines.
    """
    if not places:
        return None
    several = f"several pipelines have a status {name!r}, and it is not clear which is meant in"
    ask = "add a condition on the field pipeline there first"
    return Refusal(f"{several} {', '.join(places)}: {ask}", "P04")


def refuse_arrangement(
    pipeline: Pipeline, wanted: Sequence[tuple[int | None, str, StatusState]]
) -> Refusal | None:
    """Refuse statuses that break P03, occur twice or belong to another pipeline.

    A new status has id None.
    """
    ids = [number for number, _, _ in wanted if number is not None]
    each_once = len(set(ids)) == len(ids) and all(map(pipeline.holds, ids))
    mixed = Refusal(f"list each status of pipeline {pipeline.name!r} only once, and no others")
    unsound = refuse_statuses([(name, state) for _, name, state in wanted])
    return unsound or (None if each_once else mixed)


# ---- channels, users, templates


def refuse_channel(
    address: str, channels: Collection[str], users: Collection[str]
) -> Refusal | None:
    """Refuse an address for a channel if it is invalid or in use; arguments are address keys."""
    local = address.rpartition("@")[0]
    fits = our_address(channels, address)
    if fits is not None and fits.rpartition("@")[0] == local:
        return conflict(f"there is a channel {fits} already")
    owner = next((each for each in sorted(users) if our_address({address}, each) is not None), None)
    if owner is not None:
        return conflict(f"{owner} is the address of a user, and its mail would come here")
    return _malformed(address) or _no_single_address(local)


def _no_single_address(local: str) -> Refusal | None:
    """Refuse a channel's local part with "*" or too many plus parts, or that ends in a token."""
    if "*" in local:
        why = "a channel is one address, since our mail comes from it: add each address"
    elif local.count("+") > MOST_PLUS_PARTS:
        why = f"a channel has at most {MOST_PLUS_PARTS} plus parts"
    elif ends_in_token(local):
        why = "that is a reply address of a ticket"
    else:
        return None
    return invalid(why, "address")


def refuse_sender_rules(rules: Iterable[str]) -> Refusal | None:
    """Refuse entries of an allow or deny list that are neither an address nor ``@domain``."""
    wrong = next((each for each in sorted(rules) if not _SENDER_RULE.fullmatch(each)), None)
    return invalid(f"{wrong!r} is neither an address nor @domain") if wrong is not None else None


def refuse_foreign_status(pipeline: Pipeline, status_id: int | None) -> Refusal | None:
    """Refuse a status for a channel if it belongs to another pipeline than the channel."""
    if status_id is None or pipeline.holds(status_id):
        return None
    return invalid(f"that status does not belong to pipeline {pipeline.name!r}", "status")


def refuse_user_addresses(
    addresses: Sequence[str], others: Collection[str], channels: Collection[str]
) -> Refusal | None:
    """Refuse address keys that are invalid, or that another user or a channel has."""
    if not addresses or not all(addresses):
        return invalid("a user needs an address", "address")
    malformed = next((each for each in addresses if _malformed(each)), None)
    if malformed is not None:
        return _malformed(malformed)
    for each in addresses:
        if each in others:
            return conflict(f"{each} belongs to another user")
        if our_address(channels, each) is not None:
            return conflict(f"{each} is a channel")
    return None


def refuse_template_name(
    name: str, new: str, others: Iterable[str], *, builtin: bool
) -> Refusal | None:
    """Refuse to rename a built-in template, and a name that another template has."""
    if builtin:
        return Refusal(f"the template {name!r} is built in: it can be edited, not renamed")
    return _name_taken("template", new, others)


def refuse_template_deletion(name: str, *, builtin: bool, senders: Sequence[str]) -> Refusal | None:
    """Refuse to delete a template that actions send, or that is built in."""
    if senders:
        return Refusal(f"the template {name!r} is sent by {', '.join(senders)}")
    if builtin:
        return Refusal(f"the template {name!r} is built in: it can be edited, not deleted")
    return None


def _malformed(address: str) -> Refusal | None:
    """Refuse text that is not a mail address."""
    return (
        None if ADDRESS.fullmatch(address) else invalid(f"invalid address {address!r}", "address")
    )


def _unsound(statuses: Iterable[Status]) -> Refusal | None:
    """Refuse statuses that no pipeline may have (P03)."""
    reason = problem(tuple(statuses))
    return Refusal(reason, "P03") if reason is not None else None


def _name_taken(what: str, name: str, taken: Iterable[str]) -> Refusal | None:
    """Refuse a name that is in use, compared without case."""
    if name.casefold() in {each.casefold() for each in taken}:
        return conflict(f"there is a {what} {name!r} already")
    return None
