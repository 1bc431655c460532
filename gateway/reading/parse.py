"""One raw mail in, one :class:`~core.model.message.Message` out, whatever the bytes are.

Pure and single-threaded; it runs in the reading processes (:mod:`gateway.intake.sandbox.pool`), and
nowhere in the daemon itself. The story: structure, headers, content, reports, forwards, visible
reply, classification, digests. mail-parser is asked for second opinions on header blocks that our
own bounded readers found odd (its whole-mail mode mixes attached mails into the body and costs a
millisecond a mail). :func:`read` never raises; what goes wrong inside it leaves a message with
headers only and a defect.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from core.mail.classify import TELLING, Facts, Verdict, classify
from core.model.message import Address, Attachment, Forwarded, Message
from gateway.reading import authentication, client_quotes, forward
from gateway.reading.mime import charset, limits
from gateway.reading.mime.content import Collector, Content, content_of
from gateway.reading.mime.fields import Fields
from gateway.reading.mime.headers import Headers
from gateway.reading.mime.part_tree import Part, Tree
from gateway.reading.reports import dsn
from gateway.reading.text import visible_reply
from gateway.reading.text.outline import outline
from gateway.reading.text.quotes import Found

_TRACE: Final = re.compile(
    rb"(?im)^(?:received|return-path|delivered-to|x-original-to|authentication-results|arc-[a-z-]+|x-spam-[a-z-]+|x-envelope-[a-z]+)[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*"
)
_FEW: Final = (
    32 * 1024
)  # bytes looked at by the daemon itself: what may cost it some milliseconds, not more
_HEADER_END: Final = re.compile(rb"\n[ \t]*\n")


def read(raw: bytes, *, html: bool = False, null_sender: bool | None = None) -> Message:
    """Read one mail. ``html`` also sanitises its HTML; ``null_sender`` is the envelope's word
    (None: Return-Path decides).
    """
    try:
        return _Reading(raw, html=html, null_sender=null_sender).message()
    except MemoryError:
        raise  # the reading process is at its limit, and its owner knows what to do
    except Exception as error:  # noqa: BLE001
        # the last resort: whatever was overlooked must not cost a mail
        return fallback(raw, f"could not be read whole ({type(error).__name__})")


def fallback(
    raw: bytes, reason: str = "could not be read; only its headers were looked at"
) -> Message:
    """What can be said about a mail with very little effort: its addresses, subject, ids, and what
    restrains it: verdict, spam and loop marks.

    Flagged over the limit, with a defect. Without the marks, a mail made to be unreadable would be
    let in where a readable one is held back.
    """
    block = raw[:_FEW].replace(b"\r\n", b"\n").lstrip(b"\n")
    end = block.find(b"\n\n")
    headers = Headers(block[:end] if end >= 0 else block)
    facts = Fields(headers)
    digest = plain_digest(raw)
    return Message(
        message_id=facts.message_id,
        in_reply_to=facts.ids("in-reply-to"),
        references=facts.ids("references"),
        date=facts.date,
        sender=facts.sender,
        sender_header=facts.sender_header,
        reply_to=facts.boxes("reply-to"),
        to=facts.boxes("to"),
        cc=facts.boxes("cc"),
        subject=facts.subject,
        text="",
        html=None,
        reply_text="",
        quoted_text="",
        attachments=(),
        kind="human",
        evidence=("read in part only",),
        auto_respond_ok=False,
        defects=(reason,),
        return_path=facts.return_path,
        delivered_to=facts.delivered_to,
        authentication=authentication.read_results(headers.texts("authentication-results", 8000)),
        spam_flag=facts.spam_flag,
        loop_marks=facts.loop_marks,
        over_limit=True,
        content_digest=digest,
        plain_digest=digest,
    )


def attachment(raw: bytes, part: str) -> tuple[Attachment, bytes]:
    """The attachment at a part path of :attr:`Attachment.part`, and its content; KeyError where
    there is none.
    """
    for found in content_of(Tree(_line_ends(raw)).root, part):
        return found
    raise KeyError(part)


def warm_up() -> None:
    """Import and compile what reading uses, before the workers are forked."""
    import mailparser  # noqa: F401
    import nh3  # noqa: F401

    from gateway.reading.mime import html, tnef  # noqa: F401

    read(
        b"From: a@b.example\r\nSubject: x\r\nContent-Type: text/html\r\n\r\n<p>x</p>\r\n", html=True
    )


def _line_ends(raw: bytes) -> bytes:
    """A mail whose lines end in a lone CR (old Macs) with the line ends everybody else uses."""
    if b"\n" not in raw[:65536] and b"\r" in raw[:65536]:
        return raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return raw


class _Reading:
    """One mail while it is read."""

    def __init__(self, raw: bytes, *, html: bool, null_sender: bool | None) -> None:
        self.raw = _line_ends(raw)
        self.asked: _Opinion | None = None
        self.tree = Tree(self.raw)
        self.headers = self.tree.root.headers
        self.headers.hint = _charset_hint(self.tree.root)
        self.fields = Fields(self.headers)
        self.content: Content = Collector(self.tree.root, html=html).run()
        self.return_path = self.fields.return_path
        self.null_path = null_sender if null_sender is not None else _is_null(self.return_path)

    def message(self) -> Message:
        """Everything about the mail."""
        fields, content = self.fields, self.content
        sender, subject, text, moment = fields.sender, fields.subject, content.text, fields.date
        if (sender is None or not sender.address) and self.headers.raw("from"):
            sender = self.opinion().sender or sender
        if moment is None and self.headers.raw("date"):
            moment = self.opinion().date
        report = dsn.read(
            self.tree.root, self.headers, sender, subject, text, null_path=self.null_path
        )
        lines = text.split("\n")
        found = outline(lines)
        forwarded = (
            None
            if report.kind
            else forward.find(text, lines, found, subject, self.headers, content.messages)
        )
        verdict = self.verdict(sender, subject, text, report, forwarded)
        if forwarded is not None and verdict.kind == "forward":
            reply_text, quoted_text = forwarded.comment, forwarded.text
        else:
            reply_text, quoted_text = visible_reply.visible(
                text, lines, self.with_marks(lines, found)
            )
        return Message(
            message_id=fields.message_id,
            in_reply_to=fields.ids("in-reply-to"),
            references=fields.ids("references"),
            date=moment,
            sender=sender,
            sender_header=fields.sender_header,
            reply_to=fields.boxes("reply-to"),
            to=fields.boxes("to"),
            cc=fields.boxes("cc"),
            subject=subject,
            text=text,
            html=content.html,
            reply_text=reply_text,
            quoted_text=quoted_text,
            attachments=tuple(content.attachments),
            kind=verdict.kind,
            evidence=verdict.evidence,
            auto_respond_ok=verdict.auto_respond_ok,
            forward=forwarded if verdict.kind == "forward" else None,
            bounce=report.bounce if verdict.kind in {"bounce", "report"} else None,
            invitations=tuple(content.invitations),
            defects=self.defects(sender, moment),
            return_path=self.return_path,
            delivered_to=fields.delivered_to,
            authentication=authentication.read_results(
                self.headers.texts("authentication-results", 8000)
            ),
            spam_flag=fields.spam_flag,
            loop_marks=fields.loop_marks,
            over_limit=self.over_limit(),
            content_digest=self.content_digest(sender, text),
            plain_digest=plain_digest(self.raw),
        )

    def with_marks(self, lines: list[str], found: list[Found]) -> list[Found]:
        """The outline with what only the HTML tells of quotes."""
        if self.content.marks:
            return client_quotes.merged(lines, found, self.content.marks)
        if not found and len(self.content.beside) == 1 and "in-reply-to" in self.headers.fields:
            return client_quotes.lost(lines, self.content.beside[0])
        return found

    def verdict(
        self,
        sender: Address | None,
        subject: str,
        text: str,
        report: dsn.DeliveryReport,
        forwarded: Forwarded | None,
    ) -> Verdict:
        """Who or what wrote the mail."""
        return classify(
            Facts(
                headers={
                    name: self.headers.text(name) or ""
                    for name in TELLING & self.headers.fields.keys()
                },
                sender=sender,
                subject=subject,
                text=text[:4000],
                null_path=self.null_path,
                content_type=self.tree.root.content_type,
                received=len(self.headers.fields.get("received", ())),
                report=report.kind,
                bounce=report.bounce,
                bounce_rule=report.rule,
                bounce_told=report.told,
                forward_rule=forwarded.rule if forwarded else "",
                challenge=report.challenge,
                calendar=self.content.invitations[0].method if self.content.invitations else "",
                is_reply="in-reply-to" in self.headers.fields
                or "references" in self.headers.fields,
            )
        )

    def opinion(self) -> _Opinion:
        """mail-parser's second opinion, asked for once."""
        if self.asked is None:
            self.asked = second_opinion(self.raw)
        return self.asked

    def over_limit(self) -> bool:
        """Whether any cap was hit."""
        received = len(self.headers.fields.get("received", ()))
        return (
            self.tree.over_limit
            or self.content.over_limit
            or self.fields.box_count > limits.ADDRESSES
            or received > limits.RECEIVED
        )

    def defects(self, sender: Address | None, moment: datetime | None) -> tuple[str, ...]:
        """What was wrong, each thing once, in plain words."""
        found = [*self.tree.defects, *self.headers.defects, *self.content.defects]
        if sender is None or not sender.address:
            found.append("no usable From")
        elif len(self.headers.fields.get("from", ())) > 1:
            found.append("several From fields")
        elif len({box.key for box in self.fields.boxes("from") if box.address}) > 1:
            found.append("several authors in From")
        if moment is None:
            found.append("no usable Date")
        if not self.headers.raw("message-id"):
            found.append("no Message-ID")
        if self.content.text[:40].lstrip().startswith("-----BEGIN PGP MESSAGE-----"):
            found.append("encrypted, kept whole")
        if b"\x00" in self.raw[:65536]:
            found.append("NUL in the mail")
        if self.over_limit():
            found.append("over a limit, read in part")
        if found:
            found += self.opinion().defects
        return tuple(dict.fromkeys(found))[: limits.DEFECTS]

    def content_digest(self, sender: Address | None, text: str) -> str:
        """Who wrote what and when: the same for every copy of a mail, whatever way it came and
        whichever line ends it has.
        """
        state = sha256()
        state.update((sender.key if sender else "").encode("utf-8", "replace") + b"\0")
        state.update(self.headers.raw("date") + b"\0")
        state.update(
            "\n".join(line.rstrip() for line in text.split("\n"))
            .rstrip()
            .encode("utf-8", "replace")
            + b"\0"
        )
        for each in self.content.digests:
            state.update(each.encode("ascii"))
        return state.hexdigest()


