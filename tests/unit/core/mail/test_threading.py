"""Tests of ties and of the message that names a conversation (behaviour.md 5)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from core.mail import reply_tokens
from core.mail.threading import Entry, Ref, TicketRef, Tie, head, tie
from core.model.message import Message

EMPTY = Message(
    None, (), (), None, None, None, (), (), (), "", "", None, "", "", (), "human", (), True
)
START = datetime(2026, 1, 1, tzinfo=UTC)


def tied(message: Message, refs: dict[str, list[Ref]], **given: object) -> Tie:
    facts: dict[str, object] = {
        "reply_address": None,
        "own_ids": {},
        "subject_tag": None,
        "forward_threads": frozenset(),
        **given,
    }
    return tie(message, refs, **facts)  # type: ignore[arg-type]


def test_the_order_of_ties() -> None:
    """Reply address, our id, In-Reply-To, newest References, remembered ids, subject tag."""
    message = replace(
        EMPTY, message_id="me@x", in_reply_to=("irt@x",), references=("old@x", "new@x", "ours@x")
    )
    refs = {
        name: [Ref(number, held=True)] for number, name in enumerate(["irt@x", "old@x", "new@x"], 1)
    } | {"me@x": [Ref(4, held=False)]}
    facts: dict[str, object] = {
        "reply_address": TicketRef(9, 90),
        "own_ids": {"ours@x": 80},
        "subject_tag": TicketRef(7, 70),
    }
    seen = []
    for dropped in ("reply_address", "own_ids", "irt@x", "new@x", "old@x", "me@x", "subject_tag"):
        found = tied(message, refs, **facts)
        seen.append((found.matched_by, found.thread))
        facts.pop(dropped, None)
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


def test_every_listed_id_joins() -> None:
    """Threads named by several ids of one mail are the same conversation."""
    message = replace(EMPTY, message_id="me@x", in_reply_to=("a@x",), references=("b@x", "c@x"))
    found = tied(
        message,
        {
            "a@x": [Ref(5, held=True)],
            "b@x": [Ref(3, held=True)],
            "c@x": [Ref(4, held=False)],
            "me@x": [Ref(6, held=False)],
        },
    )
    assert (found.thread, found.joins) == (5, (3, 4, 6))


def test_a_forward_thread_is_never_joined() -> None:
    """A thread that our own forward started is never joined to another, whatever ids are listed."""
    message = replace(EMPTY, in_reply_to=("fwd@x",), references=("cust@x",))
    refs = {"fwd@x": [Ref(8, held=True)], "cust@x": [Ref(1, held=True)]}
    assert tied(message, refs, forward_threads=frozenset({8})).joins == ()
    other = replace(EMPTY, in_reply_to=("cust@x",), references=("fwd@x",))
    assert tied(other, refs, forward_threads=frozenset({8})).joins == ()


def test_an_answer_to_a_forward_is_seen() -> None:
    """E17b: In-Reply-To to a forward marks an answer to a forward; References does not."""
    refs = {"f@x": [Ref(1, held=True, forward=True)]}
    assert tied(replace(EMPTY, in_reply_to=("f@x",)), refs).answers_forward is True
    assert tied(replace(EMPTY, references=("f@x",)), refs).answers_forward is False


def entry(number: int, minutes: int, parents: tuple[str, ...] = (), *, opens: bool = True) -> Entry:
    return Entry(
        number,
        f"{number}@x",
        parents,
        START + timedelta(minutes=minutes),
        number,
        f"subject {number}",
        opens,
    )


def test_a_reply_with_an_early_date_does_not_take_the_conversation() -> None:
    """A reply never becomes the first message of the conversation, however early its Date."""
    found = head([entry(1, 60), entry(2, 0, ("1@x",))])
    assert found is not None
    assert found.message == 1


@given(
    st.permutations(
        [
            entry(1, 30),
            entry(2, 10, ("1@x",)),
            entry(3, 20, ("gone@x",)),
            entry(4, 40, ("gone@x", "3@x")),
            entry(5, 0, opens=False),
        ]
    )
)
def test_the_head_does_not_depend_on_order(entries: list[Entry]) -> None:
    """The same messages in any order have the same head, and it is always one that opens."""
    found = head(entries)
    assert found is not None
    assert found.message == 3


KEYS = (b"k" * 32, b"o" * 32)


@given(st.integers(1, 10**14), st.integers(1, 10**14) | st.none(), st.sampled_from(KEYS))
def test_tokens_verify_in_any_case(number: int, thread: int | None, key: bytes) -> None:
    """Tokens of each kind verify with an old key and in upper case, as their own kind only."""
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
