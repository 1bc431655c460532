"""Tests of mails made to cost time or memory (reliability.md 12 to 16)."""

from __future__ import annotations

import time

import pytest

from gateway.intake.sandbox import child
from gateway.intake.sandbox.jobs import ReadJob
from gateway.reading import parse
from gateway.reading.mime.limits import DEFECTS
from tests.unit.gateway.reading.bombs import headers, html, reports, structure, text
from tests.unit.gateway.reading.bombs.make import HEAD, body

BOMBS = headers.HEADERS | structure.STRUCTURE | text.TEXT | html.HTML | reports.REPORTS

SMALLEST = 25_000  # bytes
LARGEST = 6_400_000  # bytes
NOTICEABLE = 0.012  # seconds


def cost(raw):
    """Return the processor seconds of one reading, by the function that reading processes run."""
    begun = time.process_time()
    found = child.read_job(ReadJob(raw, html=True))
    spent = time.process_time() - begun
    assert not any(each.startswith("could not be read") for each in found.defects)
    return spent


@pytest.fixture(scope="module", autouse=True)
def _warm():
    child.warm_up()
    for name in ("people in a calendar", "TNEF files", "unknown bytes", "returned ids"):
        cost(BOMBS[name](1000))  # what is imported only when needed


def slower_than_linear(bomb):
    """Return the cost of a size that takes a while, and of twice the size, if that is too much."""
    size = SMALLEST
    while cost(bomb(size)) < NOTICEABLE:
        size *= 2
        if size > LARGEST:
            return None
    small, large = bomb(size), bomb(2 * size)
    once, twice = cost(small), cost(large)
    for _ in range(4):
        if twice <= 2.5 * once:
            return None
        once, twice = min(once, cost(small)), min(twice, cost(large))
    return once, twice


@pytest.mark.alone
@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_twice_the_size_takes_twice_the_time(bomb):
    """A mail of twice the size takes at most 2.5 times the processor time (reliability.md 12)."""
    assert slower_than_linear(bomb) is None


@pytest.mark.parametrize(
    ("bomb", "size", "words"),
    [
        ("combining marks", 500_000, "more combining marks than are kept"),
        ("marks in a subject", 500_000, "more combining marks than are kept"),
        ("marks in encoded words", 500_000, "more combining marks than are kept"),
        ("entities of marks", 500_000, "more combining marks than are kept"),
        ("diagnostics", 500_000, "more combining marks than are kept"),
        ("attributes in one tag", 500_000, "more attributes in a tag than are shown"),
        ("ampersands", 500_000, "more tags or entities than are shown"),
        ("line breaks", 500_000, "more tags or entities than are shown"),
        ("large html parts", 5_000_000, "HTML longer than is read"),
        ("large parts", 5_000_000, "text longer than is read"),
    ],
)
def test_what_is_left_out_is_told(bomb, size, words):
    """A mail of which something is left out says so, and is marked as over a limit."""
    found = child.read_job(ReadJob(BOMBS[bomb](size), html=True))
    assert words in found.defects
    assert "over a limit, read in part" in found.defects
    assert found.over_limit


def test_ordinary_accents_are_no_excess():
    """A mail in decomposed Vietnamese, with three marks to a letter, is read whole."""
    text = "Tie\u0302\u0301ng Vie\u0323\u0302t " * 2000
    found = child.read_job(ReadJob(body(text.encode()), html=True))
    assert not found.over_limit
    assert found.text.split()[:2] == ["Ti\u1ebfng", "Vi\u1ec7t"]


def test_a_million_parts_are_not_made():
    """Five hundred parts are read and the rest is left out."""
    found = parse.read(
        HEAD
        + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        + b"--b\r\n\r\nx\r\n" * 1_000_000
    )
    assert found.over_limit
    assert found.text.count("x") < 501


def test_a_header_of_ten_megabytes():
    """The header is read up to the limit, and the body behind it is found."""
    found = parse.read(
        HEAD
        + b"X-Junk: "
        + b"y" * 76
        + b"\r\n"
        + b"X-Junk: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 160_000
        + b"\r\nbody"
    )
    assert (found.over_limit, found.text, found.message_id) == (True, "body", "x@y")


def test_defects_are_few_however_broken_a_mail_is():
    """A mail with a thousand faults has at most as many defects as the limit."""
    raw = (
        HEAD
        + b"nonsense\r\n" * 900
        + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        + b"--b\r\nstray\r\nContent-Transfer-Encoding: odd\r\n\r\n\xff\r\n" * 400
    )
    assert len(parse.read(raw).defects) <= DEFECTS