def _is_null(return_path: str | None) -> bool:
    """The null path; local delivery agents write it as their own MAILER-DAEMON (Postfix
    null_return_path).
    """
    return return_path is not None and (
        not return_path or return_path.partition("@")[0].upper() == "MAILER-DAEMON"
    )


def plain_digest(raw: bytes) -> str:
    """SHA-256 of a mail without its trace fields, line ends as LF."""
    raw = raw.replace(b"\r\n", b"\n") if b"\r\n" in raw else raw
    end = _HEADER_END.search(raw, 0, limits.HEADER_BLOCK)
    at = end.start() + 1 if end else min(len(raw), limits.HEADER_BLOCK)
    state = sha256(_TRACE.sub(b"", raw[:at]))
    state.update(memoryview(raw)[at : len(raw) - _trailing(raw)])
    return state.hexdigest()


def _trailing(raw: bytes) -> int:
    """How many line ends close the mail: transports add and drop them."""
    tail = raw[-4096:]
    return len(tail) - len(tail.rstrip(b"\n"))


def _charset_hint(root: Part) -> str | None:
    """The charset of the first part that names one: the best guess for raw 8-bit headers."""
    parts: Iterable[Part] = (root, *root.children[:3])
    return next((part.params["charset"] for part in parts if part.params.get("charset")), None)


