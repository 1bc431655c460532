"""Tests of rights that are checked later: scheduled mail, and relayed answers."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gateway.desk.correspondence import MailDraft
from gateway.desk.people import PeopleDesk
from tests.replay.exchange import ANN, moves, pipeline
from tests.replay.office import Office, answer
from tests.replay.world import ZONE

pytestmark = pytest.mark.asyncio(loop_scope="session")
AGENT = "agent@desk.example"
NO_MAIL = "a reader cannot send mail: an agent, automation or admin user can"


async def demote(office: Office) -> None:
    """Make the agent a reader."""
    await PeopleDesk(office.database, office.clock, ZONE).set_user(AGENT, role="reader")


async def test_e19_the_answer_of_a_reader_is_not_relayed(office: Office):
    """E19, 3.8: it is kept on the ticket as a user's message, and nobody outside gets it."""
    await pipeline(office, relay=True)
    await office.user(notify={"new": True})
    await office.mail(ANN)
    await office.run()
    [notice] = office.received(AGENT)
    await demote(office)
    line = await office.world.mail(answer(notice, "Use water.", office.clock.now()))
    await office.run()
    assert (line["ticket"], line["sender_role"]) == (1, "user")
    steps = ((await office.world.register.get(line["mail_id"])).outcome or {})["steps"]
    assert {"step": "relay", "verdict": "no", "why": NO_MAIL} in steps
    assert (office.received("ann@example.org"), await moves(office)) == ([], [])
    assert await office.deliveries() == [
        each for each in await office.deliveries() if each["recipient"] == AGENT
    ]


async def test_o11_mail_for_later_needs_the_right_when_it_is_due(office: Office):
    """O11, 3.8: an author who has become a reader sends nothing; the delivery says why."""
    await office.user()
    await office.mail(ANN)
    later = office.clock.now() + timedelta(hours=2)
    await office.person(AGENT).reply(1, MailDraft("We look into it.", at=later))
    await demote(office)
    await office.later(hours=3)
    assert office.received("ann@example.org") == []
    [delivery] = await office.deliveries()
    assert (delivery["state"], delivery["last_reply"]) == ("failed", NO_MAIL)
    events = (await office.world.ticket(1))["events"]
    told = [each["detail"] for each in events if each["type"] == "remark"]
    assert told == [f"mail to ann@example.org failed: {NO_MAIL}"]


async def test_a_failed_scheduled_mail_can_be_tried_again(office: Office):
    """O11: after a retry it is scheduled again, and sent with the present role of its author."""
    people = PeopleDesk(office.database, office.clock, ZONE)
    await office.user()
    await office.mail(ANN)
    later = office.clock.now() + timedelta(hours=2)
    await office.person(AGENT).reply(1, MailDraft("We look into it.", at=later))
    await demote(office)
    await office.later(hours=3)
    [failed] = await office.deliveries()
    await office.deliveries_desk().retry([failed["id"]])
    assert [each["state"] for each in await office.deliveries()] == ["scheduled"]
    await people.set_user(AGENT, role="agent")
    await office.run()
    assert [
        mail.text.partition("\n")[0].strip() for mail in office.received("ann@example.org")
    ] == ["We look into it."]
