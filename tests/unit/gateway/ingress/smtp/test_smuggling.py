"""Tests of SMTP smuggling: each published sequence gives one mail or a refusal."""

from __future__ import annotations

import pytest

from gateway.ingress.connection_limits import Limits

SECOND = (
    b"MAIL FROM:<evil@client.example>\r\nRCPT TO:<sales@desk.example>\r\nDATA\r\nFrom: "
    b"boss@desk.example\r\n\r\nsmuggled\r\n"
)
# every published sequence that some server took for the end of a mail, and similar ones
ENDS = {
    "LF.LF": b"\n.\n",
    "LF.CRLF": b"\n.\r\n",
    "CRLF.LF": b"\r\n.\n",
    "CR.CR": b"\r.\r",
    "CR.LF": b"\r.\n",
    "LF.CR": b"\n.\r",
    "CR.CRLF": b"\r.\r\n",
    "CRLF.CR": b"\r\n.\r",
    "LF.CRCRLF": b"\n.\r\r\n",
    "CRLF.CRCRLF": b"\r\n.\r\r\n",
    "CRCRLF.CRLF": b"\r\r\n.\r\r\n",
    "LFCR.CRLF": b"\n\r.\r\n",
    "CRLF.LFCR": b"\r\n.\n\r",
    "CRLFCR.CRLF": b"\r\n\r.\r\n",
    "CRLF.NULCRLF": b"\r\n.\x00\r\n",
    "CRLFNUL.CRLF": b"\r\n\x00.\r\n",
    "CRNULLF.CRLF": b"\r\x00\n.\r\n",
    "NULLF.CRLF": b"\x00\n.\r\n",
    "VT.VT": b"\x0b.\x0b",
    "FF.FF": b"\x0c.\x0c",
    "NEL.NEL": b"\xc2\x85.\xc2\x85",
    "LS.LS": b"\xe2\x80\xa8.\xe2\x80\xa8",
    "CRLF..CRLF": b"\r\n..\r\n",
    "CRLF.SPCRLF": b"\r\n. \r\n",
    "CRLFSP.CRLF": b"\r\n .\r\n",
}


def is_bare(end: bytes) -> bool:
    """Return whether a CR or LF of ``end`` is bare."""
    rest = end.replace(b"\r\n", b"")
    return b"\r" in rest or b"\n" in rest


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
async def test_only_the_true_end_ends_a_mail(desk, end):
    """Each published sequence gets 550 or stays part of the text."""
    client = await desk.hello()
    await client.begin()
    await client.send(b"Subject: x\r\n\r\nfirst" + end + SECOND + b".\r\nQUIT\r\n")
    reply = await client.reply()
    if is_bare(end):
        assert reply.startswith("550 5.5.2")
        assert await client.reply() == ""
        assert desk.spool.stored() == []
    else:
        assert reply == "250 2.0.0 Queued as 1"
        assert [raw.count(b"smuggled") for raw in desk.spool.stored()] == [1]
        assert [mail.envelope.recipients for mail in desk.spool.mails] == [
            ("support@desk.example",)
        ]


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
async def test_a_bare_newline_is_answered_at_once(desk, end):
    """A sender that uses a wrong end of mail gets 550 at once."""
    client = await desk.hello()
    await client.begin()
    await client.send(b"Subject: x\r\n\r\nfirst" + end + b"x")
    if is_bare(end):
        assert (await client.reply()).startswith("550 5.5.2")
        assert await client.reply() == ""
    else:
        await client.send(b"\r\n.\r\n")
        assert (await client.reply()).startswith("250")


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
async def test_normalize_makes_line_ends_after_the_end_was_found(open_desk, end):
    """``normalize`` stores one mail, with the smuggled one as its text."""
    desk = await open_desk(bare_newline="normalize")
    client = await desk.hello()
    await client.begin()
    await client.send(b"Subject: x\r\n\r\nfirst" + end + SECOND + b".\r\n")
    assert (await client.reply()) == "250 2.0.0 Queued as 1"
    (raw,) = desk.spool.stored()
    assert not is_bare(raw)
    assert raw.count(b"smuggled") == 1
    assert (await client.say("NOOP")).startswith("250")


async def test_normalize_is_for_trusted_networks_only(open_desk):
    """A client that is not exempt is refused also under ``normalize``."""
    desk = await open_desk(bare_newline="normalize", limits=Limits(exempt=()))
    client = await desk.hello()
    assert (await client.mail(b"a\nb\r\n")).startswith("550 5.5.2")


async def test_split_at_every_byte(desk):
    """The end of a mail is found however its bytes are split."""
    end = b"x\r\n.\r\nNOOP\r\n"
    for cut in range(len(end)):
        client = await desk.hello()
        await client.begin()
        await client.send(end[:cut])
        await (await desk.connect()).reply()  # by now the first piece was read
        await client.send(end[cut:])
        assert (await client.reply()).startswith("250 2.0.0 Queued")
        assert await client.reply() == "250 2.0.0 OK"
        client.close()
    assert set(desk.spool.stored()) == {b"x\r\n"}
