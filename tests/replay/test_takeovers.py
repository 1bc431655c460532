"""Tests that nobody gets into somebody else's conversation (behaviour.md 5, worked attacks).

Each attack is played on both databases and judged by the mail that goes out afterwards.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.replay.intruders import ALICE, CARL, DAVE, MALLORY, Post, Scene, leaks
from tests.replay.office import Office
from tests.replay.world import TRUSTED

pytestmark = pytest.mark.asyncio(loop_scope="session")

OPENS = Post(ALICE, "a1", cc=(CARL,))
FOLLOWS = Post(ALICE, "a2", ("a1",), cc=(CARL,))
OWN = Post(MALLORY, "m1", days=30)
OTHER = Post(DAVE, "d1")
BOTH = (ALICE, CARL)

ATTACKS = {
    "a foreign id to the own reply address, then the owner answers": (
        [OPENS, OWN, Post(MALLORY, "m2", ("a1",), to_ticket=2), Post(ALICE, "a2", ("a1",))],
        {"a2": "a1"},
    ),
    "the same, and the intruder names the owner and a colleague": (
        [OPENS, OWN, Post(MALLORY, "m2", ("a1",), BOTH, to_ticket=2), FOLLOWS],
        {"a2": "a1"},
    ),
    "own id and foreign id, own ticket older": (
        [OWN, OPENS, Post(MALLORY, "m2", ("m1", "a1"), days=60), FOLLOWS],
        {"a2": "a1"},
    ),
    "own id and foreign id, own ticket younger with an early Date": (
        [OPENS, OWN, Post(MALLORY, "m2", ("a1", "m1"), days=60), FOLLOWS],
        {"a2": "a1", "m2": "m1"},
    ),
    "two foreign ids": (
        [OPENS, OTHER, Post(MALLORY, "m2", ("a1", "d1"), BOTH), FOLLOWS],
        {"a2": "a1"},
    ),
    "a never-seen ancestor named": (
        [replace(OPENS, refs=("x",)), Post(MALLORY, "m1", ("x",), days=60), FOLLOWS],
        {"a2": "a1"},
    ),
    "a never-seen ancestor named first, with the owner in Cc": (
        [Post(MALLORY, "m1", ("x",), BOTH, days=60), replace(OPENS, refs=("x",)), FOLLOWS],
        {"a2": "a1"},
    ),
    "a never-seen ancestor sent as own Message-ID": (
        [replace(OPENS, refs=("x",)), Post(MALLORY, "x", cc=BOTH, days=60), FOLLOWS],
        {"a2": "a1"},
    ),
    "a never-seen ancestor sent as own Message-ID, then named by the owner": (
        [
            replace(OPENS, refs=("x",)),
            Post(MALLORY, "x", cc=BOTH, days=60),
            Post(ALICE, "a2", ("x", "a1"), (CARL,)),
        ],
        {"a2": "a1"},
    ),
    "a foreign Message-ID reused": (
        [OPENS, Post(MALLORY, "a1", cc=BOTH, days=60), FOLLOWS],
        {"a2": "a1"},
    ),
    "a foreign Message-ID sent first": (
        [Post(MALLORY, "a1", days=60), replace(OPENS), FOLLOWS],
        {},
    ),
    "a foreign Message-ID sent first, naming the owner and a colleague": (
        [Post(MALLORY, "a1", cc=BOTH, days=60), OPENS, FOLLOWS],
        {},
    ),
    "a foreign Message-ID sent first in the owner's name": (
        [
            Post(ALICE, "a1", cc=(CARL, MALLORY), verdict="none", days=60, forger=MALLORY),
            OPENS,
            FOLLOWS,
        ],
        {},
    ),
    "a forged participant names the intruder": (
        [
            OPENS,
            Post(CARL, "c1", ("a1",), (ALICE, MALLORY), verdict="none", forger=MALLORY),
            FOLLOWS,
        ],
        {"a2": "a1"},
    ),
    "a forged participant wants the answers elsewhere": (
        [OPENS, Post(ALICE, "f1", ("a1",), verdict="none", reply_to=MALLORY, forger=MALLORY)],
        {"f1": "a1"},
    ),
    "a forged owner joins both tickets": (
        [
            OPENS,
            Post(MALLORY, "m1", cc=BOTH, days=60),
            Post(ALICE, "f1", ("m1", "a1"), verdict="none", forger=MALLORY),
            FOLLOWS,
        ],
        {"a2": "a1"},
    ),
    "the owner is made to answer with both ids": (
        [Post(MALLORY, "m1", cc=BOTH, days=60), OPENS, Post(ALICE, "a2", ("m1", "a1"), (CARL,))],
        {"a2": "a1"},
    ),
    "a colleague is made to claim the id on the intruder's ticket": (
        [
            Post(MALLORY, "m1", cc=BOTH, days=60),
            Post(CARL, "c1", ("a1", "m1"), (ALICE,), verdict="none", forger=MALLORY),
            OPENS,
            FOLLOWS,
        ],
        {},
    ),
}


def posts_of(posts: list[Post], owner: Post) -> int:
    """Return the place of the owner's mail among those with the same Message-ID."""
    return [each for each in posts if each.message_id == owner.message_id].index(owner)


