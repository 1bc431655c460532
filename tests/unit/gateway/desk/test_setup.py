"""Tests of channels, users, contacts and held mail at the desk, with the refusals."""

from __future__ import annotations

import hashlib

import pytest

from core.model.message import Envelope
from gateway.desk.held_mail import HeldMailDesk
from gateway.errors import Conflict, Invalid, NotFound, Refused, Rejected
from gateway.ingress.accept import AcceptedMail
from gateway.store.queues.blobs import open_blobs
from gateway.store.queues.mail_register import MailRegister
from gateway.store.queues.spool import Spool, finish
from gateway.store.setup.desk_config import load_desk
from tests.unit.gateway.store.mails import became

SALES = [("Lead", "open"), ("Won", "closed")]


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("nonsense", Invalid),
        ("a b@example.com", Invalid),
        ("", Invalid),
        ("SUPPORT@localhost", Conflict),
        ("Uma@example.com", Conflict),
    ],
)
async def test_a_channel_is_one_address_and_no_users(office, address, kind):
    """An invalid address, another channel's or a user's address cannot become a channel."""
    await office.people.add_user("Uma", ["uma@example.com"], "agent")
    with pytest.raises(kind):
        await office.channels.add_channel(address)
    async with office.database.read() as connection:
        assert list((await load_desk(connection)).channels) == ["support@localhost"]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"deny": ["no address"]}, Invalid),
        ({"pipeline": "Sales", "status": "New"}, NotFound),
        ({"pipeline": "Nothing"}, NotFound),
        ({"name": " "}, Rejected),
    ],
)
async def test_a_channel_takes_existing_values_only(office, changes, kind):
    """Lists take addresses and @domain; the status must be in the channel's pipeline."""
    await office.pipelines.add_pipeline("Sales", SALES)
    with pytest.raises(kind):
        await office.channels.set_channel("support@localhost", {"tickets": False, **changes})
    async with office.database.read() as connection:
        assert (await load_desk(connection)).channels["support@localhost"].tickets
    with pytest.raises(NotFound, match="no channel nobody@localhost"):
        await office.channels.set_channel("nobody@localhost", {"tickets": False})


@pytest.mark.parametrize(
    ("addresses", "kind"),
    [
        (["u@example.org"], Conflict),
        (["support@localhost"], Conflict),
        ([], Invalid),
        ([" "], Invalid),
        (["nonsense"], Invalid),
    ],
)
async def test_users_have_addresses_of_their_own(office, addresses, kind):
    """An address belongs to one user, active or not, and never to a channel as well."""
    await office.people.add_user("Uma", ["uma@example.com", "u@example.org"], "agent")
    await office.people.set_user("uma@example.com", active=False)
    await office.people.add_user("Bob", ["bob@example.com"], "agent")
    with pytest.raises(kind):
        await office.people.add_user("X", addresses, "agent")
    if addresses:
        with pytest.raises(kind):
            await office.people.set_user("bob@example.com", also=addresses)
    with pytest.raises(NotFound):
        await office.people.set_user("nobody@example.com", name="N")


async def test_own_addresses_may_be_given_again(office):
    """A user's own address can be given again without a conflict."""
    await office.people.add_user("Uma", ["Uma@Example.com"], "agent")
    user = await office.people.set_user("uma@example.com", also=["uma@example.com", "u@x.example"])
    assert (user.address, user.addresses) == ("uma@example.com", {"uma@example.com", "u@x.example"})


async def test_contacts_are_set_when_they_are_known(office):
    """An unknown address, or a change of nothing, is refused."""
    await office.mail("ann@customer.example", key="1")
    assert (await office.people.set_contact("ann@customer.example", blocked=True)).blocked
    with pytest.raises(NotFound, match="no contact eve"):
        await office.people.set_contact("eve@customer.example", blocked=True)
    with pytest.raises(Invalid):
        await office.people.set_contact("ann@customer.example")


@pytest.mark.parametrize(
    ("act", "rule"),
    [
        (lambda desk: desk.flip_status("Support", "Closed", "open"), "P03"),
        (lambda desk: desk.delete_status("Support", "Waiting on us"), "P04"),
        (lambda desk: desk.delete_pipeline("Support"), "P06"),
        (lambda desk: desk.add_pipeline("X", [("A", "open")]), "P03"),
    ],
)
async def test_a_refusal_names_its_rule(office, act, rule):
    """behaviour.md 2.5: the error names the row that forbids the change."""
    with pytest.raises(Refused) as refused:
        await act(office.pipelines)
    assert refused.value.rule == rule


@pytest.mark.parametrize("name", ["", " ", "WAITING ON US"])
async def test_p01_names_of_statuses(office, name):
    """P01: a status has a name, unique without case in its pipeline."""
    with pytest.raises(Rejected):
        await office.pipelines.add_status("Support", name, "open")
    with pytest.raises(Rejected):
        await office.pipelines.rename_status("Support", "New", name)
    with pytest.raises(Invalid):
        await office.pipelines.move_status("Support", "New", 5)
    renamed = await office.pipelines.rename_status("Support", "New", "NEW")
    assert renamed.statuses[0].name == "NEW"


@pytest.mark.parametrize(
    ("act", "state", "after"),
    [
        ("retry", "held", "pending"),
        ("retry", "quarantined", "pending"),
        ("retry", "ignored", "pending"),
        ("retry", "done", None),
        ("release", "quarantined", "pending"),
        ("release", "held", None),
        ("discard", "held", "ignored"),
        ("discard", "quarantined", "ignored"),
        ("discard", "ignored", None),
    ],
)
async def test_held_mail_is_retried_released_or_discarded(office, act, state, after):
    """docs/mail-states.md: each decision suits some states only, and names its user."""
    spool = Spool(office.database, open_blobs("database:"))
    raw = b"Subject: x\r\n\r\nx"
    envelope = Envelope("a@b.example", ("support@localhost",), "smtp", office.clock.now())
    digest = hashlib.sha256(raw).hexdigest()
    [mail_id] = await spool.put([AcceptedMail(raw, len(raw), digest, envelope)])
    async with office.database.write() as connection:
        await finish(connection, [became(mail_id, state, reason="Why.")])
    await office.people.add_user("Olga", ["olga@ours.example"], "agent")
    desk = HeldMailDesk(office.database, office.clock, office.zone, "olga@ours.example")
    if after is None:
        with pytest.raises(Rejected, match=f"mail {mail_id} is {state}"):
            await getattr(desk, act)(mail_id)
        assert (await MailRegister(spool.database, spool.blobs).get(mail_id)).state == state
        return
    await getattr(desk, act)(mail_id)
    row = await MailRegister(spool.database, spool.blobs).get(mail_id)
    assert (row.state, row.released) == (after, act == "release")
    assert row.reason == ("Discarded by olga@ours.example." if act == "discard" else None)
    with pytest.raises(Rejected):
        await getattr(desk, act)(99)
