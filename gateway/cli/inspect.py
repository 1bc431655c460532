"""``ticketgate inspect FILE...``: read mail without storing anything (interfaces.md 3).

Each file gives one result; for a file that cannot be opened, the result has a defect. The exit
code is 0. Files are read in the same sandboxed processes as incoming mail.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, TextIO

import typer

from config.load import load
from core.model.message import Address, Attachment, Bounce, Forwarded, Invitation, Message
from gateway.cli.group import App
from gateway.cli.opening import explained, named_file
from gateway.cli.option_values import AsJson
from gateway.cli.output import emit, say
from gateway.ingress.mail_files import MAX_MAIL_BYTES
from gateway.intake.sandbox.jobs import ReadFailure, ReadJob
from gateway.intake.sandbox.pool import Sandbox
from gateway.reading import authentication

_CHUNK: Final = 8
_CHUNK_BYTES: Final = 4 * 1024 * 1024
app = App("Read mail without storing anything.")


@app.command()
def command(
    context: typer.Context,
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Files with one mail each.")
    ],
    as_json: AsJson = False,
) -> None:
    """Read mail without storing anything, and show the result."""
    with explained():
        settings = load(named_file(context), os.environ).settings
    raise typer.Exit(run(files, as_json, settings.auth_results.trusted))


def run(
    files: list[str], as_json: bool, trusted: Collection[str] = (), *, out: TextIO | None = None
) -> int:
    """Print the mail in each file, as a JSON line or a short page; return 0 (interfaces.md 3)."""
    asyncio.run(_run(files, as_json, trusted, out))
    return 0


async def _run(
    files: list[str], as_json: bool, trusted: Collection[str], out: TextIO | None
) -> None:
    sandbox = Sandbox(min(len(os.sched_getaffinity(0)), max(1, len(files) // 2)))
    await sandbox.start()
    try:
        for group in _groups(files, sandbox.processes):
            opened = await asyncio.gather(*(_chunk(sandbox, chunk) for chunk in group))
            for read in (each for chunk in opened for each in chunk):
                row = _row(*read, trusted)
                if as_json:
                    emit(row, to=out)
                else:
                    say(page(row), to=out)
            say(end="", to=out, flush=True)
    finally:
        await sandbox.stop()


def _row(
    file: str, raw: bytes, outcome: Message | ReadFailure | str, trusted: Collection[str]
) -> dict[str, Any]:
    """Return the row of a file; ``outcome`` is the mail, or the reason why it cannot be read."""
    from gateway.reading import parse

    match outcome:
        case Message():
            return as_row(file, outcome, trusted)
        case ReadFailure():
            return as_row(file, parse.fallback(raw, outcome.reason), trusted)
        case str():
            return as_row(file, parse.fallback(b"", outcome), ())


def _groups(files: list[str], width: int) -> Iterable[list[list[str]]]:
    """Yield files in small groups, so that few mails are in memory at a time.

    A group has at most two chunks of files for each process.
    """
    chunks = [files[at : at + _CHUNK] for at in range(0, len(files), _CHUNK)]
    return (chunks[at : at + 2 * width] for at in range(0, len(chunks), 2 * width))


async def _chunk(
    sandbox: Sandbox, files: Sequence[str]
) -> list[tuple[str, bytes, Message | ReadFailure | str]]:
    raws: list[tuple[str, bytes, str]] = [(file, *_open(file)) for file in files]
    jobs = [ReadJob(raw, None, True) for _, raw, problem in raws if not problem]
    if sum(len(job.raw) for job in jobs) <= _CHUNK_BYTES:
        found = await sandbox.read_many(jobs)
    else:
        found = [(await sandbox.read_many([job]))[0] for job in jobs]
    answers = iter(found)
    return [(file, raw, problem or next(answers)) for file, raw, problem in raws]


def _open(file: str) -> tuple[bytes, str]:
    """Return (bytes of the file, ""), or (b"", reason) if the file cannot be read."""
    try:
        with Path(file).open("rb") as stream:
            raw = stream.read(MAX_MAIL_BYTES + 1)
    except (OSError, ValueError) as error:
        return b"", f"cannot be opened: {getattr(error, 'strerror', None) or error}"
    if len(raw) > MAX_MAIL_BYTES:
        return b"", f"is larger than {MAX_MAIL_BYTES >> 20} MiB"
    return raw, ""


def as_row(file: str, message: Message, trusted: Collection[str]) -> dict[str, Any]:
    """Return a message as a mapping with the keys of interfaces.md 3."""
    return {
        "file": file.encode("utf-8", "backslashreplace").decode("utf-8"),
        "message_id": message.message_id,
        "in_reply_to": list(message.in_reply_to),
        "references": list(message.references),
        "date": message.date.isoformat() if message.date else None,
        "from": _box(message.sender),
        "sender": message.sender_header,
        "reply_to": _boxes(message.reply_to),
        "to": _boxes(message.to),
        "cc": _boxes(message.cc),
        "subject": message.subject,
        "text": message.text,
        "html": message.html,
        "reply_text": message.reply_text,
        "quoted_text": message.quoted_text,
        "attachments": [_attachment(each) for each in message.attachments],
        "kind": message.kind,
        "evidence": list(message.evidence),
        "auto_respond_ok": message.auto_respond_ok,
        "forward": _forward(message.forward),
        "bounce": _bounce(message.bounce),
        "invitations": [_invitation(each) for each in message.invitations],
        "auth": _auth(message, trusted),
        "defects": list(message.defects),
        "over_limit": message.over_limit,
    }


def _attachment(found: Attachment) -> dict[str, Any]:
    return {
        "filename": found.filename,
        "content_type": found.content_type,
        "size": found.size,
        "sha256": found.sha256,
        "inline": found.inline,
        "content_id": found.content_id,
    }


def _auth(message: Message, trusted: Collection[str]) -> dict[str, Any] | None:
    found = authentication.relied_on(message.authentication, trusted)
    if found is None:
        return None
    verdict = authentication.verdict(message.authentication, trusted)
    return {"spf": found.spf, "dkim": found.dkim, "dmarc": found.dmarc, "verdict": verdict}


def _box(address: Address | None) -> dict[str, str | None] | None:
    return {"name": address.name, "address": address.address} if address else None


def _boxes(found: Iterable[Address]) -> list[dict[str, str | None] | None]:
    return [_box(each) for each in found]


def _forward(found: Forwarded | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "from": _box(found.sender),
        "to": _boxes(found.to),
        "cc": _boxes(found.cc),
        "subject": found.subject,
        "date": found.date,
        "text": found.text,
        "comment": found.comment,
    }


def _bounce(found: Bounce | None) -> dict[str, Any] | None:
    if found is None:
        return None
    recipients = [
        {
            "address": each.address,
            "original": each.original,
            "action": each.action,
            "status": each.status,
            "diagnostic": each.diagnostic,
        }
        for each in found.recipients
    ]
    return {
        "action": found.action,
        "recipients": recipients,
        "original_message_id": found.original_message_id,
    }


def _invitation(found: Invitation) -> dict[str, Any]:
    return {
        "method": found.method,
        "summary": found.summary,
        "start": found.start,
        "end": found.end,
        "zone": found.zone,
        "location": found.location,
        "organizer": _box(found.organizer),
        "attendees": [
            {"name": each.who.name, "address": each.who.address, "status": each.status}
            for each in found.attendees
        ],
    }


def page(row: dict[str, Any]) -> str:
    """Return a row as text: the main facts, then the reply.

    If no reply was found in the mail, the whole text is shown.
    """
    sender = row["from"] or {}
    head = [
        f"File      {row['file']}",
        f"From      {sender.get('name') or ''} <{sender.get('address') or ''}>",
        f"Subject   {row['subject']}",
        f"Date      {row['date'] or '-'}",
        f"Kind      {row['kind']} ({'; '.join(row['evidence']) or 'no sign of automatic mail'})",
        f"Answer    {'may be' if row['auto_respond_ok'] else 'never'} answered automatically",
    ]
    head += [
        f"Attached  {each['filename'] or each['content_type']}, {each['size']} bytes"
        for each in row["attachments"]
    ]
    head += [
        (
            f"Invited   {each['summary']}, {each['start'] or 'no time'} "
            f"({each['method'] or 'no method'})"
        )
        for each in row["invitations"]
    ]
    head += [f"Defect    {each}" for each in row["defects"]]
    return "\n".join([*head, "", row["reply_text"] or row["text"], ""])
