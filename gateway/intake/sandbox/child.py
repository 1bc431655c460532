"""The functions that a worker of the sandbox runs."""

from __future__ import annotations

from core.model.message import Attachment, Message
from gateway.intake.sandbox.jobs import ReadJob
from gateway.reading import parse


def read_job(job: ReadJob) -> Message:
    """Return the message of one mail."""
    return parse.read(job.raw, html=job.html, null_sender=job.null_sender)


def read_part(raw: bytes, part: str) -> tuple[Attachment, bytes] | None:
    """Return one attachment and its content, or None if there is none."""
    try:
        return parse.attachment(raw, part)
    except KeyError:
        return None


def warm_up() -> None:
    """Import what reading needs, so that forked workers share it."""
    parse.warm_up()
