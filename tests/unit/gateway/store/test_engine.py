"""Tests of the database's read and write, and their errors, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway.errors import SchemaOutdated, StoreUnavailable, UsageError
from gateway.store import engine
from gateway.store.engine import Database, NotDurable, upgrade
from gateway.store.schema import tables
from gateway.store.sql import bulk, sqlite


async def value(database: Database, name: str = "ticket") -> int:
    async with database.read() as connection:
        return (
            await connection.execute(
                sa.select(tables.counter.c.value).where(tables.counter.c.name == name)
            )
        ).scalar_one()


async def test_write_commits_when_the_block_ends_well(store):
    """A transaction is committed when its block ends."""
    async with store.write() as connection:
        assert await bulk.allot(connection, "ticket", 3) == 1
    assert await value(store) == 3


async def test_write_leaves_no_trace_of_a_block_that_raises(store):
    """A transaction whose block raises changes nothing, and the next one works."""
    with pytest.raises(RuntimeError):  # noqa: PT012 - the block is what is tested
        async with store.write() as connection:
            await bulk.allot(connection, "ticket", 3)
            raise RuntimeError
    assert await value(store) == 0
    async with store.write() as connection:
        assert await bulk.allot(connection, "ticket", 2) == 1
        assert await bulk.allot(connection, "ticket", 1) == 3


async def test_allot_knows_its_counters(store):
    """An unknown counter raises KeyError."""
    with pytest.raises(KeyError):
        async with store.write() as connection:
            await bulk.allot(connection, "tikcet", 1)


async def test_writers_of_one_process_queue_in_order(store):
    """Twenty concurrent writers get twenty numbers, and none fails as busy."""

    async def one() -> int:
        async with store.write(ordered=True) as connection:
            first = await bulk.allot(connection, "ticket", 1)
            await asyncio.sleep(0)
            return first

    assert sorted(await asyncio.gather(*(one() for _ in range(20)))) == list(range(1, 21))


async def test_ordered_writers_of_two_processes_exclude_each_other(store, ready_url):
    """Rows that an ordered writer has read do not change until it commits."""
    other = await Database.open(ready_url, node="other")
    try:

        async def add(database: Database) -> None:
            async with database.write(ordered=True) as connection:
                query = sa.select(tables.counter.c.value).where(tables.counter.c.name == "thread")
                seen = (await connection.execute(query)).scalar_one()
                await asyncio.sleep(0)
                await connection.execute(
                    sa.update(tables.counter)
                    .where(tables.counter.c.name == "thread")
                    .values(value=seen + 1)
                )

        await asyncio.gather(*(add(database) for _ in range(10) for database in (store, other)))
        assert await value(store, "thread") == 20
    finally:
        await other.close()


async def test_a_cancelled_writer_rolls_back_and_frees_the_way(store):
    """A cancelled writer leaves nothing behind and does not block the next one."""
    inside = asyncio.Event()

    async def hang() -> None:
        async with store.write() as connection:
            await bulk.allot(connection, "ticket", 5)
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hang())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(20), store.write() as connection:
        assert await bulk.allot(connection, "ticket", 1) == 1


async def test_a_cancellation_at_any_await_leaves_all_or_nothing(store):
    """Wherever a writer is cancelled, its transaction is committed whole or not at all."""
    for steps in range(60):

        async def work() -> None:
            async with store.write() as connection:
                await bulk.allot(connection, "ticket", 1)
                await bulk.allot(connection, "thread", 1)

        task = asyncio.create_task(work())
        for _ in range(steps):
            if task.done():
                break
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await value(store, "ticket") == await value(store, "thread")
    async with asyncio.timeout(20), store.write() as connection:
        await bulk.allot(connection, "ticket", 1)


async def test_uninterrupted_work_outlives_the_cancellation():
    """The work is finished before the cancellation is raised."""
    begun, go, done = asyncio.Event(), asyncio.Event(), []

    async def commit() -> None:
        begun.set()
        await go.wait()
        done.append(True)

    task = asyncio.create_task(engine.uninterrupted(commit()))
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done


async def test_write_rows_writes_what_sqlalchemy_would(store):
    """Bulk rows use the same column types and defaults as others, in the given order."""
    now = datetime(2026, 11, 22, 10, tzinfo=UTC)
    rows = [
        {
            "id": n,
            "address": f"a{n}@example.org",
            "name": "Ann\0e\u0301 \ud800" * n,
            "created_at": now,
        }
        for n in (3, 1, 2)
    ]
    rename = (
        sa.update(tables.contact)
        .where(tables.contact.c.id == sa.bindparam("key"))
        .values(name=sa.bindparam("new"))
    )
    async with store.write() as connection:
        await bulk.write_rows(
            connection,
            [
                (tables.contact, rows),
                (rename, [{"key": 2, "new": "Bo"}, {"key": 3, "new": "C\0"}]),
                (tables.event, []),
            ],
        )
    async with store.read() as connection:
        found = (
            (await connection.execute(sa.select(tables.contact).order_by(tables.contact.c.id)))
            .mappings()
            .all()
        )
    assert [row["name"] for row in found] == ["Ann\ufffd\u00e9 \ufffd", "Bo", "C\ufffd"]
    assert {row["created_at"] for row in found} == {now}
    assert {row["blocked"] for row in found} == {False}


@pytest.mark.parametrize("url", ["mysql://a/b", "sqlite://", "sqlite:///:memory:", "nonsense", ""])
async def test_an_address_of_another_kind_is_refused(url):
    """Only SQLite files and PostgreSQL are accepted."""
    with pytest.raises(UsageError):
        await Database.open(url, node="n")


async def test_an_absent_file_becomes_a_database_that_others_cannot_read(tmp_path: Path):
    """An absent SQLite file is created with its folders, private to its owner."""
    path = tmp_path / "a" / "b" / "desk.db"
    database = await Database.open(f"sqlite:///{path}", node="n")
    await database.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_relative_address_counts_from_the_working_directory(tmp_path: Path, monkeypatch):
    """``sqlite:///name`` is a file in the working directory."""
    monkeypatch.chdir(tmp_path)
    await (await Database.open("sqlite:///var/x.db", node="n")).close()
    assert (tmp_path / "var" / "x.db").is_file()


