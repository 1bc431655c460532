"""Tests that erasing a person removes them from mail that was sent or is waiting."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gateway.desk.correspondence import MailDraft
from gateway.desk.erasure import ErasureDesk
from gateway.desk.transaction import BUILT_IN
from gateway.store.queues.blobs import open_blobs
from tests.replay.office import Office
from tests.replay.world import ZONE

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_erased_person_is_in_no_row(office: Office, tmp_path):
    """The person is in no receipt, reply, draft, notification or run; other people's mail stays."""
    await office.user(notify=None)
    await office.switch_on("New")
    await office.workflow(
        "Waiting on contact",
        [
            {
                "id": "tell",
                "kind": "notify_internal_email",
                "to": ["agent@desk.example"],
                "subject": "s",
                "text": "{{contact.email}}",
            }
        ],
    )
    await office.mail("Ann Example <ann@example.org>")
    await office.mail("Bert Other <bert@example.net>", "Another matter")
    await office.reply(1, "To you.", "agent@desk.example")
    await office.reply(2, "I know ann@example.org as well.", cc=("ann@example.org",))
    await office.person().reply(1, MailDraft("Later.", at=office.clock.now() + timedelta(days=1)))
    await office.run()
    erasure = ErasureDesk(office.database, office.clock, ZONE, BUILT_IN)
    await erasure.erase_contact("ann@example.org", open_blobs(f"file://{tmp_path}"))
    stored = repr(await office.world.dump(without=())).lower()
    assert "ann@example.org" not in stored
    assert "ann example" not in stored
    assert {each["recipient"] for each in await office.deliveries()} == {
        "bert@example.net",
        "agent@desk.example",
    }
    await office.later(days=2)
