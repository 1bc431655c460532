"""Tests of agents' acts on tickets, notes, fields and people, and of the history."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.desk import views
from gateway.desk.tickets import NewTicket
from gateway.errors import Forbidden, Invalid, Rejected
from gateway.store.tickets import tickets


async def conversation(office, **how) -> int:
    """Receive a mail on a channel without tickets; return its thread."""
    await office.channels.set_channel("support@localhost", {"tickets": False})
    row = await office.mail("ann@customer.example", **({"key": "1"} | how))
    await office.channels.set_channel("support@localhost", {"tickets": True})
    assert row.ticket is None
    return row.thread_id


def roles(shown) -> dict[str, str]:
    return {each["address"]: each["role"] for each in shown["participants"]}


async def test_scenario_12_a_conversation_becomes_a_ticket(office):
    """Scenario 12: origin thread, requester and subject come from it; trigger B works."""
    thread = await conversation(office, subject="Lost key")
    number = (await office.desk.create(NewTicket(thread=thread))).tickets[0]
    shown = await office.show(number)
    assert [(each["id"], each["origin"]) for each in shown["threads"]] == [(thread, True)]
    assert (shown["subject"], shown["requester"]["address"], shown["source"]) == (
        "Lost key",
        "ann@customer.example",
        "email",
    )
    await office.mail("ann@customer.example", "Re: Lost key", key="2", answers="1")
    assert (await office.show(number))["status"] == "Waiting on us"


async def test_a_conversation_becomes_a_ticket_as_its_channel_or_the_agent_says(office):
    """The channel's pipeline and status are taken, unless the agent gives others."""
    await office.pipelines.add_pipeline(
        "Sales", [("Lead", "open"), ("Talks", "open"), ("Won", "closed")]
    )
    await office.channels.add_channel("sales@localhost", pipeline="Sales", status="Talks")
    await office.channels.set_channel("sales@localhost", {"tickets": False})
    threads = [
        (await office.mail("ann@customer.example", to="sales@localhost", key=key)).thread_id
        for key in "ab"
    ]
    plain = await office.show((await office.desk.create(NewTicket(thread=threads[0]))).tickets[0])
    assert (plain["pipeline"], plain["status"]) == ("Sales", "Talks")
    draft = NewTicket("Named", "bob@customer.example", status="Won", thread=threads[1])
    given_ = await office.show((await office.desk.create(draft)).tickets[0])
    assert (given_["subject"], given_["status"], given_["close_date"]) == (
        "Named",
        "Won",
        "2026-11-22",
    )
    assert roles(given_) == {
        "bob@customer.example": "requester",
        "ann@customer.example": "participant",
    }


async def test_a_thread_has_one_ticket_at_most(office):
    """INV6: a thread that has a ticket is refused, for a new ticket and for another one."""
    row = await office.mail("ann@customer.example", key="1")
    other = (await office.desk.create(NewTicket("Other"))).tickets[0]
    for act in (
        office.desk.create(NewTicket(thread=row.thread_id)),
        office.desk.attach(other, row.thread_id),
        office.desk.attach(other, 99),
    ):
        with pytest.raises(Rejected):
            await act
    assert (await office.show(other))["threads"] == []


async def test_e41_c18_the_first_attached_thread_of_a_hand_made_ticket_is_its_origin(office):
    """E41, C18: trigger B works on the first attached thread, whose sender is the requester."""
    number = (await office.desk.create(NewTicket("By phone", source="phone"))).tickets[0]
    first = await conversation(office)
    second = await conversation(office, key="other")
    await office.desk.attach(number, first)
    await office.desk.attach(number, second)
    shown = await office.show(number)
    assert [(each["id"], each["origin"]) for each in shown["threads"]] == [
        (first, True),
        (second, False),
    ]
    assert (shown["requester"]["address"], shown["subject"], shown["source"]) == (
        "ann@customer.example",
        "By phone",
        "phone",
    )
    await office.mail("ann@customer.example", "Re", key="3", answers="other")
    assert (await office.show(number))["status"] == "New"
    await office.mail("ann@customer.example", "Re", key="2", answers="1")
    assert (await office.show(number))["status"] == "Waiting on us"


async def test_the_title_of_a_hand_made_ticket_stays(office):
    """A mail that joins the conversation later does not change a title that a person gave."""
    number = (await office.desk.create(NewTicket("By phone", "carl@customer.example"))).tickets[0]
    await office.desk.attach(number, await conversation(office))
    await office.mail("bob@customer.example", "Older", key="0", references="1")
    shown = await office.show(number)
    assert (shown["subject"], shown["requester"]["address"]) == (
        "By phone",
        "carl@customer.example",
    )