async def test_a_postgresql_database_without_tables_asks_for_the_upgrade(postgres):
    """An empty PostgreSQL database is not written to without `db upgrade`."""
    with pytest.raises(SchemaOutdated):
        await Database.open(postgres.url(postgres.create()), node="n")


@pytest.mark.parametrize("found", ["0000", "9999"])
async def test_other_tables_than_ours_are_refused(ready_url, found):
    """An older database asks for the upgrade, a newer one for a newer program."""
    database = await Database.open(ready_url, node="n")
    async with database.write() as connection:
        await connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{found}'")
    await database.close()
    with pytest.raises(SchemaOutdated):
        await Database.open(ready_url, node="n")


async def test_postgresql_that_does_not_wait_for_the_disk_is_refused(postgres):
    """synchronous_commit = off prevents the start (reliability.md 1)."""
    name = postgres.create()
    upgrade(postgres.url(name))
    postgres.sql(f"ALTER DATABASE {name} SET synchronous_commit = off")
    with pytest.raises(NotDurable):
        await Database.open(postgres.url(name), node="n")


async def test_sqlite_waits_for_the_disk(tmp_path: Path):
    """Writers use a write-ahead log with synchronous FULL; readers cannot write."""
    database = await Database.open(f"sqlite:///{tmp_path / 'x.db'}", node="n")
    try:
        async with database.write() as connection:
            assert (await connection.exec_driver_sql("PRAGMA synchronous")).scalar_one() == 2
            assert (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar_one() == "wal"
            assert (await connection.exec_driver_sql("PRAGMA foreign_keys")).scalar_one() == 1
        with pytest.raises(StoreUnavailable):
            async with database.read() as connection:
                await connection.exec_driver_sql("DELETE FROM counter")
    finally:
        await database.close()


async def test_an_absent_server_is_try_again(free_port):
    """An absent database server raises StoreUnavailable (exit 75)."""
    with pytest.raises(StoreUnavailable):
        await Database.open(f"postgresql://x@127.0.0.1:{free_port}/y", node="n")


async def test_a_server_that_hangs_up_is_try_again_and_recovers(store, postgres, database_kind):
    """A lost connection fails the current statement only, with StoreUnavailable."""
    if database_kind == "sqlite":
        return
    with pytest.raises(StoreUnavailable):  # noqa: PT012 - the block is what is tested
        async with store.write() as connection:
            await bulk.allot(connection, "ticket", 1)
            postgres.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name "
                "LIKE 'ticketgate test%'"
            )
            await bulk.allot(connection, "ticket", 1)
    async with store.write() as connection:
        assert await bulk.allot(connection, "ticket", 1) == 1


async def test_a_file_that_is_no_database_is_try_again(tmp_path: Path):
    """A damaged file raises our message, without the text of the driver."""
    (tmp_path / "x.db").write_bytes(
        b"this is no database, but it is long enough to look like one at first sight" * 30
    )
    with pytest.raises(StoreUnavailable):
        await Database.open(f"sqlite:///{tmp_path / 'x.db'}", node="n")


async def test_another_process_that_keeps_sqlite_busy_is_try_again(tmp_path: Path):
    """A long writer elsewhere raises StoreUnavailable after the timeout."""
    database = await Database.open(f"sqlite:///{tmp_path / 'x.db'}", node="n")
    database.patience = 0.05
    blocker = sqlite.open_file(tmp_path / "x.db", "write")
    try:
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable):
            async with database.write() as connection:
                await bulk.allot(connection, "ticket", 1)
        blocker.execute("ROLLBACK")
        async with database.write() as connection:
            assert await bulk.allot(connection, "ticket", 1) == 1
    finally:
        blocker.close()
        await database.close()


