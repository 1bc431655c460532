"""Tests of blob stores: durable before named, and verifiable afterwards."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from gateway.errors import NotFound, StoreUnavailable, UsageError
from gateway.store.queues import blobs as module
from gateway.store.queues.blob_files import key_of
from gateway.store.queues.blobs import RemoteBlobs, intact, open_blobs

RAW = b"From: a@example.org\r\n\r\n" + bytes(range(256)) * 2000
DIGEST = hashlib.sha256(RAW).hexdigest()


@pytest.fixture(params=["file", "memory"])
def blobs(request, tmp_path: Path):
    """Return a store of each testable kind: files, and the object store library in memory."""
    return (
        open_blobs(f"file://{tmp_path}/var/blobs")
        if request.param == "file"
        else RemoteBlobs(MemoryStore())
    )


@pytest.mark.parametrize("from_file", [False, True])
async def test_a_blob_comes_back_whole(blobs, tmp_path, from_file):
    """Bytes or a file come back unchanged under a verifiable key; the file stays."""
    source = tmp_path / "raw"
    source.write_bytes(RAW)
    key = await blobs.put(source if from_file else RAW, DIGEST)
    assert key == key_of(DIGEST)
    assert await blobs.put(RAW, DIGEST) == key
    assert await blobs.get(key) == RAW
    assert await intact(blobs, key)
    assert [each async for each in blobs.listing()] == [key]
    assert source.read_bytes() == RAW
    await blobs.delete(key)
    await blobs.delete(key)
    assert not await intact(blobs, key)
    with pytest.raises(NotFound):
        await blobs.get(key)


def test_small_mail_goes_into_the_database():
    """Up to 256 KiB a raw mail is inline; with ``database:`` every mail is."""
    assert [
        open_blobs(url).inline(size)
        for url in ("file://x", "s3://x", "database:")
        for size in (262_144, 262_145)
    ] == [True, False, True, False, True, True]


async def test_a_damaged_blob_is_found(tmp_path):
    """A file whose bytes changed is not intact."""
    blobs = open_blobs(f"file://{tmp_path}/b")
    key = await blobs.put(RAW, DIGEST)
    (tmp_path / "b" / key).write_bytes(RAW[:-1] + b"!")
    assert not await intact(blobs, key)


async def test_a_file_has_its_name_only_when_it_and_its_folder_are_on_disk(tmp_path, monkeypatch):
    """The file is synced, renamed, and its folder synced; new folders are synced too."""
    done = []
    real_sync, real_rename = os.fsync, Path.rename
    monkeypatch.setattr(
        os,
        "fsync",
        lambda number: (done.append(Path(f"/proc/self/fd/{number}").readlink()), real_sync(number))[
            1
        ],
    )
    monkeypatch.setattr(
        Path, "rename", lambda self, target: (done.append("rename"), real_rename(self, target))[1]
    )
    key = await open_blobs(f"file://{tmp_path}/b").put(RAW, DIGEST)
    target = tmp_path / "b" / key
    assert done[:3] == [tmp_path, tmp_path / "b", tmp_path / "b"]
    assert done[3].name.startswith(target.name)
    assert done[3].suffix == ".part"
    assert done[4:] == ["rename", target.parent]


async def test_an_error_at_the_sync_leaves_no_file(tmp_path, monkeypatch):
    """A failing disk raises StoreUnavailable and leaves no file."""

    def broken(_number):
        raise OSError(5, "input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    (tmp_path / "b" / DIGEST[:2]).mkdir(parents=True)
    with pytest.raises(StoreUnavailable):
        await open_blobs(f"file://{tmp_path}/b").put(RAW, DIGEST)
    assert list((tmp_path / "b").glob("*/*")) == []


async def test_a_file_on_another_file_system_is_copied(tmp_path, monkeypatch):
    """Where a link is impossible, a private copy is made."""

    def apart(_self, _target):
        raise OSError(18, "cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", apart)
    (tmp_path / "raw").write_bytes(RAW)
    key = await open_blobs(f"file://{tmp_path}/b").put(tmp_path / "raw", DIGEST)
    target = tmp_path / "b" / key
    assert target.read_bytes() == RAW
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert stat.S_IMODE(target.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("url", ["ftp://x", "nonsense", ""])
def test_an_address_of_another_kind_is_refused(url):
    """Only the documented URLs are accepted."""
    with pytest.raises(UsageError):
        open_blobs(url)


async def test_an_object_store_that_does_not_answer_is_try_again(free_port, monkeypatch):
    """An unreachable bucket raises StoreUnavailable."""
    for name, value in {
        "AWS_ENDPOINT": f"http://127.0.0.1:{free_port}",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_REGION": "x",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setattr(module, "RETRIES", {"max_retries": 0})
    blobs = open_blobs("s3://bucket/prefix")
    for attempt in (blobs.put(RAW, DIGEST), blobs.get("aa/bb"), blobs.delete("aa/bb")):
        with pytest.raises(StoreUnavailable):
            await attempt


async def test_an_object_store_that_refuses_us_says_so(monkeypatch):
    """A refused key is told from an absent store, and no text of the store is passed on."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecret"
        )
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    for name, value in {
        "AWS_ENDPOINT": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_REGION": "x",
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreUnavailable) as caught:
        await open_blobs("s3://bucket/prefix").put(RAW, DIGEST)
    server.close()
    assert caught.value.message == "the blob store refuses our key, or does not allow it this"