async def test_a_note_moves_nothing_and_lies_on_the_origin_thread(office):
    """O07: a note is a message of its author on the origin thread; the status stays."""
    await office.people.add_user("Olga", ["olga@ours.example"], "agent")
    number = (await office.mail("ann@customer.example", key="1")).ticket
    outcome = await office.desk_of("Olga@ours.example").note(number, "He sounded tired")
    assert outcome.message is not None
    shown = await office.show(number)
    note = shown["threads"][0]["messages"][1]
    assert (note["direction"], note["text"], note["sender_role"]) == (
        "note",
        "He sounded tired",
        "user",
    )
    assert note["from"] == {"name": "Olga", "address": "olga@ours.example"}
    assert shown["status"] == "New"
    assert (shown["events"][-1]["type"], shown["events"][-1]["actor"]) == (
        "note_added",
        "olga@ours.example",
    )
    with pytest.raises(Invalid, match="needs a text"):
        await office.desk.note(number, "  ")


async def test_an_actor_has_to_be_an_active_user(office):
    """Acting for an unknown or inactive user is refused."""
    number = (await office.desk.create(NewTicket("One"))).tickets[0]
    with pytest.raises(Forbidden, match="no active user"):
        await office.desk_of("nobody@ours.example").note(number, "x")
    await office.people.add_user("Olga", ["olga@ours.example"], "agent")
    await office.people.set_user("olga@ours.example", active=False)
    with pytest.raises(Forbidden, match="no active user"):
        await office.desk_of("olga@ours.example").note(number, "x")


async def test_fields_are_set_and_told_by_name(office):
    """Subject, priority, owner, requester; the history names people; same values are no change."""
    await office.people.add_user("Olga", ["olga@ours.example", "o@ours.example"], "agent")
    number = (await office.desk.create(NewTicket("One", "Ann <ann@customer.example>"))).tickets[0]
    outcome = await office.desk.set(
        number,
        {
            "subject": "Two",
            "priority": "high",
            "owner": "o@ours.example",
            "requester": "Bob <Bob@customer.example>",
        },
    )
    shown = await office.show(number)
    assert (shown["subject"], shown["priority"], shown["owner"]) == (
        "Two",
        "high",
        "olga@ours.example",
    )
    assert shown["requester"] == {"name": "Bob", "address": "bob@customer.example"}
    assert [(each.type, each.before, each.after) for each in outcome.events] == [
        ("subject_changed", "One", "Two"),
        ("priority_changed", None, "high"),
        ("owner_changed", None, "Olga"),
        ("requester_changed", "ann@customer.example", "bob@customer.example"),
    ]
    assert (await office.desk.set(number, {"subject": "Two", "owner": "Olga"})).events == ()
    assert [
        each.type
        for each in (await office.desk.set(number, {"owner": None, "priority": None})).events
    ] == ["priority_changed", "owner_changed"]
    for wrong in ({"owner": "nobody"}, {"requester": "no address"}):
        with pytest.raises(Rejected):
            await office.desk.set(number, wrong)


async def test_contacts_are_put_on_a_ticket_and_taken_off(office):
    """Section 1: an added contact is associated; requester and absent people cannot be removed."""
    number = (await office.mail("ann@customer.example", key="1", cc="bob@customer.example")).ticket
    await office.desk.person(number, "add", "Carl <carl@customer.example>")
    await office.desk.person(number, "add", "bob@customer.example")
    assert roles(await office.show(number)) == {
        "ann@customer.example": "requester",
        "bob@customer.example": "associated",
        "carl@customer.example": "associated",
    }
    assert (await office.desk.person(number, "add", "carl@customer.example")).events == ()
    await office.desk.person(number, "remove", "carl@customer.example")
    await office.desk.person(number, "remove", "bob@customer.example")
    assert roles(await office.show(number)) == {"ann@customer.example": "requester"}
    for act, who in (
        ("remove", "ann@customer.example"),
        ("remove", "carl@customer.example"),
        ("approve", "x@customer.example"),
        ("add", "no"),
    ):
        with pytest.raises(Rejected):
            await office.desk.person(number, act, who)


async def test_e24_an_approved_stranger_takes_part(office):
    """E24, section 5: an approved stranger loses the flag, and their next reply counts."""
    number = (await office.mail("ann@customer.example", key="1")).ticket
    await office.mail("eve@elsewhere.example", "Re: Printer", key="2", answers="1")
    shown = await office.show(number)
    assert roles(shown)["eve@elsewhere.example"] == "stranger"
    assert "new_participant" in shown["flags"]
    await office.desk.person(number, "approve", "eve@elsewhere.example")
    shown = await office.show(number)
    assert roles(shown)["eve@elsewhere.example"] == "participant"
    assert "new_participant" not in shown["flags"]
    await office.mail("eve@elsewhere.example", "Re: Printer", key="3", answers="2")
    assert (await office.show(number))["threads"][0]["messages"][-1]["sender_role"] == "contact"


