"""Tests of the bytes between DATA and its end, in any division into packets."""

from __future__ import annotations

import asyncio
import os
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ingress.accept import SpoolFile
from gateway.ingress.smtp.data import MailData
from gateway.ingress.spool_files import _RUN, remove_leftovers

PIECES = st.lists(
    st.sampled_from([b"\r\n", b"\r\n", b"\r\n.", b".", b"..", b"x", b"abc", b" ", b"\0"]),
    max_size=30,
)
ODD = st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"x", b"\r\r\n", b"\n."]), max_size=30)
CUTS = st.lists(st.integers(0, 60), max_size=8)
END = b"\r\n.\r\n"


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    """Return ``data`` divided at the given places."""
    places = [0, *sorted({cut for cut in cuts if cut < len(data)}), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def stuffed(content: bytes) -> bytes:
    """Return a mail as on the wire (RFC 5321 4.5.2), line by line."""
    return b"".join(
        (b"." + line if line.startswith(b".") else line) + b"\r\n"
        for line in content.split(b"\r\n")[:-1]
    )


def received(directory, wire, cuts, **options):
    """Return (fault, content, rest) of bytes on the wire."""

    async def run():
        data = MailData(
            b"", directory, **({"limit": 1 << 20, "hops": 100, "normalize": False} | options)
        )
        rest = None
        for chunk in chunks(wire, cuts):
            if rest is not None:
                rest += chunk
                continue
            rest = data.feed(chunk)
            if data.full:
                await data.relieve()
        raw = await data.finish() if rest is not None else b""
        return data.fault, raw, rest

    return asyncio.run(run())


@settings(max_examples=200, deadline=None)
@given(pieces=PIECES, cuts=CUTS, rest=st.sampled_from([b"", b"NOOP\r\n", b".\r\n", b"\r\n.\r\n"]))
def test_any_division_gives_the_same_mail(tmp_path_factory, pieces, cuts, rest):
    """The content is the same however the bytes are divided; what follows stays outside."""
    content = b"".join([*pieces, b"\r\n"]) if pieces else b""
    fault, raw, after = received(
        tmp_path_factory.getbasetemp(), stuffed(content) + b".\r\n" + rest, cuts
    )
    assert (fault, raw, after) == (None, content, rest)


@settings(max_examples=300, deadline=None)
@given(pieces=ODD, cuts=CUTS)
def test_bare_newlines_are_found_in_any_division(tmp_path_factory, pieces, cuts):
    """A bare CR or LF is a fault, wherever packets are cut."""
    wire = b"".join(pieces) + b"\r\n.\r\n"
    mail = (b"\r\n" + wire)[: (b"\r\n" + wire).find(END)]
    bare = re.search(rb"\r(?!\n)|(?<!\r)\n", mail)
    fault, _, _ = received(tmp_path_factory.getbasetemp(), wire, cuts)
    assert fault == ("bare_newline" if bare else None)


@settings(max_examples=300, deadline=None)
@given(pieces=ODD, cuts=CUTS)
def test_normalized_mail_does_not_depend_on_the_division(tmp_path_factory, pieces, cuts):
    """With ``normalize`` the stored mail has only CR LF, however packets are cut."""
    wire = b"".join(pieces) + b"\r\n.\r\n"
    whole = received(tmp_path_factory.getbasetemp(), wire, [], normalize=True)
    assert received(tmp_path_factory.getbasetemp(), wire, cuts, normalize=True) == whole
    assert whole[0] is None
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", whole[1])


@settings(max_examples=25, deadline=None)
@given(size=st.integers(200_000, 900_000), cuts=st.lists(st.integers(0, 900_000), max_size=12))
def test_mail_in_a_file_is_the_same_mail(tmp_path_factory, size, cuts):
    """A mail in a file has the same bytes, size and digest as one in memory."""
    folder = tmp_path_factory.mktemp("incoming")
    content = (b"line " * 15 + b"\r\n.dot\r\n") * (size // 83)
    fault, raw, _ = received(folder, stuffed(content) + b".\r\n", cuts)
    assert fault is None
    if isinstance(raw, SpoolFile):
        assert (raw.path.read_bytes(), raw.size) == (content, len(content))
    else:
        assert raw == content
        assert not list(folder.iterdir())


@pytest.mark.parametrize("fault", ["too_large", "hops", "bare_newline"])
def test_nothing_is_left_of_a_refused_mail(tmp_path, fault):
    """A fault that is found after the file was begun removes the file."""
    filler = b"x" * 70_000 + b"\r\n"
    bad = {"too_large": filler * 5, "hops": b"", "bare_newline": b"a\nb\r\n"}[fault]
    head = b"Received: x\r\n" * (101 if fault == "hops" else 1)
    wire = head + filler * 6 + bad + b".\r\n"
    assert (
        received(
            tmp_path,
            wire,
            range(1000, 700_000, 60_000),
            limit=500_000 if fault == "too_large" else 1 << 20,
        )[0]
        == fault
    )
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_crash_are_removed(tmp_path):
    """Only files of processes that died are removed."""
    pid = os.spawnlp(os.P_NOWAIT, "true", "true")
    os.waitpid(pid, 0)
    own, parent = os.getpid(), os.getppid()
    kept = {f"incoming-{own}-{_RUN}-ab", f"incoming-{parent}-cd-ab", "other", "incoming-odd-name-x"}
    for name in {f"incoming-{pid}-cd-ab", f"incoming-{own}-cd-ab"} | kept:
        (tmp_path / name).touch()
    assert remove_leftovers(tmp_path) == 2
    assert {path.name for path in tmp_path.iterdir()} == kept
