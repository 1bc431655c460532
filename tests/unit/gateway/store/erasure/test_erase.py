"""Tests of finding a person in text, of an erasure after a crash, and of clean files."""

from __future__ import annotations

import hashlib

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Invalid, Refused
from gateway.store.engine import file_of
from gateway.store.erasure import erase
from gateway.store.erasure.find import ERASED, Likeness
from gateway.store.queues.blob_files import FileBlobs
from gateway.store.queues.mail_register import MailRegister
from gateway.store.queues.spool import Spool
from gateway.store.schema import tables
from gateway.store.sql import sqlite
from gateway.store.tickets import search
from gateway.store.upkeep.check import check
from tests.unit.gateway.store.mails import mail

ANN = Likeness("Ann@Example.org", ["Ann Example", "Ann"])
NAMED = [
    "ann@example.org",
    "ANN@Example.ORG.",
    "<ann@example.org>",
    "mailto:ann%40example.org?subject=x",
    "bounces+ann=example.org@list.example",
    "'ann@example.org'",
]
OTHERS = [
    "joann@example.org",
    "ann@example.org.uk",
    "ann@example.organic",
    "mary-ann@example.org",
    "x.ann@example.org",
    "Ann",
    "Annual Example",
]


@pytest.mark.parametrize("text", NAMED)
def test_an_address_is_found_however_it_is_written(text):
    """Case, links, return paths and punctuation do not hide an address, also in raw mail."""
    assert ANN.is_in(text)
    assert ANN.is_in_raw(text.encode())
    assert not ANN.is_in(ANN.hidden(text))


@pytest.mark.parametrize("text", OTHERS)
def test_somebody_else_is_not_taken_for_the_person(text):
    """A longer local part or domain, or a name that is only a word, changes nothing."""
    assert not ANN.is_in_raw(text.encode())
    assert ANN.hidden(text, names=True) == text


def test_names_go_with_the_address_and_whole_names_alone():
    """Beside the address any name is hidden; alone only a full name, on request."""
    assert ANN.hidden('On Monday "Ann" <ann@example.org> wrote:') == f"On Monday {ERASED} wrote:"
    assert ANN.hidden("Ann\n Example said", names=True) == f"{ERASED} said"
    assert ANN.hidden("Ann Example said") == "Ann Example said"
    head = {
        "from": {"name": "A.", "address": "ANN@example.org"},
        "to": [{"name": "Bob", "address": "bob@example.org"}],
        "cc": [],
    }
    assert ANN.hidden(head) == head | {"from": {"name": ERASED, "address": None}}


@pytest.mark.parametrize("address", ["", "ann", "@example.org", "ann@", "a b@example.org"])
def test_what_is_no_address_is_refused(address):
    """A malformed address is refused."""
    with pytest.raises(Invalid):
        Likeness(address)


@given(st.text(), st.sampled_from(NAMED), st.text())
def test_nothing_of_the_address_is_left_in_any_text(before, inside, after):
    """A hidden text does not contain the address, and hiding again changes nothing."""
    hidden = ANN.hidden(f"{before} {inside} {after}", names=True)
    assert not ANN.is_in(hidden)
    assert ANN.hidden(hidden, names=True) == hidden


LARGE = 300 << 10


async def rows(store, *columns):
    async with store.read() as connection:
        return (await connection.execute(sa.select(*columns).order_by(columns[0]))).all()


async def erased(store, mail_id, what):
    """Mark a mail as an erasure does before its blob is deleted."""
    async with store.write() as connection:
        values = {"sha256": "", "erased": what, "state": "done"}
        await connection.execute(
            sa.update(tables.mail).where(tables.mail.c.id == mail_id).values(**values)
        )


async def test_blobs_are_finished_after_a_crash(store, tmp_path):
    """The next run deletes blobs and rows left by a crash, and keeps those of others."""
    blobs = FileBlobs(tmp_path / "blobs")
    raws = [bytes([each]) * LARGE for each in (65, 66, 67, 67)]
    dropped, emptied, shared, kept = await Spool(store, blobs).put([mail(raw) for raw in raws])
    await erased(store, dropped, "row")
    await erased(store, emptied, "raw")
    await erased(store, shared, "row")
    assert await erase.drop_blobs(store, blobs) == 2
    assert await rows(store, tables.mail.c.id, tables.mail.c.blob.is_(None)) == [
        (emptied, True),
        (kept, False),
    ]
    assert [key async for key in blobs.listing()] == [
        f"{(digest := hashlib.sha256(raws[3]).hexdigest())[:2]}/{digest}"
    ]
    assert (await check(store, blobs)).findings == []
    with pytest.raises(Refused, match="erased"):
        await MailRegister(store, blobs).raw(emptied)
    assert await erase.drop_blobs(store, blobs) == 0


def files_of(store):
    path = file_of(store.url)
    return b"".join(each.read_bytes() for each in path.parent.glob(f"{path.name}*"))


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
async def test_a_forgotten_word_is_in_no_byte_of_the_files(store):
    """Merging the index and emptying the log remove a deleted word from the files."""
    texts = [(number, "", f"common{number % 50} words") for number in range(1, 2000)]
    forgotten = (5000, "", "quokkazebra words")
    for some in (texts[:1000], [forgotten], texts[1000:]):
        async with store.write() as connection:
            await search.index(connection, some)
    async with store.write() as connection:
        await search.forget(connection, [forgotten])
    assert b"quokkazebra" in files_of(store)
    assert await erase.scour(store) is True
    assert b"quokkazebra" not in files_of(store)
    async with store.read() as connection:
        found = await connection.exec_driver_sql(
            "SELECT count(*) FROM message_search WHERE message_search MATCH 'common7'"
        )
        assert found.scalar() == 40


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
async def test_a_reader_that_keeps_the_log_is_reported(store, monkeypatch):
    """While a reader keeps the log, scour returns False; afterwards it succeeds."""
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    reader = sqlite.open_file(file_of(store.url), "read")
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM counter").fetchone()
    async with store.write() as connection:
        await search.index(connection, [(1, "", "one")])
    assert await erase.scour(store) is False
    reader.close()
    assert await erase.scour(store) is True


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
async def test_copies_of_moved_rows_are_removed(store, monkeypatch):
    """Without secure_delete in the build, the file is rewritten to remove copies of rows."""
    monkeypatch.setattr(erase, "_overwrites", lambda _: False)
    raws = [mail(b"x%d" % each) for each in range(400)]
    ids = await Spool(store, FileBlobs(file_of(store.url).parent / "blobs")).put(raws)
    async with store.write() as connection:
        await connection.exec_driver_sql("PRAGMA secure_delete = OFF")
        for mail_id in ids:
            values = {"sender": f"quokkazebra-{mail_id}@example.org", "subject": "s" * 60}
            await connection.execute(
                sa.update(tables.mail).where(tables.mail.c.id == mail_id).values(**values)
            )
        await connection.execute(sa.update(tables.mail).values(sender=None))
    assert b"quokkazebra" in files_of(store)
    assert await erase.scour(store) is True
    assert b"quokkazebra" not in files_of(store)
    assert len(await rows(store, tables.mail.c.id)) == 400
