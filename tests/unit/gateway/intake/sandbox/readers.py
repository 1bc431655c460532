"""Reading functions that misbehave as the words in a mail order."""

from __future__ import annotations

import os
import signal
import sys

from gateway.reading import parse


def read_job(job):
    """Read a mail, unless its subject orders otherwise."""
    if b"order: spin" in job.raw:
        while True:
            pass
    if b"order: stall" in job.raw:
        signal.pause()
    if b"order: eat" in job.raw:
        return [bytearray(64 * 1024 * 1024) for _ in range(1000)]
    if b"order: die" in job.raw:
        os._exit(1)
    if b"order: raise" in job.raw:
        raise RuntimeError
    if b"order: lie" in job.raw:
        return sys.stdout.write
    once = os.environ.get("TICKETGATE_TEST_ONCE", "")
    if b"order: once" in job.raw and not os.path.exists(once):  # noqa: PTH110
        with open(os.environ["TICKETGATE_TEST_ONCE"], "w", encoding="ascii"):  # noqa: PTH123
            os._exit(1)
    return parse.read(job.raw, html=job.html, null_sender=job.null_sender)


def read_part(raw, part):
    """Return an attachment as the real reading process does."""
    try:
        return parse.attachment(raw, part)
    except KeyError:
        return None