async def test_a_move_by_a_person_takes_the_attention_flags_away(office):
    """A move by a person clears the flag of an unread reply; other flags stay."""
    await office.pipelines.set_pipeline("Support", {"on_customer_reply": None})
    number = (await office.mail("ann@customer.example", key="1")).ticket
    await office.mail("ann@customer.example", "Re: Printer", key="2", answers="1")
    assert (await office.show(number))["flags"] == ["unread_reply"]
    await office.desk.move([number], "Waiting on us")
    assert (await office.show(number))["flags"] == []


async def test_inv9_every_status_change_names_its_cause(office):
    """INV9: a move by mail names message and rule, a move by a person their name."""
    number = (await office.mail("ann@customer.example", key="1")).ticket
    await office.desk.move([number], "Closed")
    await office.mail("ann@customer.example", "Re: Printer", key="2", answers="1")
    moves = [
        each for each in (await office.show(number))["events"] if each["type"] == "status_changed"
    ]
    assert [
        (each["cause"]["rule"], each["cause"]["user"], each["cause"]["message_id"])
        for each in moves
    ] == [("user", "console", None), ("S9", None, "2@mail.example")]


async def test_lists_filter_and_search(office):
    """`ticket list`: trash and merged only on demand; search covers messages, notes, subjects."""
    first = (await office.mail("ann@customer.example", "Printer smokes", key="unusual")).ticket
    second = (await office.desk.create(NewTicket("Phone rings", status="Closed"))).tickets[0]
    third = (await office.desk.create(NewTicket("Merged away"))).tickets[0]
    await office.desk.note(third, "marmalade")
    await office.desk.merge(third, first)
    fourth = (await office.desk.create(NewTicket("Gone"))).tickets[0]
    await office.desk.delete(fourth)
    assert [each["number"] for each in await office.list()] == [first, second]
    assert [each["number"] for each in await office.list(everything=True)] == [
        first,
        second,
        third,
        fourth,
    ]

    async def found(text, **more):
        return [each["number"] for each in await office.list(text=text, **more)]

    assert await found("unusual") == [first]
    assert await found("RINGS") == [second]
    assert await found("marmalade") == [first]
    assert await found("gone") == []
    assert await found("gone", everything=True) == [fourth]
    assert await found("100%_") == []


async def test_a_long_list_costs_few_queries(office):
    """A list of 40 tickets takes as many SQL statements as one of 4."""
    counts = []
    for size in (4, 36):
        for place in range(size):
            await office.desk.create(
                NewTicket(f"Ticket {place}", f"person{place}@customer.example")
            )
        counts.append(await _statements(office))
    assert counts[0] == counts[1]


class Counting:
    """A connection that counts its statements."""

    def __init__(self, connection) -> None:
        self.connection = connection
        self.count = 0

    async def execute(self, *arguments):
        self.count += 1
        return await self.connection.execute(*arguments)


async def _statements(office) -> int:
    async with office.database.read() as connection:
        counting = Counting(connection)
        await views.listing(counting)
    return counting.count


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(st.sampled_from(["New", "Waiting on us", "Closed"]), st.booleans()), max_size=8
    )
)
async def test_any_sequence_of_moves_keeps_the_close_date_valid(office, moves):
    """INV4, INV5: no reopened ticket has a date, and none is set while the switch is off."""
    number = (await office.desk.create(NewTicket("Any"))).tickets[0]
    expected, state = None, "open"
    for status, switch in moves:
        await office.pipelines.set_pipeline("Support", {"set_close_date": switch})
        before = (await office.show(number))["status"]
        await office.desk.move([number], status)
        if status != before:
            closing = status == "Closed"
            expected = (
                ("2026-11-22" if switch else expected)
                if closing
                else (None if state == "closed" else expected)
            )
            state = "closed" if closing else "open"
        shown = await office.show(number)
        assert (shown["close_date"], shown["status_state"], shown["closed_at"] is not None) == (
            expected,
            state,
            state == "closed",
        )


async def test_numbers_only_grow(office):
    """interfaces.md 2.1: a failed creation uses no number, and none is given twice."""
    numbers = []
    for subject in ("One", None, "Two"):
        try:
            numbers.extend(
                (
                    await office.desk.create(
                        NewTicket(subject, status="Nowhere" if subject is None else None)
                    )
                ).tickets
            )
        except Rejected:
            continue
    assert numbers == [1, 2]
    async with office.database.read() as connection:
        assert set(await tickets.load(connection, [1, 2, 3])) == {1, 2}
