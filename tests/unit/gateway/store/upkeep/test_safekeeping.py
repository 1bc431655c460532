"""Tests of copy, backup and check: nothing is lost, and every kind of damage is found."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import sqlite3
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway.errors import Conflict, DiskFull, InternalError
from gateway.store.engine import HEAD, Database, migrate
from gateway.store.queues.blobs import Blobs, open_blobs
from gateway.store.queues.mail_register import MailRegister
from gateway.store.queues.spool import Spool, finish
from gateway.store.schema import tables
from gateway.store.sql.bulk import allot, write_rows
from gateway.store.tickets import search
from gateway.store.upkeep import backup as backup_module
from gateway.store.upkeep import copy as copy_module
from gateway.store.upkeep.backup import backup
from gateway.store.upkeep.check import check
from gateway.store.upkeep.copy import copy, count, digest
from tests.unit.gateway.store.mails import NOW, became, mail

RAWS = [
    b"a" * 100,
    b"b" * 70_000,
    random.Random(2).randbytes(300_000),
    b"",
    random.Random(3).randbytes(280_000),
]


@dataclass(frozen=True, slots=True)
class Desk:
    """A database with rows of every kind."""

    database: Database
    blobs: Blobs
    spool: Spool
    ids: list[int]


@pytest.fixture
async def desk(store: Database, tmp_path: Path) -> Desk:
    blobs = open_blobs(f"file://{tmp_path}/blobs")
    spool = Spool(store, blobs)
    ids = await spool.put([mail(raw) for raw in RAWS])
    row = {
        "parents": ["p\u00e9"],
        "head": {"from": "\U0001f600"},
        "flags": [],
        "evidence": [],
        "attachments": [],
        "sender_role": "contact",
        "kind": "human",
    }
    messages = [
        {
            **row,
            "id": n,
            "subject": f"Printer {n}",
            "reply_text": "",
            "text": f"word{n}",
            "thread_id": 1,
            "direction": "inbound",
            "mail_id": ids[n - 1],
            "created_at": NOW,
        }
        for n in (1, 2)
    ]
    ticket = {
        "number": 1,
        "subject": "s",
        "subject_key": "s",
        "pipeline_id": 1,
        "status_id": 1,
        "source": "email",
        "created_at": NOW,
        "flags": ["unread_reply"],
    }
    async with store.write(ordered=True) as connection:
        for name, number in {
            "ticket": 1,
            "thread": 1,
            "message": 2,
            "event": 0,
            "contact": 3,
        }.items():
            await allot(connection, name, number)
        people = [
            {"id": n, "address": f"{n}@x.example", "name": "Zoë" * n, "created_at": NOW}
            for n in (1, 2, 3)
        ]
        refs = [{"ref": f"{n}@Ä", "thread_id": 1, "message": None} for n in range(40)]
        await write_rows(
            connection,
            [
                (tables.contact, people),
                (
                    tables.ticket,
                    [ticket | {"tags": ["ü"], "close_date": NOW.date(), "requester_id": 1}],
                ),
                (tables.thread, [{"id": 1, "ticket": 1, "created_at": NOW}]),
                (tables.message, messages),
                (tables.message_ref, refs),
            ],
        )
        await search.index(connection, [(n, f"Printer {n}", f"word{n}") for n in (1, 2)])
        await finish(
            connection,
            [
                became(
                    ids[0],
                    message=1,
                    thread_id=1,
                    ticket=1,
                    fingerprint=b"f" * 16,
                    outcome={"a": 1},
                )
            ],
        )
    return Desk(store, blobs, spool, ids)


@pytest.fixture
def other_url(database_kind: str, tmp_path: Path, request) -> str:
    """Return the URL of an empty database of the other kind."""
    if database_kind == "postgresql":
        return f"sqlite:///{tmp_path / 'other.db'}"
    server = request.getfixturevalue("postgres")
    return server.url(server.create())


@pytest.fixture(params=["same", "other"])
def target_url(request, other_url: str, database_kind: str, tmp_path: Path) -> str:
    """Return the URL of an empty database of each kind in turn."""
    if request.param == "other":
        return other_url
    if database_kind == "sqlite":
        return f"sqlite:///{tmp_path / 'same.db'}"
    server = request.getfixturevalue("postgres")
    return server.url(server.create())


async def test_a_copy_is_the_same_desk_and_goes_on(desk, target_url):
    """Every row is copied and searchable, and numbering continues."""
    seen: dict[str, int] = {}
    total = await count(desk.database)
    copied = await copy(
        desk.database, target_url, lambda name, rows: seen.update({name: seen.get(name, 0) + rows})
    )
    assert sum(each.rows for each in copied) == sum(seen.values()) == total > 60
    target = await Database.open(target_url, node="n")
    try:
        for database in (desk.database, target):
            async with database.read() as connection:
                assert [
                    await digest(connection, table) for table in tables.metadata.sorted_tables
                ] == copied
                assert await search.search(connection, "word2", 9) == [1]
        spool = Spool(target, desk.blobs)
        assert [await MailRegister(target, desk.blobs).raw(number) for number in desk.ids] == RAWS
        assert (await check(target, desk.blobs)).sound
        [number] = await spool.put([mail(b"next")])
        assert number == max(desk.ids) + 1
        async with target.write() as connection:
            assert await allot(connection, "message", 1) == 3
            made = (
                sa.insert(tables.status)
                .values(pipeline_id=1, name="n", state="open", position=5)
                .returning(tables.status.c.id)
            )
            assert (await connection.execute(made)).scalar_one() == 5
    finally:
        await target.close()


async def test_a_copy_takes_one_instant_of_a_desk_in_use(desk, target_url):
    """Mail stored during a copy is in it whole or not at all, and is not delayed."""
    done = asyncio.Event()

    async def go_on() -> int:
        stored = 0
        while not done.is_set():
            stored += len(await desk.spool.put([mail(b"during")]))
        return stored

    writing = asyncio.create_task(go_on())
    try:
        copied = {each.name: each.rows for each in await copy(desk.database, target_url)}
    finally:
        done.set()
    assert await writing > 0
    raw = sum(len(each) <= 256 << 10 for each in RAWS)
    assert copied["mail"] - len(RAWS) == copied["raw_mail"] - raw


async def test_a_copy_refuses_a_target_that_is_not_empty(desk, target_url):
    """A target with rows is not written to."""
    await migrate(target_url)
    with pytest.raises(Conflict):
        await copy(desk.database, target_url)
    with pytest.raises(Conflict):
        await copy(
            desk.database,
            desk.database.url.render_as_string(hide_password=False)
            .replace("+aiosqlite", "")
            .replace("+asyncpg", ""),
        )


async def test_a_copy_that_differs_is_given_up(desk, target_url, monkeypatch):
    """When a table differs after copying, the target stays empty and the error names it."""

    async def lossy(connection, work):
        await write_rows(
            connection,
            [
                (table, [{**row, "name": "?"} for row in rows] if table is tables.contact else rows)
                for table, rows in work
            ],
        )

    monkeypatch.setattr(copy_module, "write_rows", lossy)
    with pytest.raises(InternalError, match="contact"):
        await copy(desk.database, target_url)
    target = await Database.open(target_url, node="n")
    assert await count(target) == 0
    await target.close()


async def test_a_backup_is_a_whole_desk(desk, tmp_path):
    """A backup is a database with every row and raw mail that passes the check."""
    file = tmp_path / "b.db"
    done = await backup(desk.database, desk.blobs, file)
    assert (done.rows["mail"], done.blobs, done.missing) == (len(RAWS), 2, ())
    assert sorted(path.name for path in tmp_path.glob("b.db*")) == ["b.db", "b.db.blobs"]
    assert oct(file.stat().st_mode & 0o777) == "0o600"
    blobs = open_blobs(f"file://{file}.blobs")
    restored = await Database.open(f"sqlite:///{file}", node="n")
    try:
        register = MailRegister(restored, blobs)
        assert [await register.raw(number) for number in desk.ids] == RAWS
        report = await check(restored, blobs)
        assert (report.findings, report.spare, report.mails, report.blobs) == ([], [], len(RAWS), 2)
    finally:
        await restored.close()
    with pytest.raises(Conflict):
        await backup(desk.database, desk.blobs, file)


async def test_a_backup_while_mail_comes_in_is_one_instant(desk, tmp_path):
    """Mail is stored during a backup, and the backup is consistent."""
    done = asyncio.Event()

    async def go_on() -> None:
        while not done.is_set():
            await desk.spool.put([mail(b"during" * 1000)])

    writing = asyncio.create_task(go_on())
    try:
        saved = await backup(desk.database, desk.blobs, tmp_path / "b.db")
    finally:
        done.set()
    await writing
    raw = sum(len(each) <= 256 << 10 for each in RAWS)
    assert saved.rows["mail"] - len(RAWS) == saved.rows["raw_mail"] - raw


async def test_a_backup_names_missing_blobs(desk, tmp_path):
    """A missing and a damaged blob are named, and the rest is backed up."""
    gone, damaged = sorted((tmp_path / "blobs").glob("*/*"))
    gone.unlink()
    damaged.write_bytes(b"other")
    saved = await backup(desk.database, desk.blobs, tmp_path / "b.db")
    assert (saved.blobs, len(saved.missing)) == (0, 2)
    assert (tmp_path / "b.db").exists()


async def test_a_backup_on_a_full_disk_leaves_no_file(desk, tmp_path, monkeypatch):
    """A failed backup leaves no file."""

    def full(*_):
        raise OSError(28, "no space")

    monkeypatch.setattr(backup_module, "_prove", full)
    with pytest.raises(DiskFull):
        await backup(desk.database, desk.blobs, tmp_path / "b.db")
    assert list(tmp_path.glob("b.db*")) == []


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("UPDATE raw_mail SET data = 'x' WHERE mail_id = 1", "raw mail"),
        ("DELETE FROM raw_mail WHERE mail_id = 2", "raw mail"),
        ("UPDATE message SET mail_id = 99 WHERE id = 1", "references"),
        ("UPDATE message_ref SET thread_id = 99 WHERE ref = '3@Ä'", "references"),
        ("UPDATE thread SET redirect_to = 1", "references"),
        ("UPDATE pipeline SET on_email_sent = 99", "references"),
        ("UPDATE counter SET value = 1 WHERE name = 'message'", "numbers"),
        ("UPDATE mail SET blob = 'aa/bb' WHERE id = 3", "blobs"),
    ],
)
async def test_the_check_finds_damage_of_every_kind(desk, damage, told):
    """An intact database has no findings; each kind of damage is found."""
    assert (await check(desk.database, desk.blobs)).findings == []
    async with desk.database.write() as connection:
        await connection.exec_driver_sql(damage)
    findings = (await check(desk.database, desk.blobs)).findings
    assert [finding.check for finding in findings] == [told]
    assert findings[0].count >= 1


async def test_the_check_reports_old_tables_and_spare_blobs(desk, tmp_path):
    """Spare blobs are no damage; tables of another version are not checked further."""
    raw = b"nobody's"
    key = await desk.blobs.put(raw, hashlib.sha256(raw).hexdigest())
    report = await check(desk.database, desk.blobs)
    assert (report.sound, report.spare) == (True, [key])
    async with desk.database.write() as connection:
        await connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
    assert [finding.check for finding in (await check(desk.database, desk.blobs)).findings] == [
        "head"
    ]


async def test_the_check_finds_a_broken_file(tmp_path):
    """An overwritten page of the file is found."""
    url = f"sqlite:///{tmp_path / 'x.db'}"
    database = await Database.open(url, node="n")
    await Spool(database, open_blobs("database:")).put(
        [mail(bytes([n]) * 3000) for n in range(200)]
    )
    await database.close()
    with sqlite3.connect(tmp_path / "x.db") as connection:
        root = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'ix_mail_state'"
        ).fetchone()[0]
    connection.close()
    with (tmp_path / "x.db").open("r+b") as file:
        file.seek((root - 1) * 4096 + 2000)
        file.write(b"\xff" * 1500)
    database = await Database.open(url, node="n")
    try:
        report = await check(database, open_blobs("database:"))
        assert "integrity" in [finding.check for finding in report.findings]
    finally:
        await database.close()


def command(url: str, blobs: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``ticketgate db ...`` in a process of its own."""
    environment = {**os.environ, "TICKETGATE_DATABASE__URL": url, "TICKETGATE_BLOBS__URL": blobs}
    line = [sys.executable, "-c", "from gateway.cli.main import main; main()", "db", *arguments]
    return subprocess.run(
        line, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


async def test_the_commands_do_it_all_and_say_so(desk, other_url, tmp_path):
    """check, backup and copy print one JSON document each and exit as documented."""
    url = (
        desk.database.url.render_as_string(hide_password=False)
        .replace("+aiosqlite", "")
        .replace("+asyncpg", "")
    )
    place = f"file://{tmp_path}/blobs"

    async def run(*arguments: str, expected: int = 0) -> dict:
        done = await asyncio.to_thread(command, url, place, *arguments)
        assert done.returncode == expected, done.stderr
        return json.loads(done.stdout) if done.stdout else {}

    saved = await run("backup", str(tmp_path / "b.db"), "--json")
    assert (saved["rows"]["mail"], saved["blobs"], saved["missing_blobs"]) == (len(RAWS), 2, [])
    copied = await run("copy", other_url, "--json")
    assert {each["name"]: each["rows"] for each in copied["tables"]} == saved["rows"]
    assert await run("copy", other_url, expected=65) == {}
    async with desk.database.write() as connection:
        await connection.exec_driver_sql("DELETE FROM raw_mail WHERE mail_id = 1")
    looked = await run("check", "--json", expected=65)
    assert (
        looked["ok"],
        looked["mails"],
        looked["blobs"],
        [each["check"] for each in looked["findings"]],
    ) == (False, len(RAWS), 2, ["raw mail"])


async def test_an_old_database_is_upgraded_by_command_only(database_url, tmp_path):
    """An absent SQLite file and an empty PostgreSQL database exit 78 until they are upgraded."""
    first = await asyncio.to_thread(
        command, database_url, f"file://{tmp_path}/b", "backup", str(tmp_path / "x.db")
    )
    assert first.returncode == 78, first.stderr
    done = await asyncio.to_thread(
        command, database_url, f"file://{tmp_path}/b", "upgrade", "--json"
    )
    assert json.loads(done.stdout)["after"] == HEAD
    checked = await asyncio.to_thread(command, database_url, f"file://{tmp_path}/b", "check")
    assert (checked.returncode, "no damage" in checked.stdout) == (0, True)


def test_mails_of_these_tests_are_what_they_say():
    """The two large mails are stored as blobs."""
    assert sorted(len(raw) > 256 << 10 for raw in RAWS) == [False, False, False, True, True]
    assert replace(mail(b"x"), size=1).size == 1
