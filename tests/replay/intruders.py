"""Customers and an intruder write to one desk; what each is told is checked in the outgoing mail.

Every mail carries a word of its own. :func:`leaks` lists the mails of ours that tell somebody a
word of a mail that was not for them: its writer's friends and the people it names may know it. Who
believes a forged From cannot be helped: its words may reach the friends of the forged sender.
"""

from __future__ import annotations

import email.utils
import itertools
import zlib
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from gateway.desk.correspondence import MailDraft
from gateway.errors import Rejected
from tests.replay.office import Office
from tests.replay.world import TRUSTED, Json

ALICE, CARL, DAVE = "alice@one.example", "carl@one.example", "dave@two.example"
MALLORY = "mallory@bad.example"
FRIENDS = {ALICE: {ALICE, CARL}, CARL: {ALICE, CARL}, DAVE: {DAVE}, MALLORY: {MALLORY}}
_words = (f"word{number}" for number in itertools.count(1000))


@dataclass(frozen=True)
class Post:
    """A mail of ``sender``; ids are short names, ``to_ticket`` means the signed reply address.

    ``cc`` are the people it names, ``days`` how long before now its Date lies. ``forger`` wrote
    it in the name of ``sender``. ``automatic``: it is an automatic reply.
    """

    sender: str
    message_id: str
    refs: tuple[str, ...] = ()
    cc: tuple[str, ...] = ()
    verdict: str = "pass"
    days: int = 0
    to_ticket: int | None = None
    reply_to: str | None = None
    forger: str | None = None
    automatic: bool = False


@dataclass
class Scene:
    """A desk, the mails that it got, and who may know the word of each."""

    office: Office
    told: dict[str, set[str]] = field(default_factory=dict)  # word -> addresses that may know it
    words: dict[str, list[str]] = field(default_factory=dict)  # message id -> words
    customers: list[str] = field(default_factory=list)  # words of the customers' own mails
    intruders: list[str] = field(default_factory=list)  # words of the intruder's own mails
    roles: dict[str, str] = field(default_factory=dict)  # word -> role of its sender
    lines: dict[str, Json] = field(default_factory=dict)  # message id -> line of the replay

    async def post(self, *posts: Post) -> None:
        """Receive mails one by one."""
        for each in posts:
            word = next(_words)
            people = {*FRIENDS[each.sender], *each.cc, *filter(None, (each.reply_to, each.forger))}
            self.told[word] = people
            if each.sender != MALLORY and each.forger is None:
                self.customers.append(word)
            if each.sender == MALLORY:  # whom they name may see all that they write
                self.intruders.append(word)
                invited = {*each.cc, *(who for other in self.intruders for who in self.told[other])}
                for other in self.intruders:
                    self.told[other] |= invited
            self.words.setdefault(each.message_id, []).append(word)
            raw = await self._raw(each, word)
            line = await self.office.world.mail(raw)
            self.lines.setdefault(each.message_id, line)
            self.roles[word] = line["sender_role"]

    async def _raw(self, post: Post, word: str) -> bytes:
        minutes = zlib.crc32(post.message_id.encode()) % 600  # the same in every run
        date = datetime(2026, 11, 20, tzinfo=UTC) + timedelta(minutes=minutes, days=-post.days)
        to = f"$reply({post.to_ticket})" if post.to_ticket else "support@localhost"
        fields = [
            f"From: {post.sender}",
            f"To: {', '.join([to, *post.cc])}",
            f"Subject: about {word}",
            f"Message-ID: <{post.message_id}@mail.example>",
            f"Date: {email.utils.format_datetime(date)}",
            *([f"Reply-To: {post.reply_to}"] if post.reply_to else []),
            *(["Auto-Submitted: auto-replied"] if post.automatic else []),
            *([f"Authentication-Results: {TRUSTED}; dmarc=pass"] if post.verdict == "pass" else []),
        ]
        if post.refs:
            ids = " ".join(f"<{each}@mail.example>" for each in post.refs)
            fields += [f"In-Reply-To: <{post.refs[-1]}@mail.example>", f"References: {ids}"]
        return await self.office.world.filled("\n".join([*fields, "", f"I tell you {word}.", ""]))

    def ticket_of(self, message_id: str) -> int:
        """Return the ticket that a mail was put on when it arrived."""
        return int(self.lines[message_id]["ticket"])

    async def answer_all(self) -> None:
        """Answer every ticket without naming anybody, and send everything."""
        for ticket in await self.office.world.tickets():
            draft = MailDraft("We look into it.")
            try:
                await self.office.person().reply(ticket["number"], draft)
            except Rejected:
                assert ticket["requester"] is None
        await self.office.run()


def leaks(scene: Scene, words: Collection[str] | None = None) -> list[str]:
    """Return a sentence for each of the words (default: all) that reached the wrong person."""
    return [
        f"{address} was told {word} of {sorted(people)}"
        for sent in scene.office.sink.taken
        for word, people in scene.told.items()
        if (words is None or word in words) and word in f"{sent.mail['Subject']} {sent.text}"
        for address in sent.to
        if address not in people
    ]
