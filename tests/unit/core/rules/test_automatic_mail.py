"""Tests of automatic mail: who may get it, with which template (behaviour.md 3.3, 5)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.model.message import address_key
from core.model.ticket import Channel, Contact, Ticket
from core.rules.automatic_mail import (
    GLOBAL_PER_HOUR,
    IN_A_ROW,
    PER_DAY,
    PER_DOMAIN_AND_HOUR,
    PER_HOUR,
    RECEIVED,
    Counts,
    Occasion,
    Permission,
    permitted,
)
from core.workflow.enrol import OURS

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
CHANNEL = Channel(
    1,
    "support@localhost",
    "Support",
    1,
    deny=frozenset({"@evil.example", "bob@example.org"}),
    allow=frozenset({"good@evil.example"}),
)
TICKET = Ticket(3, "A lamp", 1, 1, "email", NOW, requester_id=5)
RECEIPT = Occasion(
    TICKET, RECEIVED, True, None, True, True, {CHANNEL.address: CHANNEL}, CHANNEL, "generic"
)
NEWS = replace(RECEIPT, template="News", transactional=False, answers_mail=False, opens=False)
ANN = Contact(5, "ann@example.org", "Ann", proven=True, marketing_ok=True)


def ask(
    occasion: Occasion = RECEIPT,
    contact: Contact | None = ANN,
    role: str = "requester",
    **counts: int,
) -> Permission:
    return permitted(occasion, contact, role, Counts(**counts))


@pytest.mark.parametrize(
    ("marketing", "transactional", "outcome"),
    [
        (True, True, "OK"),
        (False, True, "OK"),
        (True, False, "OK"),
        (False, False, "SKIPPED_NO_CONSENT"),
    ],
)
def test_consent(marketing: bool, transactional: bool, outcome: str) -> None:
    """S11, scenario 81: only templates that are not transactional need the contact's consent."""
    assert (
        ask(
            replace(NEWS, transactional=transactional), replace(ANN, marketing_ok=marketing)
        ).outcome
        == outcome
    )


@pytest.mark.parametrize(
    ("ticket", "contact", "role", "why"),
    [
        pytest.param(TICKET, None, "", "no requester", id="nobody"),
        pytest.param(
            replace(TICKET, flags=frozenset({"automated"})),
            ANN,
            "requester",
            "a machine's mail",
            id="automatic-mail",
        ),
        pytest.param(
            replace(TICKET, flags=frozenset({"unverified"})),
            ANN,
            "requester",
            "failed authentication",
            id="E25b",
        ),
        pytest.param(TICKET, ANN, "stranger", "not approved", id="stranger-E24"),
        pytest.param(TICKET, replace(ANN, blocked=True), "requester", "is blocked", id="blocked"),
        pytest.param(
            TICKET, replace(ANN, automated=True), "requester", "is a machine", id="machine"
        ),
        pytest.param(
            TICKET, replace(ANN, bounced_at=NOW), "requester", "failed, and", id="hard-bounced"
        ),
        pytest.param(
            TICKET,
            replace(ANN, address="support@localhost"),
            "requester",
            "an address of ours",
            id="own-channel",
        ),
        pytest.param(
            TICKET,
            replace(ANN, address="support+3.abc@localhost"),
            "requester",
            "an address of ours",
            id="own-channel-plus",
        ),
        pytest.param(
            TICKET,
            replace(ANN, address="bob@example.org"),
            "requester",
            "deny list",
            id="deny-list",
        ),
        pytest.param(
            TICKET,
            replace(ANN, address="eve@evil.example"),
            "associated",
            "deny list",
            id="deny-list-domain",
        ),
    ],
)
def test_who_is_never_written_to(
    ticket: Ticket, contact: Contact | None, role: str, why: str
) -> None:
    """3.3 "never to": refused whatever the template and the consent; the reason is reported."""
    for occasion in (RECEIPT, NEWS):
        for how in ("generic", "full", "never"):
            one = replace(occasion, ticket=ticket, acknowledge=how)  # type: ignore[arg-type]
            found = ask(one, contact, role)
            assert found.outcome == "SKIPPED_NO_RECIPIENT"
            assert why in (found.why or "")


MACHINES = (
    "noreply no-reply no_reply no.reply NoReply do-not-reply donotreply do_not_reply "
    "noreply-billing no-reply+token notreply "
    "shop-noreply orders.no-reply mailer-daemon MAILER-DAEMON postmaster bounce bounces "
    "bounces+ann bounce-1234=x auto-reply autoresponse "
    "automated-mail root nobody daemon abuse"
).split()


@pytest.mark.parametrize("local", MACHINES)
def test_addresses_of_machines(local: str) -> None:
    """3.3: no-reply and mailer-daemon are found in all their spellings."""
    found = ask(contact=replace(ANN, address=address_key(f"{local}@example.org")))
    assert (found.outcome, found.why) == (
        "SKIPPED_NO_RECIPIENT",
        f"{local.lower()}@example.org is not a person's address",
    )


@pytest.mark.parametrize(
    "address",
    [
        "reply@example.org",
        "noel@example.org",
        "ann.daemon@example.org",
        "bouncer@example.org",
        "rooty@example.org",
    ],
)
def test_people_are_no_machines(address: str) -> None:
    """Addresses that resemble a machine's get mail, as do allowed addresses of a denied domain."""
    assert ask(contact=replace(ANN, address=address)).outcome == "OK"
    assert ask(contact=replace(ANN, address="good@evil.example")).outcome == "OK"