@dataclass(frozen=True, slots=True)
class _Opinion:
    """What mail-parser makes of a header block: its defects, the sender and the date it reads."""

    defects: tuple[str, ...] = ()
    sender: Address | None = None
    date: datetime | None = None


_OPINION_BLOCK: Final = 16 * 1024
# said of a header block on its own, because the body is not there
_NOT_TELLING: Final = frozenset(
    {
        "StartBoundaryNotFoundDefect",
        "CloseBoundaryNotFoundDefect",
        "MultipartInvariantViolationDefect",
    }
)


def second_opinion(raw: bytes) -> _Opinion:
    """mail-parser's reading of a header block that we found odd; only of blocks small enough to be
    cheap.
    """
    import mailparser

    logging.getLogger("mailparser").setLevel(logging.CRITICAL + 1)  # it logs what it cannot read
    end = raw.find(b"\n\r\n" if b"\r\n" in raw[:2000] else b"\n\n", 0, _OPINION_BLOCK)
    if end < 0 or raw.count(b"\n", 0, end) > 300:
        return _Opinion()
    try:
        found = mailparser.parse_from_bytes(raw[: end + 1])
        defects = tuple(
            f"mail-parser: {each}"
            for each in sorted(map(str, found.defects_categories))
            if each not in _NOT_TELLING
        )[:5]
        boxes = [(str(name), str(address)) for name, address in found.from_ if "@" in str(address)]
        moment = found.date
    except Exception:  # noqa: BLE001
        # the library raises its own and the standard library's errors on bad headers; that is a
        # finding, too
        return _Opinion(("mail-parser cannot read the header",))
    sender = (
        Address(
            charset.one_line(boxes[0][0], limits.NAME),
            charset.one_line(boxes[0][1], limits.ADDRESS),
        )
        if boxes
        else None
    )
    if moment is not None:
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return _Opinion(
        defects, sender, moment if moment is not None and 1970 <= moment.year <= 2200 else None
    )
