"""A reading process that a mail has taken over: it answers with bytes of its own making."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path


def _text(word: str) -> bytes:
    return pickle.SHORT_BINUNICODE + bytes([len(word)]) + word.encode()


def _global(module: str, name: str) -> bytes:
    return _text(module) + _text(name) + pickle.STACK_GLOBAL


def _run(name: str) -> bytes:
    """Return a pickle that gets ``exec`` through core.model.message and writes a file."""
    code = f"open({os.environ['TICKETGATE_TEST_PROOF']!r}, 'w').close()"
    fetched = _global("core.model.message", name) + _text("exec") + pickle.TUPLE1 + pickle.REDUCE
    return (
        pickle.PROTO + b"\x04" + fetched + _text(code) + pickle.TUPLE1 + pickle.REDUCE + pickle.STOP
    )


def _answers(order: bytes) -> tuple[int | None, bytes]:
    """Return the length to announce (None for the true one) and the bytes to send."""
    match order:
        case b"run":
            return None, _run("dataclass.__builtins__.__getitem__")
        case b"globals":
            return None, _global("core.model.message", "dataclass.__globals__").join(
                [pickle.PROTO + b"\x04", pickle.STOP]
            )
        case b"endless":
            return 1 << 62, b"x"
        case b"few":
            return None, pickle.dumps(("ok", []))
        case b"words":
            return None, pickle.dumps(("ok", ["no message"]))
        case b"number":
            return None, pickle.dumps(7)
        case b"memo":
            return None, pickle.PROTO + b"\x04" + pickle.BINGET + b"\x07" + pickle.STOP
        case _:
            return None, b""


def read_job(job):
    """Send what the mail orders over the channel of this process, then exit."""
    length, data = _answers(job.raw.partition(b"order: ")[2].split()[0])
    channel = next(
        int(each.name)
        for each in Path("/proc/self/fd").iterdir()
        if int(each.name) > 2 and each.is_socket()
    )
    os.write(
        channel, struct.pack("!IQ", 0x54474D31, len(data) if length is None else length) + data
    )
    os._exit(0)