def test_a_silent_run_sends_nothing_outside() -> None:
    """3.3: a silent run sends no mail outside; a ticket that we opened gets no receipt (O13)."""
    for occasion in (RECEIPT, NEWS):
        assert ask(replace(occasion, silent="it must not be answered")) == Permission(
            "SKIPPED_NO_RECIPIENT", "it must not be answered"
        )
    assert ask(replace(RECEIPT, silent=OURS)).outcome == "SKIPPED_NO_RECIPIENT"
    assert ask(replace(NEWS, silent=OURS)).outcome == "OK"


@pytest.mark.parametrize(
    ("counts", "receipt", "other"),
    [
        pytest.param({"to_address_hour": PER_HOUR - 1}, "OK", "OK", id="under-the-hour"),
        pytest.param({"to_address_hour": PER_HOUR}, "SKIPPED_CAP", "OK", id="address-and-hour"),
        pytest.param({"to_address_day": PER_DAY - 1}, "OK", "OK", id="under-the-day"),
        pytest.param({"to_address_day": PER_DAY}, "SKIPPED_CAP", "OK", id="address-and-day"),
        pytest.param(
            {"to_domain_hour": PER_DOMAIN_AND_HOUR - 1}, "OK", "OK", id="under-the-domain"
        ),
        pytest.param(
            {"to_domain_hour": PER_DOMAIN_AND_HOUR}, "SKIPPED_CAP", "OK", id="domain-and-hour"
        ),
        pytest.param({"in_a_row": IN_A_ROW - 1}, "OK", "OK", id="second-in-a-row"),
        pytest.param({"in_a_row": IN_A_ROW}, "SKIPPED_LOOP", "SKIPPED_LOOP", id="third-in-a-row"),
        pytest.param(
            {"everywhere_hour": GLOBAL_PER_HOUR}, "SKIPPED_CAP", "SKIPPED_CAP", id="of-all"
        ),
    ],
)
def test_caps_and_breaker(counts: dict[str, int], receipt: str, other: str) -> None:
    """3.3, caps: 3 an hour and 10 a day per address, 20 per domain; the third in a row stops."""
    assert (PER_HOUR, PER_DAY, PER_DOMAIN_AND_HOUR, IN_A_ROW) == (3, 10, 20, 2)
    assert (ask(**counts).outcome, ask(NEWS, **counts).outcome) == (receipt, other)


@pytest.mark.parametrize(
    ("acknowledge", "known", "expected"),
    [
        ("generic", True, Permission()),
        ("full", True, Permission()),
        ("never", True, Permission()),
        ("generic", False, Permission(generic=True)),
        ("full", False, Permission()),
        ("never", False, Permission("SKIPPED_NO_RECIPIENT", "unverified senders are not answered")),
    ],
)
def test_acknowledgements(acknowledge: Any, known: bool, expected: Permission) -> None:
    """Section 5: full, fixed or no acknowledgement, by the sender's proof and the setting."""
    contact = replace(ANN, proven=known)
    occasion = replace(RECEIPT, acknowledge=acknowledge)
    assert ask(occasion, contact) == expected
    assert ask(replace(occasion, opens=False), contact) == expected
    assert ask(replace(occasion, template="Custom receipt"), contact) == expected
    by_hand = replace(occasion, ticket=replace(TICKET, source="phone"))
    assert ask(by_hand, contact) == Permission()
    assert ask(replace(occasion, answers_mail=False, opens=False), contact) == Permission()
    assert ask(replace(occasion, template="Ticket closed", opens=False), contact) == Permission()


CONTACTS = st.builds(
    Contact,
    st.just(5),
    st.text(max_size=12).map(lambda each: address_key(f"{each}@example.org"))
    | st.text(max_size=12),
    st.just(""),
    *(st.booleans() for _ in range(4)),
    st.none() | st.just(NOW),
)
OCCASIONS = st.builds(
    Occasion,
    st.builds(
        lambda flags: replace(TICKET, flags=flags),
        st.frozensets(st.sampled_from(["automated", "unverified", "unread_reply"])),
    ),
    st.sampled_from([RECEIVED, "Ticket closed", "News"]),
    st.booleans(),
    st.none() | st.just(OURS) | st.just("why"),
    st.booleans(),
    st.booleans(),
    st.just(RECEIPT.channels),
    st.none() | st.just(CHANNEL),
    st.sampled_from(["generic", "full", "never"]),
)


@given(
    OCCASIONS,
    st.none() | CONTACTS,
    st.sampled_from(["requester", "associated", "stranger", ""]),
    st.integers(0, 30),
    st.integers(0, 3),
)
@settings(deadline=None, derandomize=True, max_examples=150)
def test_a_permission_always_has_its_reasons(
    occasion: Occasion, contact: Contact | None, role: str, sent: int, row: int
) -> None:
    """Every combination has an answer: yes only when 3.3 allows it, no always with a reason."""
    found = permitted(occasion, contact, role, Counts(sent, sent, sent, row, sent))
    if found.outcome != "OK":
        assert found.why
        return
    assert contact is not None
    assert (contact.blocked, contact.automated, contact.bounced_at) == (False, False, None)
    assert role != "stranger"
    assert row < IN_A_ROW
    assert occasion.transactional or contact.marketing_ok
    assert not occasion.ticket.flags & {"automated", "unverified"}
    assert occasion.silent in (None, OURS)
    if occasion.template == RECEIVED:
        assert sent < PER_HOUR
        assert occasion.silent is None
        assert (
            found.generic
            or contact.proven
            or occasion.acknowledge == "full"
            or not (occasion.opens or occasion.answers_mail)
        )
