# ruff: noqa: SLF001 - only this module uses private parts of aiosqlite and SQLAlchemy
"""SQLite for SQLAlchemy: open connections, and run a statement in one call to their thread.

aiosqlite runs each call in the thread of its connection. Stock SQLAlchemy makes four calls: open a
cursor, execute, fetch and close. Under load each call waits for the interpreter lock, so this
module does all four in one call. It relies on ``Connection._execute`` of aiosqlite and on the
cursor class of SQLAlchemy; tests/unit/gateway/store/test_engine.py checks both.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, cast
from urllib.parse import quote

import aiosqlite
from sqlalchemy import Connection as SyncConnection
from sqlalchemy import event
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    AsyncAdapt_aiosqlite_dbapi,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.util import EMPTY_DICT
from sqlalchemy.util.concurrency import await_

from gateway.store.sql.database_file import DatabaseFile, Identity

Role = Literal["read", "write", "lease"]
T = TypeVar("T")

BUSY_SECONDS = 10.0
# Pages of 4 KiB. Bulk mail passes through the log, so checkpoints are every 16 MiB rather than
# every 4: fewer, longer writes.
CHECKPOINT_PAGES = 4000
CACHE_KIB = {"read": 8_000, "write": 48_000, "lease": 4_000}
MMAP_BYTES = 256 << 20


def open_file(path: Path, role: Role) -> sqlite3.Connection:
    """Open a connection in autocommit mode, set up for its role.

    The role ``read`` cannot write, ``write`` syncs to disk at commit, and ``lease`` writes without
    syncing. Raises sqlite3.OperationalError where the file cannot be opened.
    """
    # Used in the thread of aiosqlite only, but may be closed from another once the loop is gone.
    connection = sqlite3.connect(
        f"file:{quote(os.fspath(path))}?mode=rw",  # never create: see database_file.py
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        cached_statements=512,
        check_same_thread=False,
    )
    try:
        _settle(connection, role)
    except BaseException:
        connection.close()
        raise
    return connection


def _settle(connection: sqlite3.Connection, role: Role) -> None:
    if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {'NORMAL' if role == 'lease' else 'FULL'}")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB[role]}")
    connection.execute(f"PRAGMA mmap_size = {MMAP_BYTES}")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {64 << 20}")
    if role == "read":
        connection.execute("PRAGMA query_only = ON")


class SqliteCursor(AsyncAdapt_aiosqlite_cursor):
    """A cursor that runs a statement and fetches its rows in one call to the thread."""

    __slots__ = ("_description", "_lastrowid", "_rowcount", "_size")

    def __init__(self, adapt_connection: AsyncAdapt_aiosqlite_connection) -> None:
        self._adapt_connection = adapt_connection
        self._connection = adapt_connection._connection
        self._soft_closed_memoized = EMPTY_DICT
        self._rows = deque()
        self._description: Any = None
        self._rowcount = -1
        self._lastrowid: int | None = None
        self._size = 1

    @property
    def description(self) -> Any:
        """Return the columns of the result; None where the statement has no result."""
        return self._description

    @property
    def rowcount(self) -> int:
        """Return the number of changed rows."""
        return self._rowcount

    @property
    def lastrowid(self) -> Any:
        """Return the key of the last inserted row."""
        return self._lastrowid

    @property
    def arraysize(self) -> int:
        """The number of rows that fetchmany returns."""
        return self._size

    @arraysize.setter
    def arraysize(self, value: int) -> None:
        """Set the number of rows that fetchmany returns."""
        self._size = value

    def execute(self, operation: Any, parameters: Any = None) -> Any:
        """Run a statement and keep its result rows for fetching."""
        return self._visit(
            sqlite3.Cursor.execute, operation, parameters if parameters is not None else ()
        )

    def executemany(self, operation: Any, seq_of_parameters: Any) -> Any:
        """Run a statement once for each set of parameters."""
        return self._visit(sqlite3.Cursor.executemany, operation, seq_of_parameters)

    def _visit(
        self, method: Callable[..., sqlite3.Cursor], operation: Any, parameters: Any
    ) -> None:
        def visit(connection: sqlite3.Connection) -> Any:
            cursor = connection.cursor()
            method(cursor, operation, parameters)
            rows = cursor.fetchall() if cursor.description else ()
            found = cursor.description, rows, cursor.rowcount, cursor.lastrowid
            cursor.close()
            return found

        try:
            found = await_(cast("Threaded", self._connection).visit(visit))
        except Exception as error:  # noqa: BLE001 - SQLAlchemy sorts them
            self._adapt_connection._handle_exception(error)
        self._description, rows, self._rowcount, self._lastrowid = found
        self._rows = deque(rows)

    async def _async_soft_close(self) -> None:
        """Do nothing: the cursor is closed already."""

    def close(self) -> None:
        """Drop result rows that were not fetched; the cursor of sqlite3 is closed already."""
        self._rows.clear()


class SqliteConnection(AsyncAdapt_aiosqlite_connection):
    """A connection; without an open transaction, its commit and rollback do nothing."""

    __slots__ = ()
    _cursor_cls = SqliteCursor  # type: ignore[assignment]  # as every dialect of SQLAlchemy

    def rollback(self) -> None:
        """Roll the transaction back."""
        cast("Threaded", self._connection).begin = None
        if self._connection._connection and self._connection.in_transaction:
            super().rollback()

    def commit(self) -> None:
        """Commit the transaction durably."""
        cast("Threaded", self._connection).begin = None
        if self._connection._connection and self._connection.in_transaction:
            super().commit()


class Threaded(aiosqlite.Connection):
    """A connection that begins a transaction in the same call as its first statement."""

    begin: str | None = None

    def __init__(self, file: DatabaseFile, role: Role) -> None:
        super().__init__(lambda: self._open(role), 64)
        self.file = file
        self._log: Identity | None = None
        self._seconds = BUSY_SECONDS
        self._thread.daemon = True

    def _open(self, role: Role) -> sqlite3.Connection:
        """Open the file; raise DatabaseReplaced if other connections use another file."""
        if role != "read":
            self.file.adopt()
        self.file.check()
        connection = open_file(self.file.path, role)
        try:
            connection.execute("PRAGMA user_version").fetchone()  # a first read opens the log
            self.file.check()
        except BaseException:
            connection.close()
            raise
        self._log = self.file.log_identity()  # it stays as long as this connection has it open
        return connection

    async def commit(self) -> None:
        """Commit; raise DatabaseReplaced if the file was removed or replaced.

        The file is checked before the commit, and again after it, since it may be replaced
        meanwhile.
        """

        def commit(connection: sqlite3.Connection) -> None:
            try:
                self._check()
                connection.commit()
                self._check()
            except BaseException:
                connection.rollback()
                raise

        await cast("Any", self)._execute(commit, self._conn)

    def _check(self) -> None:
        self.file.check()
        self.file.check_log(self._log)

    def _begin(self, connection: sqlite3.Connection, begin: str) -> None:
        """Begin a transaction; wait for other writers at most ``file.seconds``."""
        if self.file.seconds != self._seconds:
            connection.execute(f"PRAGMA busy_timeout = {int(self.file.seconds * 1000)}")
            self._seconds = self.file.seconds
        connection.execute(begin)

    async def visit(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function in the thread of the connection; first run BEGIN if none was run yet."""
        begin, self.begin = self.begin, None

        def begun(connection: sqlite3.Connection) -> T:
            if begin is not None:
                self._begin(connection, begin)
            return function(connection)

        result: T = await cast("Any", self)._execute(begun, self._conn)
        return result


