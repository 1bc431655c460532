"""Tests of misbehaving reading processes: killed, replaced, and only one mail fails."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest

from core.model.message import Message
from gateway.intake.sandbox.pool import ReadFailure, ReadJob, Sandbox
from gateway.reading import parse


@pytest.fixture
async def started(monkeypatch):
    """Start sandboxes, stop them afterwards, and check that no process of theirs is left."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    boxes = []

    async def start(processes=1, **how):
        box = Sandbox(processes, **how)
        boxes.append(box)
        await box.start()
        return box

    yield start
    pids = [pid for box in boxes for pid in family(box)]
    for box in boxes:
        await box.stop()
    assert not [
        pid
        for pid in pids
        if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    ]


def family(box):
    """Return the pids of a sandbox: its fork server and its workers."""
    if box._fork_server is None:
        return []
    fork_server = psutil.Process(box._fork_server.pid)
    return [fork_server.pid, *(child.pid for child in fork_server.children())]


async def test_a_chunk_is_read_in_order(started, mail):
    """Sixteen mails in one request are answered in order, each as its job asked."""
    box = await started(2)
    jobs = [ReadJob(mail(f"body {index}", subject=f"mail {index}")) for index in range(16)]
    found = await box.read_many(jobs)
    assert [each.subject for each in found if isinstance(each, Message)] == [
        f"mail {index}" for index in range(16)
    ]
    (shown,) = await box.read_many(
        [ReadJob(mail("<p>x</p>", kind="text/html"), null_sender=True, html=True)]
    )
    assert isinstance(shown, Message)
    assert (shown.html, shown.kind) == ("<p>x</p>", "auto_generated")
    assert await box.read_many([]) == []


async def test_the_authors_of_a_mail_come_through(started, mail):
    """The daemon gets what a worker read, every field that names an author too."""
    box = await started()
    raw = mail(
        extra=(
            "Reply-To: r@mail.example\nX-Original-From: o@mail.example\nResent-From: s@mail.example"
        )
    )
    assert await box.read_many([ReadJob(raw)]) == [parse.read(raw)]


async def test_an_attachment_is_fetched(started, mail, multipart):
    """The content of a part is returned; a missing part raises KeyError."""
    box = await started()
    raw = mail(
        multipart(
            "b", "Content-Type: text/plain\n\nx", "Content-Type: text/csv; name=a.csv\n\n1,2"
        ),
        kind="multipart/mixed; boundary=b",
    )
    attachment, content = await box.attachment(raw, "2")
    assert (attachment.filename, content) == ("a.csv", b"1,2")
    with pytest.raises(KeyError):
        await box.attachment(raw, "7")


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ("spin", "took longer|too much time"),
        ("stall", "took longer"),
        ("eat", "took longer|too much time or memory"),
        ("die", "too much time or memory"),
        ("raise", "RuntimeError"),
        ("lie", "invalid answer|PicklingError|died"),
    ],
)
async def test_only_the_failing_mail_fails(started, mail, order, reason):
    """A mail that spins, stalls, eats memory, kills or confuses its reading process fails alone."""
    wall = (
        2 if order == "stall" else 20
    )  # the others end by themselves or by their limit, however slow the machine is
    box = await started(1, reader="readers", wall=wall, cpu=1, memory=512 * 1024 * 1024)
    jobs = [
        ReadJob(mail(subject="first")),
        ReadJob(mail(subject=f"order: {order}")),
        ReadJob(mail(subject="last")),
    ]
    before, failed, after = await box.read_many(jobs)
    assert isinstance(before, Message)
    assert isinstance(after, Message)
    assert isinstance(failed, ReadFailure)
    assert any(word in failed.reason for word in reason.split("|"))
    (again,) = await box.read_many([ReadJob(mail(subject="still alive"))])
    assert isinstance(again, Message)


async def test_the_mail_at_fault_is_known(started, mail):
    """The mails before the failing one are returned, and one process is killed at most."""
    for order, killed in (("die", 1), ("raise", 0)):
        box = await started(1, reader="readers")
        jobs = [ReadJob(mail(subject=each)) for each in ("first", "second", f"order: {order}", "x")]
        found, lost = await box.read_until_lost(jobs)
        assert [each.subject for each in found] == ["first", "second"]
        assert lost is not None
        assert box.killed == killed
        assert [each.subject for each in (await box.read_until_lost(jobs[3:]))[0]] == ["x"]


async def test_a_quick_reading_gives_up_soon(started, mail):
    """A mail that hangs is given up after half a second, not after the time a suspect may take."""
    box = await started(1, reader="readers", wall=3600)
    async with asyncio.timeout(60):
        found, lost = await box.read_until_lost(
            [ReadJob(mail(subject="order: stall"))], quickly=True
        )
    assert (found, str(lost)) == ([], "reading took longer than 0.5 seconds")


async def test_processor_time_is_limited_per_mail(started, mail):
    """A spinning mail is ended by its own limit, long before the wall time."""
    box = await started(1, reader="readers", wall=600, cpu=1)
    async with asyncio.timeout(150):
        (found,) = await box.read_many([ReadJob(mail(subject="order: spin"))])
    assert isinstance(found, ReadFailure)
    assert "too much time" in found.reason


async def test_a_mail_gets_a_second_try(started, mail, tmp_path, monkeypatch):
    """A mail whose worker died is tried once more."""
    monkeypatch.setenv("TICKETGATE_TEST_ONCE", str(tmp_path / "once"))
    box = await started(1, reader="readers")
    (found,) = await box.read_many([ReadJob(mail(subject="order: once"))])
    assert isinstance(found, Message)
    assert box.killed == 1


async def test_killed_processes_are_replaced(started, mail):
    """After a worker and then the fork server are killed, the next mail is read."""
    box = await started(2)
    fork_server, *workers = family(box)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    found = await asyncio.gather(
        *(box.read_many([ReadJob(mail(subject=str(index)))]) for index in range(4))
    )
    assert all(isinstance(each[0], Message) for each in found)
    os.kill(fork_server, signal.SIGKILL)
    found = await asyncio.gather(
        *(box.read_many([ReadJob(mail(subject=str(index)))]) for index in range(4))
    )
    assert all(isinstance(each[0], Message) for each in found)


async def test_a_cancelled_request_does_not_mix_answers(started, mail):
    """A cancelled request leaves no answer for the next one."""
    box = await started(1, reader="readers")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await box.read_many([ReadJob(mail(subject="order: stall"))])
    (found,) = await box.read_many([ReadJob(mail(subject="next"))])
    assert isinstance(found, Message)
    assert found.subject == "next"


async def test_a_large_mail_passes(started, mail):
    """A mail of twenty megabytes and its attachment pass through the sockets."""
    box = await started()
    raw = mail("x" * 20_000_000, kind="application/octet-stream; name=big.bin")
    (found,) = await box.read_many([ReadJob(raw)])
    assert isinstance(found, Message)
    attachment, content = await box.attachment(raw, found.attachments[0].part)
    assert len(content) == attachment.size == 20_000_000


async def test_workers_share_the_memory_of_their_fork_server(started):
    """Three processes have one thread each and use less than half of the daemon's limit."""
    box = await started(2)
    processes = [psutil.Process(pid) for pid in family(box)]
    assert len(processes) == 3
    assert sum(each.memory_full_info().pss for each in processes) < 120 * 1024 * 1024
    assert all(each.num_threads() == 1 for each in processes)
