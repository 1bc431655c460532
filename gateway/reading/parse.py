"""Read one raw mail into one :class:`~core.model.message.Message`, whatever its bytes are.

The steps are part tree, headers, content, reports, forwards, classification, visible reply and
digests. The code is pure and single-threaded. It runs in the reading processes
(:mod:`gateway.intake.sandbox.pool`); the daemon itself only calls :func:`fallback`.

The library mail-parser gives a second opinion on header blocks in which our own readers found a
defect. It does not read whole mails, since it mixes attached mails into the body and takes a
millisecond a mail.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
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
from gateway.reading.text.quotes import OutlineItem

_TRACE_FIELDS: Final = re.compile(
    rb"(?im)^(?:received|return-path|delivered-to|x-original-to|authentication-results|"
    rb"arc-[a-z-]+|x-spam-[a-z-]+|x-envelope-[a-z]+)[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*"
)
_FALLBACK_BYTES: Final = 32 * 1024  # read in the daemon itself, so at most some milliseconds
_HEADER_END: Final = re.compile(rb"\n[ \t]*\n")


def read(raw: bytes, *, html: bool = False, null_sender: bool | None = None) -> Message:
    """Return the message of a raw mail; the only error that a mail can cause is MemoryError.

    With ``html``, the message has sanitised HTML too. ``null_sender`` says whether the envelope
    sender was empty; if it is None, Return-Path decides. If reading fails, the message comes from
    :func:`fallback`.
    """
    try:
        with limits.noting() as left_out:
            message = _Reading(raw, html=html, null_sender=null_sender).message()
        return _over_limit(message, left_out) if left_out else message
    except MemoryError:
        raise  # the pool replaces the process and tries again
    except Exception as error:  # noqa: BLE001
        # No mistake in the reader may lose a mail.
        return fallback(raw, f"could not be read whole ({type(error).__name__})")


def _over_limit(message: Message, left_out: Iterable[str]) -> Message:
    """Return a message that says what was left out of it."""
    defects = dict.fromkeys((*left_out, *message.defects, "over a limit, read in part"))
    return replace(message, defects=tuple(defects)[: limits.DEFECTS], over_limit=True)


def fallback(
    raw: bytes, reason: str = "could not be read; only its headers were looked at"
) -> Message:
    """Return a message made from the header block alone, for a mail that could not be read.

    The message has addresses, subject, ids, authentication results, spam flag and loop marks.
    Without the last three, a mail made unreadable on purpose could get past the checks. The message
    is marked ``over_limit`` and has ``reason`` as a defect.
    """
    block = raw[:_FALLBACK_BYTES].replace(b"\r\n", b"\n").lstrip(b"\n")
    end = block.find(b"\n\n")
    fields = Fields(Headers(block[:end] if end >= 0 else block))
    digest = plain_digest(raw)
    return replace(
        _message_of_headers(fields),
        evidence=("read in part only",),
        defects=(reason,),
        delivered_to=fields.delivered_to,
        authentication=authentication.read_results(fields.authentication_results),
        spam_flag=fields.spam_flag,
        loop_marks=fields.loop_marks,
        over_limit=True,
        content_digest=digest,
        plain_digest=digest,
    )


def _message_of_headers(fields: Fields) -> Message:
    """Return a message with addresses, ids, date, subject and return path, but no content."""
    return Message(
        message_id=fields.message_id,
        in_reply_to=fields.ids("in-reply-to"),
        references=fields.ids("references"),
        date=fields.date,
        sender=fields.sender,
        sender_header=fields.sender_header,
        reply_to=fields.mailboxes("reply-to"),
        original_from=fields.original_from,
        resent_from=fields.mailboxes("resent-from"),
        to=fields.mailboxes("to"),
        cc=fields.mailboxes("cc"),
        subject=fields.subject,
        text="",
        html=None,
        reply_text="",
        quoted_text="",
        attachments=(),
        kind="human",
        evidence=(),
        auto_respond_ok=False,
        return_path=fields.return_path,
    )


def attachment(raw: bytes, part: str) -> tuple[Attachment, bytes]:
    """Return the attachment at a part path and its content, or raise KeyError."""
    for found in content_of(Tree(_line_ends(raw)).root, part):
        return found
    raise KeyError(part)


_HTML_MAIL: Final = (
    b"From: a@b.example\r\nSubject: x\r\nContent-Type: text/html\r\n\r\n<p>x</p>\r\n"
)


def warm_up() -> None:
    """Import and compile everything that reading uses, before workers are forked."""
    import mailparser  # noqa: F401
    import nh3  # noqa: F401

    from gateway.reading.mime import html, tnef  # noqa: F401

    read(_HTML_MAIL, html=True)


def _line_ends(raw: bytes) -> bytes:
    """Return the mail with LF line ends if it uses lone CRs, as old Macs wrote them."""
    if b"\n" not in raw[:65536] and b"\r" in raw[:65536]:
        return raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return raw


class _Reading:
    """The state of reading one mail: its parts, its header fields, and what was found in them."""

    def __init__(self, raw: bytes, *, html: bool, null_sender: bool | None) -> None:
        self.raw = _line_ends(raw)
        self.tree = Tree(self.raw)
        self.headers = self.tree.root.headers
        self.headers.hint = _charset_hint(self.tree.root)
        self.fields = Fields(self.headers)
        self.header = _message_of_headers(self.fields)
        self.content: Content = Collector(self.tree.root, html=html).run()
        self.null_path = (
            null_sender if null_sender is not None else _is_null_path(self.header.return_path)
        )
        self._opinion: _SecondOpinion | None = None

    def message(self) -> Message:
        """Return the message, from all that was read."""
        content, subject = self.content, self.header.subject
        sender, moment = self.sender_and_date()
        report = dsn.read(
            self.tree.root, self.headers, sender, subject, content.text, null_path=self.null_path
        )
        lines = content.text.split("\n")
        found = outline(lines)
        forwarded = (
            None
            if report.kind
            else forward.find(content.text, lines, found, subject, self.headers, content.messages)
        )
        verdict = self.verdict(sender, report, forwarded)
        if forwarded is None or verdict.kind != "forward":
            forwarded = None
            found = self.with_html_quotes(lines, found)
            reply_text, quoted_text = visible_reply.split(content.text, lines, found)
        else:
            reply_text, quoted_text = forwarded.comment, forwarded.text
        return replace(
            self.header,
            date=moment,
            sender=sender,
            text=content.text,
            html=content.html,
            reply_text=reply_text,
            quoted_text=quoted_text,
            attachments=tuple(content.attachments),
            kind=verdict.kind,
            evidence=verdict.evidence,
            auto_respond_ok=verdict.auto_respond_ok,
            forward=forwarded,
            bounce=report.bounce if verdict.kind in {"bounce", "report"} else None,
            invitations=tuple(content.invitations),
            defects=self.defects(sender, moment),
            delivered_to=self.fields.delivered_to,
            authentication=authentication.read_results(self.fields.authentication_results),
            spam_flag=self.fields.spam_flag,
            loop_marks=self.fields.loop_marks,
            over_limit=self.over_limit(),
            content_digest=self.content_digest(sender, content.text),
            plain_digest=plain_digest(self.raw),
        )

    def sender_and_date(self) -> tuple[Address | None, datetime | None]:
        """Return (From, Date); if our own readers cannot read one, mail-parser's value is used."""
        sender, moment = self.header.sender, self.header.date
        if (sender is None or not sender.address) and self.headers.raw("from"):
            sender = self.opinion().sender or sender
        if moment is None and self.headers.raw("date"):
            moment = self.opinion().date
        return sender, moment

    def with_html_quotes(self, lines: list[str], found: list[OutlineItem]) -> list[OutlineItem]:
        """Return the outline of the plain text, with the quotes that only the HTML marks."""
        if self.content.marks:
            return client_quotes.merge(lines, found, self.content.marks)
        alternatives = self.content.html_alternatives
        if not found and len(alternatives) == 1 and "in-reply-to" in self.headers.fields:
            return client_quotes.find_in_html(lines, alternatives[0])
        return found

    def verdict(
        self, sender: Address | None, report: dsn.DeliveryReport, forwarded: Forwarded | None
    ) -> Verdict:
        """Return the kind of the mail: who or what wrote it, and why we think so."""
        fields = self.headers.fields
        return classify(
            Facts(
                headers={name: self.headers.text(name) or "" for name in TELLING & fields.keys()},
                sender=sender,
                subject=self.header.subject,
                text=self.content.text[:4000],
                null_path=self.null_path,
                content_type=self.tree.root.content_type,
                received=len(fields.get("received", ())),
                report=report.kind,
                bounce=report.bounce,
                bounce_rule=report.rule,
                bounce_told=report.announced,
                forward_rule=forwarded.rule if forwarded else "",
                challenge=report.challenge,
                calendar=self.content.invitations[0].method if self.content.invitations else "",
                is_reply="in-reply-to" in fields or "references" in fields,
            )
        )

    def opinion(self) -> _SecondOpinion:
        """Return mail-parser's second opinion, asked for at most once."""
        if self._opinion is None:
            self._opinion = second_opinion(self.raw)
        return self._opinion

    def over_limit(self) -> bool:
        """Tell whether the mail exceeds a cap, so that it was read in part."""
        too_many_hops = len(self.headers.fields.get("received", ())) > limits.RECEIVED
        too_many_mailboxes = self.fields.mailbox_count > limits.ADDRESSES
        cut = self.tree.over_limit or self.content.over_limit
        return cut or too_many_hops or too_many_mailboxes

    def defects(self, sender: Address | None, moment: datetime | None) -> tuple[str, ...]:
        """Return the defects of the mail in plain words, each once."""
        found = [*self.tree.defects, *self.headers.defects, *self.content.defects]
        if sender is None or not sender.address:
            found.append("no usable From")
        elif len(self.headers.fields.get("from", ())) > 1:
            found.append("several From fields")
        elif len({box.key for box in self.fields.mailboxes("from") if box.address}) > 1:
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
        """Return the SHA-256 digest of sender, Date, text and attachments.

        All copies of a mail have the same digest, whatever servers and line ends they came with.
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


def _is_null_path(return_path: str | None) -> bool:
    """Tell whether Return-Path is the null path; Postfix writes MAILER-DAEMON for it."""
    return return_path is not None and (
        not return_path or return_path.partition("@")[0].upper() == "MAILER-DAEMON"
    )


def plain_digest(raw: bytes) -> str:
    """Return the SHA-256 digest of a mail with LF line ends and without its trace fields."""
    raw = raw.replace(b"\r\n", b"\n") if b"\r\n" in raw else raw
    end = _HEADER_END.search(raw, 0, limits.HEADER_BLOCK)
    at = end.start() + 1 if end else min(len(raw), limits.HEADER_BLOCK)
    state = sha256(_TRACE_FIELDS.sub(b"", raw[:at]))
    state.update(memoryview(raw)[at : len(raw) - _trailing_newlines(raw)])
    return state.hexdigest()


def _trailing_newlines(raw: bytes) -> int:
    """Count the newlines at the end of a mail; transports add and drop them."""
    tail = raw[-4096:]
    return len(tail) - len(tail.rstrip(b"\n"))


def _charset_hint(root: Part) -> str | None:
    """Return the first charset that a part names, as the best guess for raw 8-bit headers."""
    parts: Iterable[Part] = (root, *root.children[:3])
    return next((part.params["charset"] for part in parts if part.params.get("charset")), None)


@dataclass(frozen=True, slots=True)
class _SecondOpinion:
    """The defects, sender and date that mail-parser finds in a header block."""

    defects: tuple[str, ...] = ()
    sender: Address | None = None
    date: datetime | None = None


_OPINION_BLOCK: Final = 16 * 1024  # bytes
# mail-parser reports these because it gets the header block without the body.
_BODY_DEFECTS: Final = frozenset(
    {
        "StartBoundaryNotFoundDefect",
        "CloseBoundaryNotFoundDefect",
        "MultipartInvariantViolationDefect",
    }
)


def second_opinion(raw: bytes) -> _SecondOpinion:
    """Return mail-parser's opinion on a header block; it is empty if the block is too long."""
    import mailparser

    logging.getLogger("mailparser").setLevel(logging.CRITICAL + 1)  # it logs what it cannot read
    end = raw.find(b"\n\r\n" if b"\r\n" in raw[:2000] else b"\n\n", 0, _OPINION_BLOCK)
    if end < 0 or raw.count(b"\n", 0, end) > 300:
        return _SecondOpinion()
    try:
        found = mailparser.parse_from_bytes(raw[: end + 1])
        defects = tuple(
            f"mail-parser: {each}"
            for each in sorted(map(str, found.defects_categories))
            if each not in _BODY_DEFECTS
        )[:5]
        boxes = [(str(name), str(address)) for name, address in found.from_ if "@" in str(address)]
        moment = found.date
    except Exception:  # noqa: BLE001
        # The library raises its own and the standard library's errors on bad headers.
        return _SecondOpinion(("mail-parser cannot read the header",))
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
    return _SecondOpinion(
        defects, sender, moment if moment is not None and 1970 <= moment.year <= 2200 else None
    )
