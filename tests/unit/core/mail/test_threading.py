"""Tests of ties and of the message that names a conversation (behaviour.md 5)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.mail import reply_tokens
from core.mail.circle import Circle, Claim, Writer
from core.mail.threading import (
    MOST_THREADS,
    Entry,
    JoinPolicy,
    MailTokens,
    Ref,
    TicketRef,
    Tie,
    heads,
    tie,
)
from core.model.message import Message

EMPTY = Message(
    None, (), (), None, None, None, (), (), (), "", "", None, "", "", (), "human", (), True
)
START = datetime(2026, 1, 1, tzinfo=UTC)


ANN, BOB, EVE = 1, 2, 3
EVERYBODY = Circle(frozenset({ANN, BOB}), ticket=1, requester=ANN)


def tied(
    message: Message,
    refs: dict[str, list[Ref]],
    *,
    circles: dict[int, Circle] | None = None,
    writer: Writer | None = None,
    policy: JoinPolicy = "vouched",
    tokens: MailTokens | None = None,
) -> Tie:
    """Return the tie of a mail by Ann that names Bob, on threads that both are on."""
    tokens = tokens or MailTokens()
    named = {ref.thread for rows in refs.values() for ref in rows} | {*tokens.own.values()}
    named |= {each.thread for each in (tokens.reply, tokens.tag) if each and each.thread}
    known = dict.fromkeys(named, EVERYBODY) | (circles or {})
    writer = writer or Writer(ANN, frozenset({BOB}))
    return tie(message, tokens, refs, known, writer, policy)


def claimed(thread: int, *, held: bool = False, by: int = ANN) -> Ref:
    return Ref(thread, held, claims=(Claim(by, proven=False),))


def test_the_order_of_ties() -> None:
    """Reply address, our id, In-Reply-To, newest References, remembered ids, subject tag."""
    message = replace(
        EMPTY, message_id="me@x", in_reply_to=("irt@x",), references=("old@x", "new@x", "ours@x")
    )
    refs = {
        name: [claimed(number, held=True)]
        for number, name in enumerate(["irt@x", "old@x", "new@x"], 1)
    } | {"me@x": [claimed(4)]}
    tokens: dict[str, Any] = {
        "reply": TicketRef(9, 90),
        "own": {"ours@x": 80},
        "tag": TicketRef(7, 70),
    }
    seen = []
    for dropped in ("reply", "own", "irt@x", "new@x", "old@x", "me@x", "tag"):
        found = tied(message, refs, tokens=MailTokens(**tokens))
        seen.append((found.matched_by, found.thread))
        tokens.pop(dropped, None)
        refs.pop(dropped, None)
    expected = [
        ("reply_address", 90),
        ("own_id", 80),
        ("in_reply_to", 1),
        ("references", 3),
        ("references", 2),
        ("late_parent", 4),
        ("subject_tag", 70),
    ]
    assert seen == expected
    assert tied(message, {}) == tied(EMPTY, {})


SEVERAL = replace(EMPTY, message_id="me@x", in_reply_to=("a@x",), references=("b@x", "c@x"))
SEVERAL_REFS = {
    "a@x": [claimed(5, held=True)],
    "b@x": [claimed(3, held=True)],
    "c@x": [claimed(4)],
    "me@x": [claimed(6)],
}


def test_every_listed_id_joins() -> None:
    """Threads named by several ids of one mail are the same conversation, if vouched or held."""
    found = tied(SEVERAL, SEVERAL_REFS)
    assert (found.thread, found.joins, found.related) == (5, (3, 4, 6), ())


def test_a_responder_under_the_id_of_another_changes_nothing_for_their_mail() -> None:
    """A machine's mail under an id leaves the mail with that id an awaited, earlier one."""
    held = Ref(4, held=True, machine=True, claims=(Claim(ANN, proven=False),))
    found = tied(replace(EMPTY, message_id="me@x"), {"me@x": [held]})
    assert (found.matched_by, found.thread, found.names, found.late) == (
        "late_parent",
        4,
        True,
        True,
    )


def test_a_thread_that_awaited_the_mail_comes_before_a_foreign_use_of_an_id() -> None:
    """A mail goes where an answer to it waits, not where somebody used the id that it names."""
    refs = {"x@x": [Ref(1, held=True, claims=(Claim(EVE, proven=True),))], "me@x": [claimed(4)]}
    foreign = {1: Circle(frozenset({ANN, EVE}), 1, EVE)}
    message = replace(EMPTY, message_id="me@x", in_reply_to=("x@x",))
    found = tied(message, refs, circles=foreign)
    assert (found.matched_by, found.thread, found.related) == ("late_parent", 4, (1,))
    del refs["me@x"]
    assert tied(message, refs, circles=foreign).thread == 1


@pytest.mark.parametrize("policy", ["vouched", "anyone"])
def test_an_outsider_joins_nothing(policy: JoinPolicy) -> None:
    """A stranger's mail goes where its first id is held; other threads are only related to it."""
    found = tied(SEVERAL, SEVERAL_REFS, writer=Writer(EVE, frozenset({ANN, BOB})), policy=policy)
    joined = (3, 4, 6) if policy == "anyone" else ()
    assert (found.thread, found.joins) == (5, joined)
    assert found.related == (() if joined else (3, 4, 6))
    assert found.names is False


def test_an_outsider_is_not_tied_by_what_a_thread_only_heard_of() -> None:
    """A mail that nobody vouches for is on no thread, however it is known there."""
    for message in (replace(EMPTY, in_reply_to=("c@x",)), replace(EMPTY, message_id="me@x")):
        found = tied(message, SEVERAL_REFS, writer=Writer(EVE, frozenset({ANN})))
        assert (found.thread, found.ticket, len(found.related)) == (None, None, 1)


