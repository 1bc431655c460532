"""The database: SQLite in one file, or PostgreSQL, behind the two methods ``read`` and ``write``.

A write is one transaction: durable once the block has ended, without a trace if it failed. Errors
from outside (busy, away, full) are raised as ``Unavailable`` (gateway/store/sql/errors.py). A
setting under which commits are not durable is refused at start (reliability.md 1).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from gateway.errors import Misconfigured, SchemaOutdated, StoreUnavailable, UsageError
from gateway.store.sql import sqlite
from gateway.store.sql.database_file import DatabaseFile, create
from gateway.store.sql.errors import BUSY, READ_ONLY, placed, translated

HEAD = "0007"  # the newest migration; a test checks it
NEWER = "the database is newer than this program: install the newer ticketgate"
DESK_LOCK = 0x7469636B  # advisory lock of ordered writers
UPGRADE_LOCK = DESK_LOCK + 1  # advisory lock of schema upgrades
READERS = 4
POSTGRESQL_CONNECTIONS = 10
PATIENCE_SECONDS = 10.0  # for other writers, from the moment a write is asked for

Dialect = Literal["sqlite", "postgresql"]
T = TypeVar("T")


class NotDurable(Misconfigured):
    """The database would confirm a commit before the data is on disk."""


class Database:
    """An open database, made by :meth:`open`; ``node`` is the name of this process in leases.

    A write raises ``StoreUnavailable`` if other writers block it for ``patience`` seconds.
    """

    __slots__ = (
        "_file",
        "_lease",
        "_lock",
        "_reader",
        "_writer",
        "dialect",
        "node",
        "patience",
        "url",
    )

    def __init__(self, url: str, node: str, patience: float = PATIENCE_SECONDS) -> None:
        self.url = parsed(url)
        self.node = node
        self.patience = patience
        self._lock = asyncio.Lock()  # SQLite has one writer
        self._file: DatabaseFile | None = None
        if (path := file_of(self.url)) is not None:
            self.dialect: Dialect = "sqlite"
            self._file = DatabaseFile(path, patience)
            self._writer = sqlite.engine(self._file, "write", 1)
            self._lease = sqlite.engine(self._file, "lease", 1)
            self._reader = sqlite.engine(self._file, "read", READERS)
        else:
            self.dialect = "postgresql"
            self._writer = self._lease = self._reader = _postgresql(self.url, node, patience)

    @classmethod
    async def open(cls, url: str, *, node: str, check_schema: bool = True) -> Self:
        """Open ``sqlite:///path`` or ``postgresql://user@host/name``; create a missing SQLite file.

        Raises :class:`SchemaOutdated` when the tables do not fit this program, :class:`NotDurable`
        when commits would not be durable, and ``StoreUnavailable`` when the server does not answer.
        Raises ``UnusablePath`` where no file can be created, and ``UsageError`` for any other URL.
        """
        path = file_of(parsed(url))
        if path is not None:
            with placed(path):
                create(path)
                absent = path.stat().st_size == 0
            if absent:
                await migrate(url)
        database = cls(url, node)
        try:
            await database._refuse_weakness()
            if check_schema:
                await database._refuse_other_schema()
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """Close every connection; all blocks of :meth:`write` must have ended."""
        for engine in {self._reader, self._lease, self._writer}:
            await engine.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection for reading. Each statement sees what was committed when it began."""
        with translated():
            async with self._reader.connect() as connection:
                yield connection

    @asynccontextmanager
    async def write(
        self, *, ordered: bool = False, durable: bool = True
    ) -> AsyncIterator[AsyncConnection]:
        """Yield a connection in a transaction that commits when the block ends without an error.

        A cancellation waits for a running commit. With ``ordered``, other processes cannot begin an
        ordered transaction until this one ends, so that they cannot change what the block has read.
        (SQLite allows one writer at a time anyway.) ``durable=False`` may lose the commit in a
        power cut, but never damages the database; it is for leases only.
        """
        engine = self._writer if durable else self._lease
        async with self._in_turn():
            with translated():
                async with engine.connect() as connection:
                    await connection.begin()
                    try:
                        if ordered and self.dialect == "postgresql":
                            await connection.exec_driver_sql(
                                f"SELECT pg_advisory_xact_lock({DESK_LOCK})"
                            )
                        yield connection
                    except BaseException:
                        await connection.rollback()
                        raise
                    await uninterrupted(connection.commit())

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        """Wait for the other writers of this process, at most ``patience`` seconds.

        The writer may wait for other processes only as long as is left of these seconds. So it
        never waits longer than ``patience`` in all, even if many writers are ahead of it.
        """
        if self._file is None:
            yield
            return
        loop = asyncio.get_running_loop()
        end = loop.time() + self.patience
        try:
            async with asyncio.timeout_at(end):
                await self._lock.acquire()
        except TimeoutError:
            raise StoreUnavailable(BUSY) from None
        try:
            self._file.seconds = max(round(end - loop.time(), 1), 0.0)
            yield
        finally:
            self._lock.release()

    async def probe(self) -> None:
        """Raise ``Unavailable`` with the reason why nothing can be written now; write nothing."""
        async with self.write(durable=False) as connection:
            if self.dialect == "sqlite":
                await connection.exec_driver_sql("SELECT 1")  # begins, and the end is a commit
            elif (await connection.exec_driver_sql("SHOW transaction_read_only")).scalar() == "on":
                raise StoreUnavailable(READ_ONLY)

    async def _refuse_weakness(self) -> None:
        async with self.write() as connection:
            if self.dialect == "sqlite":
                level = (await connection.exec_driver_sql("PRAGMA synchronous")).scalar_one()
                mode = (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar_one()
                if level < 2 or mode != "wal":
                    raise NotDurable(
                        "the database file does not allow durable commits (synchronous "
                        f"{level}, journal {mode})"
                    )
                return
            if (await connection.exec_driver_sql("SHOW synchronous_commit")).scalar_one() == "off":
                raise NotDurable(
                    "PostgreSQL has synchronous_commit = off for this user or database: turn it on"
                )

    async def _refuse_other_schema(self) -> None:
        found = await schema_version(self)
        if found != HEAD:
            raise SchemaOutdated(
                "the database has no ticketgate tables: run ticketgate db upgrade"
                if found is None
                else "the database is older than this program: run ticketgate db upgrade"
                if found < HEAD
                else NEWER
            )


def parsed(url: str) -> URL:
    """Return the URL with the driver we use; raise UsageError for other databases."""
    try:
        found = make_url(url)
    except ArgumentError:
        raise UsageError(
            "the database URL must be like sqlite:///path or postgresql://user@host/name"
        ) from None
    match found.get_backend_name():
        case "sqlite" if found.database and found.database != ":memory:":
            return found.set(drivername="sqlite+aiosqlite")
        case "postgresql" | "postgres":
            query = {
                ("ssl" if key == "sslmode" else key): value for key, value in found.query.items()
            }
            return found.set(drivername="postgresql+asyncpg", query=query)
        case _:
            raise UsageError(
                "the database URL must be like sqlite:///path or postgresql://user@host/name"
            )


def file_of(url: URL) -> Path | None:
    """Return the file of an SQLite URL, or None for PostgreSQL."""
    return Path(url.database or "") if url.get_backend_name() == "sqlite" else None


def _postgresql(url: URL, node: str, patience: float) -> AsyncEngine:
    settings = {
        "lock_timeout": str(int(patience * 1000)),
        "application_name": f"ticketgate {node}"[:63],
        "jit": "off",
        "idle_in_transaction_session_timeout": "60000",
    }
    return create_async_engine(
        url,
        pool_size=POSTGRESQL_CONNECTIONS,
        max_overflow=POSTGRESQL_CONNECTIONS,
        pool_timeout=patience,
        pool_use_lifo=True,
        connect_args={"server_settings": settings, "timeout": 10},
    )


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Wait until ``work`` ends, even if cancelled meanwhile; then raise the cancellation."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            await asyncio.wait({task})
        task.exception()
        raise


async def schema_version(database: Database) -> str | None:
    """Return the newest migration applied to the database; None if it has no tables of ours."""
    async with database.read() as connection:
        return await _version_on(connection)


async def _version_on(connection: AsyncConnection) -> str | None:
    """Return the newest migration applied to the database of this connection."""
    present = {
        "sqlite": "SELECT count(*) FROM sqlite_master WHERE name = 'alembic_version'",
        "postgresql": (
            "SELECT count(*) FROM pg_tables WHERE tablename = 'alembic_version' AND "
            "schemaname = ANY (current_schemas(false))"
        ),
    }
    if not (await connection.exec_driver_sql(present[connection.dialect.name])).scalar_one():
        return None
    version: str | None = (
        await connection.exec_driver_sql("SELECT version_num FROM alembic_version")
    ).scalar()
    return version


async def migrate(url: str, *, seed: bool = True) -> None:
    """Upgrade the tables and insert the first data, in one transaction.

    Several processes may do this at once. ``seed=False`` inserts no data; it is for ``db copy``,
    which fills the tables itself. Raises what :meth:`Database.write` raises.
    """
    from gateway.store.migrations import runner
    from gateway.store.setup import seed as first_data

    database = Database(url, "upgrade")
    try:
        async with database.write() as connection:
            # Lock first (on SQLite the first statement does): Alembic must not run twice at once.
            if database.dialect == "sqlite":
                await connection.exec_driver_sql("SELECT 1")
            else:
                await connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
                await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({UPGRADE_LOCK})")
            if (found := await _version_on(connection)) is not None and found > HEAD:
                raise SchemaOutdated(NEWER)
            await connection.run_sync(runner.upgrade)
            if seed:
                await first_data.sow(connection)
    finally:
        await database.close()


def upgrade(url: str) -> None:
    """Run :func:`migrate` in a thread of its own and wait for it, even inside an event loop."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(migrate(url))
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            failed.append(error)

    thread = threading.Thread(target=run, name="upgrade")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