@pytest.mark.parametrize("attack", ATTACKS)
async def test_an_intruder_learns_nothing_and_gets_no_seat(office: Office, attack: str) -> None:
    """After the attack the customer's ticket has its requester, subject and recipients."""
    scene = Scene(office)
    posts, together = ATTACKS[attack]
    owner = next(each for each in posts if each.sender == ALICE and each.forger is None)
    for post in posts:
        await scene.post(post)
        if post is owner:
            (mail,) = (await office.world.rows("mail", "id", "ticket"))[-1:]
            number = mail[1]
    ticket = await office.world.ticket(number)
    assert ticket["merged_into"] is None
    word = scene.words[owner.message_id][posts_of(posts, owner)]
    assert (ticket["requester"]["address"], ticket["subject"]) == (ALICE, f"about {word}")
    for message, other in together.items():
        assert scene.ticket_of(message) == scene.ticket_of(other)
    await scene.answer_all()
    assert office.sink.taken
    assert leaks(scene) == []
    sent = [each for each in office.sink.taken if word in each.mail["Subject"]]
    assert {address for each in sent for address in each.to} == {ALICE, CARL}


async def test_an_answer_names_no_id_that_a_stranger_chose(office: Office) -> None:
    """A stranger's Message-ID gets into no reference of our mail."""
    scene = Scene(office)
    await scene.post(OPENS, Post(MALLORY, "m1", ("a1",)))
    await scene.answer_all()
    for sent in office.sink.taken:
        assert sent.mail["In-Reply-To"] == "<a1@mail.example>"
        assert "m1@" not in sent.mail["References"]


async def test_a_copy_sent_first_does_not_swallow_the_proven_mail(office: Office) -> None:
    """E33: a forged copy to the intruder, too, does not make the real mail a duplicate."""
    real = await office.world.filled(
        f"From: {ALICE}\nTo: support@localhost\nSubject: Card\nMessage-ID: <a1@mail.example>\n"
        f"Date: Sun, 22 Nov 2026 09:00:00 +0000\n\nMy card is 4242.\n"
    )
    copy = real.replace(b"To: support@localhost", f"To: support@localhost, {MALLORY}".encode())
    proven = f"Authentication-Results: {TRUSTED}; dmarc=pass\r\n".encode() + real
    assert [
        (await office.world.mail(each))["outcome"] for each in (copy, proven, proven, real)
    ] == ["done", "done", "duplicate", "duplicate"]
    await office.reply(2)
    await office.run()
    [sent] = office.sink.taken
    assert sent.to == (ALICE,)
