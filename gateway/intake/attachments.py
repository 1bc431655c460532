"""Read the attachments of a mail that an agent wrote in a mail program (behaviour.md E19).

The sandbox reads them, as it reads all mail. Raises an error with a message for users if the raw
mail is gone or cannot be read.
"""

from __future__ import annotations

from core.model.message import Message
from gateway.compose.mime import File
from gateway.errors import Refused
from gateway.intake.sandbox.jobs import ReadJob
from gateway.intake.sandbox.pool import Sandbox, WorkerLost
from gateway.store.queues.mail_register import MailRegister


async def files_of(register: MailRegister, sandbox: Sandbox, mail_id: int) -> tuple[File, ...]:
    """Return the files attached to a stored mail, in their order in the mail."""
    raw = await register.raw(mail_id)
    [message] = await sandbox.read_many([ReadJob(raw)])
    if not isinstance(message, Message):
        raise Refused(f"the attachments of mail {mail_id} cannot be read: {message.reason}")
    try:
        found = [await sandbox.attachment(raw, each.part) for each in message.attachments]
    except (WorkerLost, KeyError):
        raise Refused(f"the attachments of mail {mail_id} cannot be read") from None
    return tuple(
        File(each.filename or f"attachment {number}", each.content_type, data)
        for number, (each, data) in enumerate(found, 1)
    )
