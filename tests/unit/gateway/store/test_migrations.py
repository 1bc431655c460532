"""Tests of migrations: they end at the schema, survive a kill, insert initial data once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from datetime import timedelta

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from gateway.errors import SchemaOutdated
from gateway.store import engine
from gateway.store.engine import HEAD, Database, migrate, schema_version, upgrade
from gateway.store.migrations import runner
from gateway.store.schema import tables
from gateway.store.setup import pipelines, seed, workflows
from tests.unit.gateway.store.mails import NOW


def differences(connection: sa.Connection) -> list[object]:
    def ours(_object, name, kind, _reflected, _other):
        return not (name or "").startswith(("message_search", "sqlite_", "alembic_version"))

    context = MigrationContext.configure(
        connection,
        opts={"compare_type": True, "compare_server_default": True, "include_object": ours},
    )
    return list(compare_metadata(context, tables.metadata))


async def test_the_migrated_tables_are_those_of_the_schema(store):
    """Migrations and schema describe the same tables, on both databases."""
    async with store.write() as connection:
        assert await connection.run_sync(differences) == []


async def test_the_migrated_tables_have_the_same_sql(store, tmp_path):
    """The SQL of each SQLite table is the same, with checks and tables without row ids."""
    if store.dialect != "sqlite":
        return
    fresh = engine.Database(f"sqlite:///{tmp_path / 'fresh.db'}", "n")
    query = (
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE "
        "'message_search%' AND name NOT LIKE 'alembic%'"
    )
    try:
        async with fresh.write() as connection:
            await connection.run_sync(tables.metadata.create_all)
            made = {
                (row.name, " ".join(sorted(row.sql.replace(",", " ").split())))
                for row in await connection.exec_driver_sql(query)
            }
    finally:
        await fresh.close()
    async with store.read() as connection:
        migrated = {
            (row.name, " ".join(sorted(row.sql.replace(",", " ").split())))
            for row in await connection.exec_driver_sql(query)
        }
    assert migrated == made


def test_the_program_knows_its_newest_migration():
    """HEAD is the last migration in the folder."""
    assert ScriptDirectory.from_config(runner.config()).get_current_head() == HEAD


async def test_an_empty_database_is_migrated_and_sown(database_url):
    """An upgrade inserts pipeline Support, the default channel, counters and a signing key."""
    await migrate(database_url)
    database = await Database.open(database_url, node="n")
    try:
        async with database.read() as connection:
            [support] = (await pipelines.load_pipelines(connection)).values()
            [channel] = await pipelines.load_channels(connection)
            keys = (
                (await connection.execute(sa.select(tables.signing_key.c.secret))).scalars().all()
            )
            counters = (
                await connection.execute(sa.select(tables.counter.c.name, tables.counter.c.value))
            ).all()
    finally:
        await database.close()
    assert [(status.name, status.state) for status in support.statuses] == list(seed.STATUSES)
    assert (
        support.name,
        support.is_default,
        support.set_close_date,
        support.strangers,
        support.allow_back,
    ) == ("Support", True, True, "move", True)
    assert support.status(support.on_email_sent or 0).name == "Waiting on contact"
    assert support.status(support.on_customer_reply or 0).name == "Waiting on us"
    assert (channel.address, channel.is_default, channel.tickets, channel.pipeline_id) == (
        "support@localhost",
        True,
        True,
        support.id,
    )
    assert [len(key) for key in keys] == [32]
    assert dict(counters) == dict.fromkeys(seed.COUNTERS, 0)


OLD_PIPELINE = (
    "INSERT INTO pipeline (id, name, position, is_default, set_close_date, strangers, "
    "allow_back) VALUES (1, 'Help', 1, true, true, 'move', true)"
)


async def test_an_older_database_keeps_what_it_holds(database_url):
    """A database of the first release asks for the upgrade and then keeps its data."""
    old = engine.Database(database_url, "n")
    row = {
        "received_at": NOW,
        "source": "smtp",
        "envelope": {},
        "size": 1,
        "sha256": "0" * 64,
        "state": "done",
    }
    try:
        async with old.write() as connection:
            await connection.run_sync(lambda sync: command.upgrade(runner.config(sync), "0001"))
            await connection.execute(sa.text("INSERT INTO counter VALUES ('ticket', 7)"))
            await connection.execute(sa.text(OLD_PIPELINE))
            await connection.execute(
                sa.text(
                    "INSERT INTO status VALUES (1, 1, 'Fresh', 'open', 1), (2, 1, 'Over', "
                    "'closed', 2)"
                )
            )
            await connection.execute(sa.insert(tables.mail).values(row))
        with pytest.raises(SchemaOutdated):
            await Database.open(database_url, node="n")
        await migrate(database_url)
        async with old.write() as connection:
            assert await connection.run_sync(differences) == []
            assert (
                await connection.execute(sa.select(tables.mail.c.received_at, tables.mail.c.state))
            ).all() == [(NOW, "done")]
            assert (
                await connection.execute(sa.select(sa.func.count()).select_from(tables.mailbox))
            ).scalar_one() == 0
            [kept] = (await pipelines.load_pipelines(connection)).values()
            assert (kept.name, kept.relay, [status.name for status in kept.statuses]) == (
                "Help",
                False,
                ["Fresh", "Over"],
            )
            counted = dict(
                (
                    await connection.execute(
                        sa.select(tables.counter.c.name, tables.counter.c.value)
                    )
                ).all()
            )
            assert counted == dict.fromkeys(seed.COUNTERS, 0) | {"ticket": 7}
            ready = (await workflows.load(connection, {kept.id: kept})).values()
            assert [(each.name, each.enabled) for each in ready] == [
                ("Help / Fresh", False),
                ("Help / Over", False),
            ]
    finally:
        await old.close()


async def test_a_database_with_an_action_log_gets_its_index(database_url):
    """A database of migration 0003 gets all tables and indexes; its runs stay."""
    old = engine.Database(database_url, "n")
    run = {"id": 1, "workflow_id": 1, "ticket": 1, "version": 1, "outcome": "OK", "at": NOW}
    try:
        async with old.write() as connection:
            await connection.run_sync(lambda sync: command.upgrade(runner.config(sync), "0003"))
            await connection.execute(
                sa.text(
                    OLD_PIPELINE.replace("allow_back", "allow_back, relay").replace(
                        "'move', true", "'move', true, false"
                    )
                )
            )
            await connection.execute(
                sa.text(
                    "INSERT INTO status VALUES (1, 1, 'Fresh', 'open', 1), (2, 1, 'Over', "
                    "'closed', 2)"
                )
            )
            await connection.execute(
                sa.insert(tables.workflow).values(
                    id=1, pipeline_id=1, status_id=1, exclude_sources=[]
                )
            )
            made = {
                "number": 1,
                "subject": "A",
                "pipeline_id": 1,
                "status_id": 1,
                "source": "manual",
                "subject_key": "a",
                "created_at": NOW,
            }
            counts = {
                "reopened_count": 0,
                "times_contacted": 0,
                "flags": [],
                "tags": [],
                "worked": False,
                "titled": False,
            }
            await connection.execute(sa.insert(tables.ticket).values(made | counts))
            await connection.execute(sa.insert(tables.action_run).values(run))
        with pytest.raises(SchemaOutdated):
            await Database.open(database_url, node="n")
        await migrate(database_url)
        async with old.write() as connection:
            assert await connection.run_sync(differences) == []
            assert (
                await connection.execute(sa.select(tables.action_run.c.id, tables.action_run.c.at))
            ).all() == [(1, NOW)]
    finally:
        await old.close()


async def fill_0004(connection):
    """Insert rows of migration 0004 whose columns have two meanings."""
    outgoing = {"id": 1, "automatic": False, "subject": "A", "created_at": NOW}
    await connection.execute(sa.insert(tables.outgoing).values(outgoing))
    later = NOW + timedelta(days=1)
    for number, state, ended in (
        (1, "deferred", later),  # queued again
        (2, "queued", None),
        (3, "sent", later),
    ):
        row = {"id": number, "outgoing_id": 1, "state": state, "created_at": NOW}
        to = {"recipient": "a@example.net", "domain": "example.net", "ended_at": ended}
        await connection.execute(sa.insert(tables.delivery).values(row | to))
    for number, size, sha256, blob in (
        (1, 9, "", None),  # its raw mail was erased
        (2, 0, "", "ab/abc"),  # its blob is still to be deleted, and then the row
        (3, 9, "", "cd/cde"),  # its blob is still to be deleted
        (4, 0, "0" * 64, None),  # an empty mail
    ):
        row = {"received_at": NOW, "source": "smtp", "envelope": {}, "state": "done"}
        more = {"id": number, "size": size, "sha256": sha256, "blob": blob}
        await connection.execute(sa.insert(tables.mail).values(row | more))
    box = {"id": 1, "name": "desk", "place": "a@host/INBOX", "uidvalidity": 9, "state": "ok"}
    await connection.execute(sa.insert(tables.mailbox).values(box))
    for uidvalidity, uid, mail_id, digest in (
        (7 - (1 << 33), 1, 11, b"a" * 16),  # UIDs of the first UIDVALIDITY
        ((1 << 32) - 1 - (1 << 34), 1, 12, b"a" * 16),  # the second, with the highest UID possible
        (1 - 3 * (1 << 33), 2, 13, b"b" * 16),  # the third
        (9, 1, 14, b"c" * 16),
        (9, 2, None, None),  # could not be fetched
    ):
        row = {"mailbox_id": 1, "uidvalidity": uidvalidity, "uid": uid, "mail_id": mail_id}
        more = {"digest": digest, "settled": mail_id is not None, "tries": 0}
        await connection.execute(sa.insert(tables.mailbox_mail).values(row | more))


async def test_columns_with_two_meanings_are_converted(database_url):
    """A database of migration 0004 keeps the meaning of its rows, in a column or table for each."""
    old = engine.Database(database_url, "n")
    later = NOW + timedelta(days=1)
    delivery, mail, taken = tables.delivery.c, tables.mail.c, tables.mailbox_mail.c
    superseded = tables.superseded_mail.c
    try:
        async with old.write() as connection:
            await connection.run_sync(lambda sync: command.upgrade(runner.config(sync), "0004"))
            await fill_0004(connection)
        with pytest.raises(SchemaOutdated):
            await Database.open(database_url, node="n")
        await migrate(database_url, seed=False)
        async with old.write() as connection:

            async def rows(*columns):
                return list(await connection.execute(sa.select(*columns).order_by(*columns[:2])))

            assert await connection.run_sync(differences) == []
            assert await rows(delivery.id, delivery.ended_at, delivery.queued_at) == [
                (1, None, later),
                (2, None, None),
                (3, later, None),
            ]
            assert await rows(mail.id, mail.erased) == [
                (1, "raw"),
                (2, "row"),
                (3, "raw"),
                (4, None),
            ]
            assert await rows(taken.uidvalidity, taken.uid, taken.mail_id) == [
                (9, 1, 14),
                (9, 2, None),
            ]
            assert await rows(
                superseded.generation, superseded.uid, superseded.mail_id, superseded.digest
            ) == [(1, 1, 11, b"a" * 16), (2, 1, 12, b"a" * 16), (3, 2, 13, b"b" * 16)]
    finally:
        await old.close()


PIPELINE_0005 = OLD_PIPELINE.replace("allow_back", "allow_back, relay").replace(
    "true)", "true, false)"
)
STATUS_0005 = "INSERT INTO status VALUES (1, 1, 'Fresh', 'open', 1)"
TICKET_0005 = (
    "INSERT INTO ticket (number, subject, pipeline_id, status_id, source, created_at, "
    "reopened_count, flags, tags, subject_key, worked, titled, times_contacted) VALUES "
    "(1, 'A', 1, 1, 'manual', 0, 0, '[]', '[]', 'a', false, false, 0)"
)
THREADS_0005 = (
    "INSERT INTO thread (id, kind, ticket, origin, created_at, redirect_to) VALUES "
    "(1, 'normal', 1, true, 0, NULL), (2, 'normal', 1, true, 0, NULL), "
    "(3, 'normal', NULL, true, 0, 1), (4, 'normal', NULL, false, 0, NULL), "
    "(5, 'normal', 1, true, 0, NULL)"
)
MERGES_0005 = """
INSERT INTO merge (id, kind, ticket, "into", at, moved, undone_at) VALUES
(1, 'merge', 2, 5, 0, '{"threads": [2]}', NULL),
(2, 'join', 3, 1, 0, '{"thread": 3, "into": 1}', NULL),
(3, 'join', NULL, 1, 0, '{"thread": 9, "into": 1}', NULL),
(4, 'merge', 5, 1, 0, '{"threads": [2, 5]}', NULL),
(5, 'merge', 7, 8, 0, '{"threads": [1]}', 1)
"""


async def test_threads_of_merged_tickets_learn_their_first_ticket(database_url):
    """E36: an upgrade from 0005 takes it from the record of merges, else from the ticket."""
    old = engine.Database(database_url, "n")
    thread = tables.thread.c
    try:
        async with old.write() as connection:
            await connection.run_sync(lambda sync: command.upgrade(runner.config(sync), "0005"))
            for statement in (PIPELINE_0005, STATUS_0005, TICKET_0005, THREADS_0005, MERGES_0005):
                await connection.exec_driver_sql(statement)
            await connection.run_sync(lambda sync: command.upgrade(runner.config(sync), HEAD))
            found = await connection.execute(
                sa.select(thread.id, thread.first_ticket).order_by(thread.id)
            )
            assert found.all() == [(1, 7), (2, 2), (3, 3), (4, None), (5, 5)]
            await connection.rollback()
    finally:
        await old.close()


async def test_a_second_upgrade_restores_nothing(ready_url):
    """Changes that people made since the first upgrade stay."""
    database = await Database.open(ready_url, node="n")
    async with database.write() as connection:
        [support] = (await pipelines.load_pipelines(connection)).values()
        await pipelines.change(connection, support, name="Help", on_email_sent=None)
    await migrate(ready_url)
    async with database.read() as connection:
        [found] = (await pipelines.load_pipelines(connection)).values()
        assert (found.name, found.on_email_sent) == ("Help", None)
        assert (
            await connection.execute(sa.select(sa.func.count()).select_from(tables.signing_key))
        ).scalar_one() == 1
    await database.close()


async def test_several_daemons_may_start_on_an_empty_database_at_once(database_url):
    """Four concurrent upgrades insert the first data once, without an error."""
    await asyncio.gather(*(asyncio.to_thread(upgrade, database_url) for _ in range(4)))
    database = await Database.open(database_url, node="n")
    async with database.read() as connection:
        for table in (tables.pipeline, tables.channel, tables.signing_key):
            assert (
                await connection.execute(sa.select(sa.func.count()).select_from(table))
            ).scalar_one() == 1
    await database.close()


KILLED = """
import asyncio, os, signal, sys
import sqlalchemy as sa
from gateway.store import engine
from gateway.store.setup import seed
from gateway.store.migrations import runner
from tests.unit.gateway.store.mails import NOW
seen = 0
def count(conn, cursor, statement, parameters, context, executemany):
    global seen
    seen += 1
    if seen == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
