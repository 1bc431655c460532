"""Tests of clients that vanish or stop in a dialog (reliability.md section 3, network)."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.faults.witness import END, ENVELOPE, Dialog, Ledger, letter

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.conftest import Daemon

HOWS = ("close", "reset", "half")
STRIDE = 7  # step between cuts in CI, shifted for each way of hanging up


def pieces(word: str) -> list[bytes]:
    """Return what a client says in one dialog; it waits for a reply after each piece."""
    return [*(line + b"\r\n" for line in ENVELOPE), letter(word, 1) + END]


def cut(daemon: Daemon, word: str, after: int, how: str) -> str:
    """Send the first ``after`` bytes of a dialog and leave; return the last reply that arrived."""
    dialog = Dialog(daemon.port)
    reply = dialog.greeting
    for piece in pieces(word):
        now, after = piece[:after], after - len(piece)
        dialog.socket.sendall(now)
        if after <= 0:
            break
        reply = dialog.reply()
        assert reply[:1] in {"2", "3"}, reply
    match how:
        case "close":
            dialog.close()
        case "reset":
            dialog.reset()
        case _:
            dialog.socket.shutdown(socket.SHUT_WR)
            while line := dialog.reply():
                reply = line
            dialog.close()
    return reply


def cut_everywhere(daemon: Daemon, stride: int) -> None:
    """Cut after each ``stride``-th byte and at the end, in each way; then send each mail whole."""
    daemon.start()
    ledger = Ledger()
    length = sum(map(len, pieces("c100")))
    points = cuts = 0
    for shift, how in enumerate(HOWS):
        for after in sorted(
            {
                *range(1 + shift * stride // len(HOWS), length, stride),
                *range(length - 5, length + 1),
            }
        ):
            word = f"{how[0]}{after:03}"
            reply = cut(daemon, word, after, how)
            cuts += 1
            if after == length:
                ledger.ended[word] = letter(word, 1)
                assert how != "half" or reply.startswith("250 2.0.0 Queued")
            else:
                assert "Queued" not in reply, (word, reply)
            points += 1
            if after < length and not points % 3:
                assert ledger.send(daemon.port, word, letter(word, 1)).startswith("250")
    for how in HOWS:
        word = f"{how[0]}{length:03}"
        assert ledger.send(daemon.port, word, letter(word, 1)).startswith("250")
    assert daemon.stop() == 0
    assert daemon.run("agenda", "run").returncode == 0
    mails = daemon.mails()
    ledger.audit(mails)
    assert {mail.state for mail in mails} <= {"done", "duplicate"}
    assert (
        daemon.rows("SELECT message_id FROM message GROUP BY message_id HAVING count(*) > 1") == []
    )
    assert daemon.rows("SELECT count(*) FROM message") == [(len(ledger.acknowledged),)]
    doubled = sum(mail.state == "duplicate" for mail in mails)
    print(
        f"{cuts} dialogs cut, {len(ledger.acknowledged)} mails acknowledged, {doubled} came "
        "twice and are one message, none lost"
    )
    assert 1 <= doubled <= len(HOWS)  # at least the half-closed one was stored before


def test_a_dialog_that_is_cut_stores_nothing(make_daemon: Callable[..., Daemon]) -> None:
    """A mail without its end is not stored; a retry after a lost 250 makes one message."""
    cut_everywhere(make_daemon(), STRIDE)


@pytest.mark.sweep
@pytest.mark.timeout(3600)
def test_a_dialog_that_is_cut_anywhere_stores_nothing(make_daemon: Callable[..., Daemon]) -> None:
    """The same after every single byte."""
    cut_everywhere(make_daemon(), 1)


def test_stalled_clients_do_not_block_others(make_daemon: Callable[..., Daemon]) -> None:
    """While sixty clients stop in their dialogs, another delivers at once; theirs is not stored."""
    daemon = make_daemon("ingress")
    daemon.start()
    still = [Dialog(daemon.port) for _ in range(60)]
    for number, dialog in enumerate(still):
        dialog.begin(ENVELOPE[: number % 5])
        dialog.socket.sendall(letter("still")[:99] if number % 5 == 4 else b"MA")
    ledger = Ledger()
    for number in range(20):
        assert ledger.send(daemon.port, f"good{number}", letter(f"good{number}")).startswith("250")
    for dialog in still:
        dialog.close()
    assert daemon.stop() == 0
    ledger.audit(daemon.mails())
    assert daemon.leftovers() == []
