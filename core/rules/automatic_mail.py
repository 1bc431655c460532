"""Decide whether an automatic mail may be sent, and in which form (behaviour.md 3.3, section 5).

See also reliability.md 22 to 24. Every reason not to send is a clause for the action log. One
reason is enough: an unwanted mail can start a loop between machines, while a missing mail does
little harm. Nothing here raises.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from core.mail.our_addresses import our_address
from core.model.message import address_key
from core.model.ticket import Channel, Contact, Ticket
from core.model.workflow import RunOutcome
from core.rules.screening import listed
from core.workflow.enrol import OURS

RECEIVED: Final = "Ticket received"
PER_HOUR: Final = 3  # of Ticket received to one address
PER_DAY: Final = 10
PER_DOMAIN_AND_HOUR: Final = 20
IN_A_ROW: Final = 2  # automatic mails on a thread since a person wrote there
GLOBAL_PER_HOUR: Final = 20_000  # of all automatic mail: stops loops that nobody foresaw
_MACHINES: Final = re.compile(
    r"(?:no|not|do[-_.]?not)[-_.]?reply.*|.*[-_.]no[-_.]?reply|mailer[-_.]daemon|postmaster|"
    r"bounces?(?:[-_.+=].*)?|"
    r"(?:auto|automated)[-_.]?(?:reply|response|mail).*|root|nobody|daemon|abuse",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Counts:
    """The automatic mail that went out so far.

    ``to_address_hour``, ``to_address_day`` and ``to_domain_hour`` count *Ticket received* mails to
    the address or to its domain. ``in_a_row`` counts automatic mails on the thread since a person
    wrote there, and ``everywhere_hour`` all automatic mails of the last hour.
    """

    to_address_hour: int = 0
    to_address_day: int = 0
    to_domain_hour: int = 0
    in_a_row: int = 0
    everywhere_hour: int = 0


@dataclass(frozen=True, slots=True)
class Occasion:
    """An automatic mail that a workflow wants to send.

    ``answers_mail``: a mail from outside caused the run; ``opens``: that mail opened the ticket.
    """

    ticket: Ticket
    template: str
    transactional: bool
    silent: str | None
    answers_mail: bool
    opens: bool
    channels: Mapping[str, Channel]  # by address key
    channel: Channel | None  # of the origin thread
    acknowledge: Literal["generic", "full", "never"]


@dataclass(frozen=True, slots=True)
class Permission:
    """Whether a mail may go out, or why not.

    ``generic``: it may only say "we received your message".
    """

    outcome: RunOutcome = "OK"
    why: str | None = None
    generic: bool = False


def permitted(occasion: Occasion, contact: Contact | None, role: str, counts: Counts) -> Permission:
    """Return whether a mail may go to a contact whose part in the ticket is ``role``."""
    reason = _never(occasion, contact, role)
    if contact is None or reason is not None:
        return Permission("SKIPPED_NO_RECIPIENT", reason or "the ticket has no requester")
    if not occasion.transactional and not contact.marketing_ok:
        return Permission(
            "SKIPPED_NO_CONSENT", f"{contact.address} has agreed to transactional mail only"
        )
    over = _over(occasion, counts)
    if over is not None:
        return over
    known = contact.proven or occasion.ticket.source in ("manual", "phone")
    acknowledges = occasion.opens or (occasion.answers_mail and occasion.template == RECEIVED)
    if not acknowledges or known or occasion.acknowledge == "full":
        return Permission()
    if occasion.acknowledge == "never":
        return Permission("SKIPPED_NO_RECIPIENT", "unverified senders are not answered")
    return Permission(generic=True)


def _never(occasion: Occasion, contact: Contact | None, role: str) -> str | None:
    """Return a clause that says why a contact may get no automatic mail at all, or None."""
    if occasion.silent is not None and (occasion.silent != OURS or occasion.template == RECEIVED):
        return occasion.silent
    if "automated" in occasion.ticket.flags:
        return "a machine's mail opened the ticket"
    if "unverified" in occasion.ticket.flags:
        return "the ticket's first mail failed authentication"
    if contact is None:
        return None
    if role == "stranger":
        return f"{contact.address} was not approved"
    if contact.blocked or contact.automated:
        return f"{contact.address} is {'blocked' if contact.blocked else 'a machine'}"
    if contact.bounced_at is not None:
        return f"mail to {contact.address} failed, and they have not written since"
    return _no_person(occasion, contact)


def _no_person(occasion: Occasion, contact: Contact) -> str | None:
    key = address_key(contact.address)
    if our_address(occasion.channels, key) is not None:
        return f"{contact.address} is an address of ours"
    if _MACHINES.fullmatch(key.rpartition("@")[0]):
        return f"{contact.address} is not a person's address"
    if (
        occasion.channel is not None
        and listed(key, occasion.channel.deny)
        and not listed(key, occasion.channel.allow)
    ):
        return f"{contact.address} is on the deny list of {occasion.channel.address}"
    return None


def _over(occasion: Occasion, counts: Counts) -> Permission | None:
    """Return the cap or loop limit that is reached, or None."""
    if counts.everywhere_hour >= GLOBAL_PER_HOUR:
        return Permission(
            "SKIPPED_CAP", f"more than {GLOBAL_PER_HOUR} automatic mails went out within an hour"
        )
    if counts.in_a_row >= IN_A_ROW:
        return Permission(
            "SKIPPED_LOOP",
            (
                f"{counts.in_a_row} automatic mails went out on this conversation and no person "
                "wrote since"
            ),
        )
    if occasion.template != RECEIVED:
        return None
    if counts.to_address_hour >= PER_HOUR or counts.to_address_day >= PER_DAY:
        return Permission("SKIPPED_CAP", "the address got enough acknowledgements for now")
    if counts.to_domain_hour >= PER_DOMAIN_AND_HOUR:
        return Permission("SKIPPED_CAP", "the domain got enough acknowledgements for now")
    return None
