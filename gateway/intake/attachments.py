"""The files of a mail that an agent wrote elsewhere, for its way to the customer (behaviour.md
E19).

They are read by the processes that read all mail. What can go wrong: the raw form is gone, or
reading it kills the process (Refused, with the sentence).
"""

from __future__ import annotations

from core.model.message import Message
from gateway.compose.mime import File
from gateway.errors import Refused
from gateway.intake.sandbox.jobs import ReadJob
from gateway.intake.sandbox.pool import Sandbox, WorkerLost
from gateway.store.queues.mail_register import MailRegister


async def files_of(register: MailRegister, sandbox: Sandbox, mail_id: int) -> tuple[File, ...]:
    """Everything that is attached to a mail of the register, in the order in which it stands there."""
    raw = await register.raw(mail_id)
    [message] = await sandbox.read_many([ReadJob(raw)])
    if not isinstance(message, Message):
        raise Refused(f"the attachments of the answer cannot be read: {message.reason}")
    try:
        found = [await sandbox.attachment(raw, each.part) for each in message.attachments]
    except (WorkerLost, KeyError):
        raise Refused("the attachments of the answer cannot be read") from None
    return tuple(
        File(each.filename or f"attachment {place}", each.content_type, data)
        for place, (each, data) in enumerate(found, 1)
    )
