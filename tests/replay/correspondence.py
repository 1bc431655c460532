"""Hypothesis strategies of conversations: who answers whom, with which known ids and which Date."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from core.model.message import MACHINE_KINDS, Address, Bounce, Kind, Message

START = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
EMPTY = Message(
    None, (), (), None, None, None, (), (), (), "", "", None, "", "", (), "human", (), True
)
KINDS: tuple[Kind, ...] = (
    "human",
    "human",
    "human",
    "human",
    "auto_reply",
    "bounce",
    "bulk",
    "auto_generated",
    "forward",
)


@dataclass(frozen=True, slots=True)
class Letter:
    """One generated mail of a conversation, the same in every run of the test."""

    name: str  # its Message-ID, or a distinct text if it has none
    sender: str | None
    parents: tuple[str, ...]  # References, oldest first; the last is also In-Reply-To
    only_reply: bool  # has only In-Reply-To, as of some mail programs
    date: datetime | None
    kind: Kind
    cc: tuple[str, ...] = ()
    identified: bool = True

    def message(self, run: str) -> Message:
        """Return the mail as it is read; ``run`` keeps ids and people of runs apart."""
        ids = tuple(f"{run}.{each}@example.org" for each in self.parents)
        sender = Address(self.sender, f"{self.sender}@{run}.example") if self.sender else None
        digest = hashlib.sha256(f"{run} {self}".encode()).hexdigest()
        bounce = Bounce("failed", (), ids[-1] if ids else None) if self.kind == "bounce" else None
        return replace(
            EMPTY,
            message_id=f"{run}.{self.name}@example.org" if self.identified else None,
            in_reply_to=ids[-1:] if self.kind != "bounce" else (),
            references=() if self.only_reply else ids,
            date=self.date,
            sender=sender,
            to=(Address("", "support@localhost"),),
            cc=tuple(Address(each, f"{each}@{run}.example") for each in self.cc),
            subject=f"About {self.name}",
            text="Some words.",
            reply_text="Some words.",
            kind=self.kind,
            bounce=bounce,
            content_digest=digest,
            plain_digest=digest,
        )


ALL = ("ann", "bob", "eve")
PEOPLE = st.sampled_from(ALL)
SKEW = st.sampled_from(
    [
        timedelta(0),
        timedelta(0),
        timedelta(0),
        timedelta(days=-3),
        timedelta(hours=5),
        timedelta(minutes=-1),
    ]
)


@st.composite
def conversations(draw: st.DrawFn, most: int = 8, *, vouched: bool = False) -> list[Letter]:
    """Draw the mails of a few conversations; some never arrive, though others refer to them.

    ``vouched``: every mail has a sender and names all people, and a machine answers one mail only.
    """
    count = draw(st.integers(1, most))
    chains: list[tuple[str, ...]] = []
    letters: list[Letter] = []
    for number in range(count):
        answered = draw(st.none() | st.integers(0, number - 1)) if number else None
        chain = (*chains[answered], f"m{answered}") if answered is not None else ()
        chains.append(chain)
        if draw(st.integers(0, 4)) == 0:
            continue  # it never arrives
        kept = draw(st.sampled_from(["all", "last", "ends", "none"]))
        seen = {
            "all": chain,
            "last": chain[-1:],
            "ends": (*chain[:1], *chain[1:][-1:]),
            "none": (),
        }[kept]
        extra = (
            draw(st.none() | st.integers(0, count - 1)) if draw(st.integers(0, 5)) == 0 else None
        )
        kind = draw(st.sampled_from(KINDS))
        alone = vouched and kind in MACHINE_KINDS
        if alone:
            seen = seen[-1:]
        # a mail refers to mails written before it only
        if extra is not None and extra < number and not alone:
            seen = tuple(dict.fromkeys((f"m{extra}", *seen)))
        date = (
            START + timedelta(minutes=10 * number) + draw(SKEW) if draw(st.integers(0, 9)) else None
        )
        letters.append(
            Letter(
                f"m{number}",
                draw(PEOPLE) if vouched or draw(st.integers(0, 9)) else None,
                seen,
                draw(st.booleans()),
                date,
                kind,
                ALL if vouched else tuple(draw(st.lists(PEOPLE, max_size=2, unique=True))),
                # without Date and Message-ID nothing but the order of arrival is left
                date is None or draw(st.integers(0, 12)) > 0,
            )
        )
    return letters
