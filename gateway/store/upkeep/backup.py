"""Backups beside a running daemon: an SQLite file and a folder of blobs.

``FILE`` is a complete database, made from a database of either kind; it gets this name only after
it is verified. ``FILE.blobs`` holds the large raw mails. To restore, move both into place, or ``db
copy`` the file into PostgreSQL. When the disk is full, nothing is left behind. A blob missing in
the store is reported, and the rest is backed up.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from gateway.errors import Conflict, InternalError, Invalid
from gateway.store.engine import Database, file_of
from gateway.store.queues.blob_files import FileBlobs
from gateway.store.queues.blobs import Blobs, intact
from gateway.store.schema import tables
from gateway.store.sql.errors import NO_PLACE, translated
from gateway.store.upkeep.copy import CopiedTable, copy

PAGES_PER_STEP = 2048
Progress = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup holds: rows by table, the number of blobs, keys of missing or damaged blobs."""

    rows: dict[str, int]
    blobs: int
    missing: tuple[str, ...]


async def backup(
    database: Database, blobs: Blobs, file: Path, progress: Progress = lambda _what, _steps: None
) -> Backup:
    """Write the backup to ``file`` and ``file`` + ``.blobs``.

    Raises Conflict if ``file`` exists. Blobs that are in the folder already are kept.
    """
    if await asyncio.to_thread(file.exists):
        raise Conflict(f"{file} already exists")
    aside = file.with_name(file.name + ".part")
    with translated():
        await asyncio.to_thread(_refuse_unwritable, aside)
        try:
            source = file_of(database.url)
            if source is not None:
                rows = await asyncio.to_thread(_online, source, aside, progress)
            else:
                rows = {
                    table.name: table.rows for table in await _copied(database, aside, progress)
                }
            await asyncio.to_thread(_prove, aside, rows)
            kept, missing = await _copy_blobs(
                aside, blobs, FileBlobs(file.with_name(file.name + ".blobs")), progress
            )
            await asyncio.to_thread(_name, aside, file)
        finally:
            _remove(aside)
    return Backup(rows, kept, missing)


def _refuse_unwritable(aside: Path) -> None:
    """Raise Invalid if the file cannot be written; later this would look like a database error."""
    try:
        _remove(aside)
        os.close(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        _remove(aside)
    except OSError as error:
        if error.errno not in NO_PLACE:
            raise
        raise Invalid(f"cannot write to {aside.parent}: {error.strerror}", "file") from error


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


async def _copied(database: Database, aside: Path, progress: Progress) -> list[CopiedTable]:
    copied = await copy(database, f"sqlite:///{aside}", progress)
    await asyncio.to_thread(_one_file, aside)
    return copied


def _one_file(path: Path) -> None:
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA journal_mode = DELETE")
    finally:
        connection.close()


def _online(source: Path, aside: Path, progress: Progress) -> dict[str, int]:
    """Run SQLite's online backup.

    Every commit by another writer would restart the backup; a read transaction keeps writers out.
    """
    os.close(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    old, new = (
        sqlite3.connect(source, isolation_level=None),
        sqlite3.connect(aside, isolation_level=None),
    )
    try:
        old.execute("BEGIN")
        rows = _counts(old)
        left: list[int] = []

        def step(_status: int, remaining: int, total: int) -> None:
            progress("pages", (left[-1] if left else total) - remaining)
            left.append(remaining)

        old.backup(new, pages=PAGES_PER_STEP, progress=step)
        new.execute("PRAGMA journal_mode = DELETE")
    finally:
        new.close()
        old.close()
    return rows


def _counts(connection: sqlite3.Connection) -> dict[str, int]:
    return {
        name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]  # noqa: S608
        for name in (table.name for table in tables.metadata.sorted_tables)
    }


def _prove(aside: Path, rows: dict[str, int]) -> None:
    with closing(sqlite3.connect(aside)) as connection:
        if (
            connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]
            or connection.execute("PRAGMA foreign_key_check").fetchone() is not None
            or _counts(connection) != rows
        ):
            raise InternalError("the backup is incomplete and was discarded")


async def _copy_blobs(
    aside: Path, blobs: Blobs, folder: FileBlobs, progress: Progress
) -> tuple[int, tuple[str, ...]]:
    """Copy every blob that a backed-up row names, and check its digest."""
    missing = []
    named = await asyncio.to_thread(_blob_keys, aside)
    for key in named:
        if not await intact(folder, key):
            await folder.delete(key)
            if not await intact(blobs, key):
                missing.append(key)
            else:
                await folder.put(await blobs.get(key), key.rpartition("/")[2])
        progress("blobs", 1)
    return len(named) - len(missing), tuple(missing)


def _blob_keys(path: Path) -> list[str]:
    query = "SELECT DISTINCT blob FROM mail WHERE blob IS NOT NULL ORDER BY blob"
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute(query)]


def _name(aside: Path, file: Path) -> None:
    """Sync the complete file ``aside``, rename it to ``file``, and sync the folder."""
    _sync(aside)
    aside.rename(file)
    _sync(file.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def page_count(database: Database) -> int | None:
    """Return the number of steps of a backup, for a progress bar; None where unknown."""
    if database.dialect != "sqlite":
        return None
    blobs = sa.select(sa.func.count(sa.distinct(tables.mail.c.blob)))
    async with database.read() as connection:
        pages = int((await connection.exec_driver_sql("PRAGMA page_count")).scalar_one())
        return pages + int((await connection.execute(blobs)).scalar_one())