async def test_a_locked_file_costs_waiting_writers_their_patience_once(tmp_path: Path):
    """reliability.md section 3: ten writers in a row on a locked file all give up together."""
    assert engine.PATIENCE_SECONDS == 10.0
    database = await Database.open(f"sqlite:///{tmp_path / 'x.db'}", node="n")
    database.patience = 1.0
    blocker = sqlite.open_file(tmp_path / "x.db", "write")
    blocker.execute("BEGIN IMMEDIATE")
    began = asyncio.get_running_loop().time()

    async def ended() -> float:
        with pytest.raises(StoreUnavailable, match="busy"):
            async with database.write() as connection:
                await bulk.allot(connection, "ticket", 1)
        return asyncio.get_running_loop().time() - began

    try:
        assert max(await asyncio.gather(*(ended() for _ in range(10)))) < 5.0  # not ten
        with pytest.raises(StoreUnavailable, match="busy"):
            await database.probe()
        blocker.execute("ROLLBACK")
        await database.probe()
        async with database.write() as connection:
            assert await bulk.allot(connection, "ticket", 1) == 1
    finally:
        blocker.close()
        await database.close()


async def test_what_a_writer_waited_here_is_not_waited_again(tmp_path: Path, monkeypatch):
    """Time spent waiting for writers of this process is taken from the wait for others."""
    database = await Database.open(f"sqlite:///{tmp_path / 'x.db'}", node="n")
    loop, waited = asyncio.get_running_loop(), [0.0]
    real = loop.time
    monkeypatch.setattr(loop, "time", lambda: real() + waited[0])

    class Late(asyncio.Lock):
        async def acquire(self):
            waited[0] += 7.0
            return await super().acquire()

    database._lock = Late()
    try:
        async with database.write() as connection:
            timeout = (await connection.exec_driver_sql("PRAGMA busy_timeout")).scalar_one()
        assert 2000 <= timeout <= 3000
    finally:
        await database.close()


async def test_a_locked_table_of_postgresql_is_try_again(store, ready_url, database_kind):
    """Somebody who locks a table of PostgreSQL makes a writer give up too, and it recovers."""
    if database_kind == "sqlite":
        return
    writer = Database(ready_url, "n", patience=0.2)
    try:
        async with store.write() as connection:
            await connection.exec_driver_sql("LOCK TABLE counter")
            with pytest.raises(StoreUnavailable, match="busy"):
                async with writer.write() as waiting:
                    await bulk.allot(waiting, "ticket", 1)
        async with writer.write() as connection:
            assert await bulk.allot(connection, "ticket", 1) == 1
    finally:
        await writer.close()


@pytest.mark.parametrize("how", ["removed", "moved away", "replaced", "log removed"])
async def test_a_file_replaced_while_open_confirms_no_commit(tmp_path: Path, how):
    """A commit into a file that is gone, or another now, raises; put back, it works again."""
    path = tmp_path / "x.db"
    database = await Database.open(f"sqlite:///{path}", node="n")
    try:
        async with database.write() as connection:
            await bulk.allot(connection, "ticket", 1)
        await database.probe()  # opens the connection of leases
        away = path if how != "log removed" else Path(f"{path}-wal")
        kept = away.with_name("kept")
        os.link(away, kept)
        away.unlink()
        if how == "replaced":
            away.write_bytes(kept.read_bytes())
        for durable in (True, False):
            with pytest.raises(StoreUnavailable, match="removed or replaced while it was open"):
                async with database.write(durable=durable) as connection:
                    await bulk.allot(connection, "ticket", 1)
        with pytest.raises(StoreUnavailable, match="removed or replaced"):
            await database.probe()
        assert away.exists() == (how == "replaced")  # nobody made a new one
        kept.replace(away)
        await database.probe()
        async with database.write() as connection:
            assert await bulk.allot(connection, "ticket", 1) == 2
    finally:
        await database.close()


async def test_a_new_connection_does_not_open_another_file(tmp_path: Path):
    """A connection opened after the file was replaced does not write into the new one."""
    path = tmp_path / "x.db"
    database = await Database.open(f"sqlite:///{path}", node="n")
    try:
        path.replace(tmp_path / "kept")
        await database._lease.dispose()  # the lease had one connection, or none yet
        for make in (lambda: None, lambda: path.write_bytes((tmp_path / "kept").read_bytes())):
            make()
            with pytest.raises(StoreUnavailable, match="removed or replaced"):
                await database.probe()
        assert path.stat().st_size == (tmp_path / "kept").stat().st_size
    finally:
        await database.close()


async def test_asking_for_the_file_costs_a_commit_nothing(tmp_path: Path):
    """A commit asks four times for a file, each a single system call."""
    path = tmp_path / "x.db"
    database = await Database.open(f"sqlite:///{path}", node="n")
    asked: list[str] = []
    real = Path.stat

    def stat_of(self: Path) -> os.stat_result:
        asked.append(str(self))
        return real(self)

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "stat", stat_of)
            async with database.write() as connection:
                await bulk.allot(connection, "ticket", 1)
    finally:
        await database.close()
    assert asked == [str(path), f"{path}-wal"] * 2
