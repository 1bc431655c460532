"""A reading function that harms its process as hostile mail could."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from gateway.reading import parse

if TYPE_CHECKING:
    from core.model.message import Message
    from gateway.intake.sandbox.jobs import ReadJob


def read_job(job: ReadJob) -> Message:
    """Read a mail, or die, hang or take all memory, as its subject says."""
    if b"Subject: About kill" in job.raw:
        os.kill(os.getpid(), signal.SIGKILL)
    if b"Subject: About stall" in job.raw:
        signal.pause()
    if b"Subject: About eat" in job.raw:
        bytearray(1 << 40)
    return parse.read(job.raw, html=job.html, null_sender=job.null_sender)