def test_a_reused_id_does_not_join_the_threads_that_hold_it() -> None:
    """Two threads that hold the same id are not shown to be one by a mail that names it."""
    refs = {"a@x": [claimed(1, held=True), Ref(2, held=True)]}
    found = tied(replace(EMPTY, in_reply_to=("a@x",)), refs)
    assert (found.thread, found.joins, found.related) == (1, (), (2,))


def test_a_worn_out_id_ties_insiders_only() -> None:
    """An id known on very many threads leads an outsider to none of them."""
    refs = {"a@x": [Ref(number, held=True) for number in range(1, MOST_THREADS + 1)]}
    circles = {number: Circle(frozenset({BOB}), number, BOB) for number in range(2, 99)}
    message = replace(EMPTY, in_reply_to=("a@x",))
    assert tied(message, refs, circles=circles).thread == 1
    assert tied(message, refs, circles=circles, writer=Writer(EVE)).thread is None


def test_a_forward_thread_is_never_joined() -> None:
    """A thread that our own forward started is never joined to another, whatever ids are listed."""
    forward = {8: replace(EVERYBODY, forward=True)}
    message = replace(EMPTY, in_reply_to=("fwd@x",), references=("cust@x",))
    refs = {"fwd@x": [Ref(8, held=True)], "cust@x": [Ref(1, held=True)]}
    assert tied(message, refs, circles=forward).joins == ()
    other = replace(EMPTY, in_reply_to=("cust@x",), references=("fwd@x",))
    assert tied(other, refs, circles=forward).joins == ()


def test_an_answer_to_a_forward_is_seen() -> None:
    """E17b: In-Reply-To to a forward on the thread marks an answer to it; References does not."""
    refs = {"f@x": [Ref(1, held=True, forward=True), Ref(2, held=True)]}
    assert tied(replace(EMPTY, in_reply_to=("f@x",)), refs).answers_forward is True
    assert tied(replace(EMPTY, references=("f@x",)), refs).answers_forward is False
    elsewhere = {1: Circle(frozenset({EVE}), 9, EVE)}
    moved = tied(replace(EMPTY, in_reply_to=("f@x",)), refs, circles=elsewhere)
    assert (moved.thread, moved.answers_forward) == (2, False)


@pytest.mark.parametrize(
    ("parents", "held", "machine", "names", "renames"),
    [
        ((), False, False, True, True),
        (("p@x",), True, False, False, True),
        (("p@x",), True, True, True, True),
    ],
)
def test_a_late_parent_names_unless_it_answers_a_person(
    parents: tuple[str, ...], held: bool, machine: bool, names: bool, renames: bool
) -> None:
    """A vouched earlier mail may name the conversation if no person's mail there precedes it."""
    refs = {"me@x": [claimed(4)]} | ({"p@x": [Ref(4, held, machine=machine)]} if held else {})
    found = tied(replace(EMPTY, message_id="me@x", references=parents), refs)
    assert (found.thread, found.names, found.renames) == (4, names, renames)


def entry(number: int, minutes: int, parents: tuple[str, ...] = ()) -> Entry:
    date = START + timedelta(minutes=minutes)
    return Entry(number, f"{number}@x", parents, date, number, f"subject {number}")


def test_a_message_that_answers_another_does_not_name() -> None:
    """An answer to a held message never names the conversation, however early its Date."""
    assert [each.message for each in heads([entry(1, 60), entry(2, 0, ("1@x",))], {"1@x"})] == [1]


@given(st.permutations([entry(1, 30), entry(2, 10, ("1@x",)), entry(3, 20, ("gone@x",))]))
def test_the_head_does_not_depend_on_order(entries: list[Entry]) -> None:
    """The same messages in any order name the conversation in the same order."""
    assert [each.message for each in heads(entries, {"1@x", "2@x", "3@x"})] == [3, 1]


def test_messages_in_a_circle_are_compared_by_date() -> None:
    """If every message answers another, the earliest by Date names."""
    circle = [entry(1, 30, ("2@x",)), entry(2, 10, ("1@x",))]
    assert [each.message for each in heads(circle, {"1@x", "2@x"})] == [2, 1]


KEYS = (b"k" * 32, b"o" * 32)


@given(st.integers(1, 10**14), st.integers(1, 10**14) | st.none(), st.sampled_from(KEYS))
def test_tokens_verify_in_any_case(number: int, thread: int | None, key: bytes) -> None:
    """MailTokens of each kind verify with an old key and in upper case, as their own kind only."""
    address = reply_tokens.reply_address(key, "support@example.org", number, thread)
    bare, plus = reply_tokens.bare(address)
    assert bare == "support@example.org"
    assert reply_tokens.read_reply(KEYS, plus.upper()) == TicketRef(number, thread)
    mark = reply_tokens.tag(key, number)
    assert reply_tokens.read_tag(KEYS, f"Re: [{mark.upper()}] hello") == TicketRef(number)
    own = reply_tokens.message_id(key, "abc123", number, "example.org")
    assert reply_tokens.read_own_id(KEYS, own) == number
    assert reply_tokens.read_reply(KEYS, mark.removeprefix("#")) is None
    assert reply_tokens.read_reply((b"x" * 32,), plus) is None


@given(st.text(max_size=60))
def test_arbitrary_text_does_not_verify(text: str) -> None:
    """Arbitrary text is no token and raises no error."""
    assert reply_tokens.read_reply(KEYS, text) is None
    assert reply_tokens.read_tag(KEYS, f"[#1.{text}] [{text}]") is None
    assert reply_tokens.read_own_id(KEYS, f"tg.{text}") is None