sa.event.listen(sa.Engine, "before_cursor_execute", count)
engine.upgrade(sys.argv[1])
print(seen)
"""


@pytest.mark.parametrize("at", [3, 20, 45, 10_000])
async def test_an_upgrade_killed_anywhere_leaves_all_or_nothing(database_url, at):
    """A killed upgrade leaves an empty database, which the next upgrade completes."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        KILLED,
        database_url,
        str(at),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    await process.communicate()
    assert process.returncode == (0 if at == 10_000 else -signal.SIGKILL)
    database = engine.Database(database_url, "n")
    try:
        assert await schema_version(database) == (HEAD if at == 10_000 else None)
        await migrate(database_url)
        assert await schema_version(database) == HEAD
        async with database.write() as connection:
            assert await connection.run_sync(differences) == []
    finally:
        await database.close()


def test_a_newer_database_is_not_upgraded(database_url):
    """A schema that this program does not know is told in one sentence, and nothing changes."""
    engine.upgrade(database_url)

    async def renumber() -> None:
        database = engine.Database(database_url, "test")
        async with database.write() as connection:
            await connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'zzzz'")
        await database.close()

    asyncio.run(renumber())
    with pytest.raises(SchemaOutdated, match="newer than this program"):
        engine.upgrade(database_url)
