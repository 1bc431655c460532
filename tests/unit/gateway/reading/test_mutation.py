"""Tests that thousands of damaged mails give one storable message each, in time.

Bytes are flipped, cut and doubled, lines joined. ``make test-mutation`` is the long run of half a
million. If the corpus of real mail is beside the checkout, a fifth as many of its mails are
damaged too.
"""

from __future__ import annotations

import dataclasses
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

from core.model.message import Message
from gateway.reading import parse

COUNT = int(os.environ.get("MUTATIONS", "20000"))
HERE = Path(__file__).resolve().parent
CORPUS = HERE.parents[4] / "shared" / "corpus" / "raw"
SIGNS = [
    b"\0",
    b'"',
    b"<",
    b"\xff",
    b"\r",
    b"=?",
    b"\n\n",
    b";",
    b"(",
    b"--",
    b"\xed\xa0\x80",
    b"e\xcc\x81",
]
DEADLINE = 5.0  # seconds of processor time for one mail of a few kilobytes


def damaged(raw: bytes, chance: random.Random) -> bytes:
    """Return a mail with one to six injuries."""
    out = bytearray(raw[:100_000])
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(out) + 1)
        match chance.randrange(5):
            case 0:
                out[at : at + 1] = chance.randbytes(chance.randint(1, 3))
            case 1:
                del out[at : at + chance.randint(1, 200)]
            case 2:
                out[at:at] = out[at : at + 300]
            case 3:
                out[at : at + 300] = bytes(out[at : at + 300]).replace(b"\n", b"", 1)
            case _:
                out[at : at + 1] = chance.choice(SIGNS)
    return bytes(out)


def strings(value: object) -> Iterator[str]:
    """Yield every string in a message."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from strings(each)
    elif dataclasses.is_dataclass(value):
        for name in value.__slots__:
            yield from strings(getattr(value, name))


def check(raw: bytes, origin: str) -> None:
    """Check that one damaged mail gives a message in time, with nothing a database refuses."""
    begun = time.process_time()
    found = parse.read(raw, html=True)
    assert time.process_time() - begun < DEADLINE, origin
    assert isinstance(found, Message), origin
    assert not any(each.startswith("could not be read whole") for each in found.defects), (
        origin,
        found.defects,
    )
    for text in strings(found):
        assert "\0" not in text, origin
        assert text.isascii() or text.encode("utf-8", "ignore").decode("utf-8") == text, (
            origin
        )  # a lone surrogate has no bytes


def run(files: list[Path], count: int, seed: int) -> None:
    """Read ``count`` damaged mails, taken in turn."""
    chance = random.Random(seed)
    mails = [(path.name, path.read_bytes()) for path in files]
    for index in range(count):
        name, raw = mails[index % len(mails)]
        check(damaged(raw, chance), f"{name}, mutation {index} of seed {seed}")


def test_our_own_mails_damaged():
    """Twenty thousand damaged copies of our fixtures are read."""
    run(sorted((HERE / "cases").glob("*.eml")), COUNT, seed=1)


if CORPUS.is_dir():

    def test_the_corpus_damaged():
        """A fifth as many damaged copies of real mail are read."""
        files = sorted(CORPUS.glob("*/*.eml"))
        run(random.Random(2).sample(files, len(files)), COUNT // 5, seed=2)
