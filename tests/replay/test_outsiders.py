"""Property: a sender outside the circle changes nobody else's ticket (behaviour.md 5).

An intruder mixes mails of their own, with any ids, dates, copies and forged names, into the mails
of customers, in any order. Then an agent answers every ticket.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.replay.intruders import ALICE, CARL, DAVE, MALLORY, Post, Scene, leaks
from tests.replay.office import Office
from tests.replay.world import Json, start_again

pytestmark = pytest.mark.asyncio(loop_scope="session")
SAMPLE = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
CUSTOMER_MAILS = (
    Post(ALICE, "a1", ("x",), (CARL,)),
    Post(ALICE, "a2", ("x", "a1"), (CARL,)),
    Post(CARL, "c1", ("a1",), (ALICE,)),
    Post(DAVE, "d1"),
    Post(DAVE, "d2", ("d1",)),
)
IDS = ("x", "a1", "a2", "c1", "d1", "d2")
MINE = ("m1", "m2", "m3")


@pytest.fixture
def reached() -> Iterator[Counter[str]]:
    """Count the histories of a test; a fifth of them must be compared whole, not in leaks only."""
    counted: Counter[str] = Counter()
    yield counted
    assert counted["all apart"] * 5 >= counted["examples"] > 0


@st.composite
def intrusions(draw: st.DrawFn, *, forged: bool) -> Post:
    """Draw a mail of the intruder, in their own name or (``forged``) perhaps in a customer's."""
    sender = draw(st.sampled_from((MALLORY, MALLORY, ALICE, CARL, DAVE))) if forged else MALLORY
    return Post(
        sender,
        draw(st.sampled_from((*MINE, *IDS))),
        tuple(draw(st.lists(st.sampled_from((*IDS, *MINE)), max_size=3, unique=True))),
        tuple(
            draw(st.lists(st.sampled_from((ALICE, CARL, DAVE, MALLORY)), max_size=3, unique=True))
        ),
        draw(st.sampled_from(("pass", "none"))) if sender == MALLORY else "none",
        draw(st.sampled_from((0, 60))),
        reply_to=draw(st.sampled_from((None, None, MALLORY))),
        forger=None if sender == MALLORY else MALLORY,
        automatic=draw(st.integers(0, 3)) == 0,
    )


@st.composite
def histories(draw: st.DrawFn, *, forged: bool) -> list[Post]:
    """Draw the customers' mails in any order, with some of the intruder's between them."""
    verdict = "pass" if forged else draw(st.sampled_from(("pass", "pass", "none")))
    customers = [
        Post(each.sender, each.message_id, each.refs, each.cc, verdict) for each in CUSTOMER_MAILS
    ]
    kept = draw(st.lists(st.sampled_from(customers), min_size=2, unique=True))
    return draw(
        st.permutations([*kept, *draw(st.lists(intrusions(forged=forged), min_size=1, max_size=5))])
    )


async def play(office: Office, posts: list[Post]) -> Scene:
    """Start the desk anew, receive the mails, answer every ticket and send the answers."""
    await start_again(office.database)
    office.sink.taken.clear()
    scene = Scene(office)
    await scene.post(*posts)
    return scene


async def tickets_of(office: Office, scene: Scene) -> dict[str, tuple[str, str]]:
    """Return requester and subject of each customer mail's ticket, by the word of the mail."""
    found: dict[str, tuple[str, str]] = {}
    for ticket in await office.world.tickets():
        shown: Json = await office.world.ticket(ticket["number"])
        for thread in shown["threads"]:
            for message in thread["messages"]:
                word = message["subject"].removeprefix("about ")
                if word in scene.customers:
                    found[word] = (str((shown["requester"] or {}).get("address")), shown["subject"])
    return found


@given(posts=histories(forged=False))
@SAMPLE
async def test_an_outsider_changes_no_other_ticket(
    office: Office, reached: Counter[str], posts: list[Post]
) -> None:
    """Requesters, subjects and recipients of customers are as they are without the intruder."""
    scene = await play(office, posts)
    found = await tickets_of(office, scene)
    await scene.answer_all()
    assert leaks(scene) == []
    reached["examples"] += 1
    reached["all apart"] += await _as_without(office, scene, posts, found)


async def _as_without(
    office: Office, scene: Scene, posts: list[Post], found: dict[str, tuple[str, str]]
) -> bool:
    """Assert that the tickets are those that the customers' mails give without the intruder's.

    A customer who answers an id under which only the intruder has written so far is put on the
    intruder's ticket, as anybody is on a thread that they name (E22, E24). Such a history is
    compared in its leaks only, and gives False.
    """
    customers = [each for each in posts if each.sender != MALLORY]
    first: dict[str, str] = {}
    for each in posts:
        if each.sender != MALLORY and any(first.get(ref) == MALLORY for ref in each.refs):
            return False
        first[each.message_id] = first.get(each.message_id, each.sender)
    alone = await play(office, customers)
    again = await tickets_of(office, alone)
    assert _told(scene, found) == _told(alone, again)
    return True


def _told(scene: Scene, rows: dict[str, tuple[str, str]]) -> list[tuple[int, str, int]]:
    """Return for each customer mail, by its place, requester and the mail that names its ticket."""
    place = {word: number for number, word in enumerate(scene.customers)}
    return sorted(
        (place[word], requester, place[subject.removeprefix("about ")])
        for word, (requester, subject) in rows.items()
    )


@given(posts=histories(forged=True))
@SAMPLE
async def test_a_forger_is_told_nothing(office: Office, posts: list[Post]) -> None:
    """Whoever forges names of customers who are proven themselves is sent no word of theirs."""
    scene = await play(office, posts)
    await scene.answer_all()
    assert leaks(scene, scene.customers) == []
