"""A backup while the daemon runs: one SQLite file beside a folder of blobs, checked before it gets
its name.

``FILE`` is a whole database of ours, whichever kind it was made from, and ``FILE.blobs`` holds the
large raw mails. To restore, put the file and the folder in their places, or ``db copy`` from the
file into PostgreSQL. What can go wrong: the disk is full (nothing gets the name), or a blob is
missing in the store; then the backup is made of all the rest and says which.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from gateway.errors import InternalError, Refused
from gateway.store.engine import Database, file_of
from gateway.store.queues.blobs import Blobs, FileBlobs, intact
from gateway.store.schema import tables
from gateway.store.sql.errors import NO_PLACE, translated
from gateway.store.upkeep.copy import CopiedTable, copy

PAGES_PER_STEP = 2048
Progress = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Backup:
    """What was backed up: rows by table, how many blobs, and the keys of those that were missing or
    damaged in the store.
    """

    rows: dict[str, int]
    blobs: int
    missing: tuple[str, ...]


async def backup(
    database: Database, blobs: Blobs, file: Path, progress: Progress = lambda _what, _steps: None
) -> Backup:
    """Writes the backup to ``file``, which must not exist yet, and to ``file`` + ``.blobs``, which
    may: what is there already is kept.
    """
    if await asyncio.to_thread(file.exists):
        raise Refused(f"{file} exists already")
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
    """Before hours of work, and in words of its own: it is not the database that is in trouble."""
    try:
        _remove(aside)
        os.close(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        _remove(aside)
    except OSError as error:
        if error.errno not in NO_PLACE:
            raise
        raise Refused(f"nothing can be written to {aside.parent}: {error.strerror}") from error


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
    """SQLite's online backup. The read transaction around it keeps other writers' commits out,
    which would make it begin again.
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
        table.name: connection.execute(f'SELECT count(*) FROM "{table.name}"').fetchone()[0]  # noqa: S608
        for table in tables.metadata.sorted_tables
    }


def _prove(aside: Path, rows: dict[str, int]) -> None:
    connection = sqlite3.connect(aside)
    try:
        verdict: list[Any] = connection.execute("PRAGMA integrity_check").fetchall()
        if (
            verdict != [("ok",)]
            or connection.execute("PRAGMA foreign_key_check").fetchone() is not None
            or _counts(connection) != rows
        ):
            raise InternalError("the backup is not whole; nothing was kept of it")
    finally:
        connection.close()


async def _copy_blobs(
    aside: Path, blobs: Blobs, folder: FileBlobs, progress: Progress
) -> tuple[int, tuple[str, ...]]:
    """Copies every blob that the backed-up rows name, each checked against its digest."""
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
    connection = sqlite3.connect(path)
    try:
        return [
            row[0]
            for row in connection.execute(
                "SELECT DISTINCT blob FROM mail WHERE blob IS NOT NULL ORDER BY blob"
            )
        ]
    finally:
        connection.close()


def _name(aside: Path, file: Path) -> None:
    for path in (aside, file.parent):
        if path == file.parent:
            aside.rename(file)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


async def page_count(database: Database) -> int | None:
    """How many steps a backup of the database will take, for a progress bar; None where that is not
    known.
    """
    if database.dialect != "sqlite":
        return None
    async with database.read() as connection:
        pages = int((await connection.exec_driver_sql("PRAGMA page_count")).scalar_one())
        named = (
            await connection.execute(sa.select(sa.func.count(sa.distinct(tables.mail.c.blob))))
        ).scalar_one()
    return pages + int(named)