class SqliteDriver(AsyncAdapt_aiosqlite_dbapi):
    """A driver module for SQLAlchemy that opens one file in one role."""

    def __init__(self, file: DatabaseFile, role: Role) -> None:
        super().__init__(aiosqlite, sqlite3)
        self.file = file
        self.role: Role = role

    def connect(self, *_arg: Any, **_kw: Any) -> SqliteConnection:
        """Open a connection; its thread does not keep the program from ending."""
        connection = Threaded(self.file, self.role)
        return SqliteConnection(self, cast("Any", await_(_opened(connection))))


async def _opened(connection: aiosqlite.Connection) -> aiosqlite.Connection:
    try:
        return await connection
    except BaseException:
        # Its thread still reports its end to the loop, which must be running then.
        await asyncio.shield(asyncio.to_thread(connection._thread.join))
        raise


def engine(file: DatabaseFile, role: Role, size: int) -> AsyncEngine:
    """Return an engine of at most ``size`` connections to the file.

    Except in the role ``read``, its transactions take the write lock at once.
    """
    made = create_async_engine(
        "sqlite+aiosqlite:///",
        module=SqliteDriver(file, role),
        poolclass=AsyncAdaptedQueuePool,
        pool_size=size,
        max_overflow=0,
        pool_timeout=60,
        pool_reset_on_return=None,
    )
    if role != "read":
        event.listen(made.sync_engine, "begin", _begin)
    return made


def _begin(connection: SyncConnection) -> None:
    cast("Threaded", connection.connection.driver_connection).begin = "BEGIN IMMEDIATE"


async def in_thread(connection: AsyncConnection, function: Callable[[sqlite3.Connection], T]) -> T:
    """Run ``function`` in the thread of the connection, inside the open transaction.

    In this way, many statements cost only one call to the thread. Errors of ``function`` are raised
    unchanged; the block that opened the transaction translates errors of sqlite3.
    """
    raw = await connection.get_raw_connection()
    return await cast("Threaded", raw.driver_connection).visit(function)


def run_all(
    work: Sequence[tuple[str, Sequence[Sequence[Any]]]],
) -> Callable[[sqlite3.Connection], int]:
    """Return a function for :func:`in_thread` that runs statements.

    The function returns how many rows changed.
    """
    return lambda connection: sum(connection.executemany(sql, rows).rowcount for sql, rows in work)
