"""Read the HTML of stored messages from their raw mail, since HTML is not stored separately.

A sandboxed process sanitises the HTML. The HTML is None where the mail cannot be read or was
removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.model.message import Message
from gateway.daemon.assemble import Installation
from gateway.errors import Rejected
from gateway.intake.sandbox.jobs import ReadJob

if TYPE_CHECKING:
    from gateway.store.tickets.threads import MessageRow

CHUNK = 8  # mails given to a reading process at a time


async def html_of(opened: Installation, rows: Sequence[MessageRow]) -> dict[int, str | None]:
    """Return the sanitised HTML of messages received or sent as mail, keyed by message id."""
    from gateway.store.tickets import pending_outgoing

    async with opened.database.read() as connection:
        sent = await pending_outgoing.raw_of_messages(
            connection, [row.id for row in rows if row.direction == "outbound"]
        )
    mails = [(row.id, row.mail_id) for row in rows if row.mail_id is not None or row.id in sent]
    found: dict[int, str | None] = {}
    if not mails:
        return found
    register, sandbox = await opened.register(), await opened.sandbox(1)
    for at in range(0, len(mails), CHUNK):
        jobs: list[tuple[int, ReadJob]] = []
        for message_id, mail_id in mails[at : at + CHUNK]:
            try:
                raw = await register.raw(mail_id) if mail_id is not None else sent[message_id]
                jobs.append((message_id, ReadJob(raw, html=True)))
            except Rejected:
                found[message_id] = None
        read = await sandbox.read_many([job for _, job in jobs])
        found.update(
            (message_id, each.html if isinstance(each, Message) else None)
            for (message_id, _), each in zip(jobs, read, strict=True)
        )
    return found
