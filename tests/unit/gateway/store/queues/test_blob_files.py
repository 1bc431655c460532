"""Tests of blobs as files: their notes, their rights, and the reasons they give for failing."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest

from gateway.errors import BlobsUnavailable, DiskFull
from gateway.store.queues import blob_files
from gateway.store.queues.blob_files import FileBlobs, key_of

RAW = b"a large mail\r\n" * 1000
DIGEST = hashlib.sha256(RAW).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
def blobs(folder: Path) -> FileBlobs:
    return FileBlobs(folder)


def files(folder: Path) -> list[str]:
    """Return the names of all files of blobs and notes."""
    return sorted(path.name.partition(".")[0] for path in folder.glob("*/*"))


@pytest.mark.parametrize("from_file", [True, False])
async def test_a_blob_is_readable_by_its_owner_only(blobs, folder, tmp_path, from_file):
    """A blob has mode 0600, also where it is a link to a file that others could read."""
    source = tmp_path / "raw"
    source.write_bytes(RAW)
    source.chmod(0o644)
    key = await blobs.put(source if from_file else RAW, DIGEST)
    assert stat.S_IMODE((folder / key).stat().st_mode) == 0o600


async def test_a_withdrawn_blob_leaves_nothing(blobs, folder):
    """A blob whose mail was not committed is deleted with its note."""
    await blobs.withdraw(await blobs.place(RAW, DIGEST))
    assert files(folder) == []


async def test_a_settled_blob_stays_without_its_note(blobs, folder):
    """A blob whose mail was committed stays, and only the blob."""
    await blobs.settle(await blobs.place(RAW, DIGEST))
    assert files(folder) == [DIGEST]


@pytest.mark.parametrize("other", ["before", "placed after", "settled after"])
async def test_a_blob_that_another_mail_may_need_is_not_withdrawn(blobs, folder, other):
    """Another mail with equal content keeps its blob, whenever it came."""
    if other == "before":
        await blobs.put(RAW, DIGEST)
    mine = await blobs.place(RAW, DIGEST)
    if other != "before":
        theirs = await FileBlobs(folder).place(RAW, DIGEST)
        if other == "settled after":
            await blobs.settle(theirs)
    await blobs.withdraw(mine)
    assert await blobs.get(key_of(DIGEST)) == RAW


async def test_a_blob_is_deleted_only_in_the_version_that_was_looked_up(blobs):
    """A blob that is being placed, or was placed anew, is not deleted; then it is."""
    placed = await blobs.place(RAW, DIGEST)
    assert await blobs.version(placed.key) is None
    await blobs.settle(placed)
    version = await blobs.version(placed.key)
    await blobs.put(RAW, DIGEST)
    await blobs.delete(placed.key, version)
    assert await blobs.get(placed.key) == RAW
    await blobs.delete(placed.key, await blobs.version(placed.key))
    assert [key async for key in blobs.listing()] == []


async def test_an_error_after_the_name_leaves_no_blob(blobs, folder, monkeypatch):
    """A folder that cannot be synced once the blob has its name leaves neither blob nor note."""
    real, calls = os.fsync, []

    def broken(number: int) -> None:
        calls.append(str(Path(f"/proc/self/fd/{number}").readlink()))
        if calls[-1] == str(folder / DIGEST[:2]):
            raise OSError(errno.EIO, "input/output error")
        real(number)

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(BlobsUnavailable, match=r"cannot write blobs: input/output error at /"):
        await blobs.place(RAW, DIGEST)
    assert files(folder) == []


@pytest.mark.parametrize(
    ("number", "kind", "reason"),
    [
        (errno.EACCES, BlobsUnavailable, "permission denied"),
        (errno.EROFS, BlobsUnavailable, "read-only file system"),
        (errno.ENOSPC, DiskFull, "no space left on device"),
        (errno.EDQUOT, DiskFull, "disk quota exceeded"),
    ],
)
async def test_a_failure_tells_its_reason_and_place(
    blobs, folder, monkeypatch, number, kind, reason
):
    """What the system says is passed on, with the path, for a mail and for the probe alike."""

    def refuse(path: str, _flags: int) -> int:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(blob_files, "_private", refuse)
    for attempt in (blobs.put(RAW, DIGEST), blobs.probe()):
        with pytest.raises(kind) as caught:
            await attempt
        assert type(caught.value) is kind
        assert caught.value.message.startswith(f"cannot write blobs: {reason} at {folder}/parts/")
    assert files(folder) == []


async def test_a_folder_replaced_while_in_use_takes_no_blobs(blobs, folder, tmp_path):
    """A folder that is moved away is not made again; back in its place, it takes blobs."""
    await blobs.put(RAW, DIGEST)
    folder.rename(tmp_path / "away")
    for make in (lambda: None, folder.mkdir):
        make()
        for attempt in (blobs.put(RAW, DIGEST), blobs.probe()):
            with pytest.raises(BlobsUnavailable, match="was removed or replaced"):
                await attempt
    assert list(folder.iterdir()) == []
    folder.rmdir()
    (tmp_path / "away").rename(folder)
    await blobs.probe()
    await blobs.put(RAW, DIGEST)


async def test_unfinished_files_of_dead_processes_are_removed(blobs, folder, monkeypatch):
    """Files of an earlier process are removed, also if it had our pid, as in a container."""
    await blobs.put(RAW, DIGEST)
    monkeypatch.setattr(blob_files, "_RUN", "earlier")
    placed = await blobs.place(RAW, DIGEST)
    assert placed.note is not None
    part = placed.note.with_suffix(".part")
    part.write_bytes(b"half a ma")
    (folder / "parts" / f"{DIGEST}.999999999-0a.part").write_bytes(b"of an older version")
    assert (blobs.remove_leftovers(), blobs.doubtful()) == (1, [])
    part.write_bytes(b"half a ma")
    monkeypatch.undo()
    assert blobs.remove_leftovers() == 1
    assert [note for note, _ in blobs.doubtful()] == [placed.note]


async def test_a_note_of_another_host_is_believed_for_an_hour(blobs, monkeypatch):
    """A process of another host may still be in its commit, but not for hours."""
    monkeypatch.setattr(blob_files, "_RUN", "theirs")
    monkeypatch.setattr("gateway.store.sql.nodes.own", lambda: "other.1f2e3d4c-1")
    placed = await blobs.place(RAW, DIGEST)
    monkeypatch.undo()
    assert placed.note is not None
    assert blobs.doubtful() == []
    assert await blobs.version(placed.key) is None
    hour_ago = placed.note.stat().st_mtime - blob_files.OTHER_HOST_SECONDS - 1
    os.utime(placed.note, (hour_ago, hour_ago))
    assert [note for note, _ in blobs.doubtful()] == [placed.note]
