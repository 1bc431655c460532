"""Tests of the proxy: each fault happens at its byte."""

from __future__ import annotations

import socket
import threading

import pytest

from tests.faults.witness import until
from tests.servers.proxy import Fault, proxy


@pytest.fixture
def echo():
    """Run a server that sends back each line; yield its port."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                taken, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(taken,), daemon=True).start()

    def talk(taken: socket.socket) -> None:
        with taken, taken.makefile("rb") as lines:
            try:
                for line in lines:
                    taken.sendall(line)
            except OSError:
                return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listening.getsockname()[1]
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join(10)


@pytest.fixture
def between(echo):
    """Run a proxy in front of it."""
    with proxy(echo) as made:
        yield made


def say(between, data: bytes) -> tuple[bytes, str]:
    """Send bytes and read to the end; return the data and how the connection ended."""
    got, ended = b"", "close"
    try:
        client = socket.create_connection(("127.0.0.1", between.port), 10)
    except ConnectionError:
        return got, "reset"
    with client:
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        except ConnectionResetError:  # Linux reports it once; earlier data can still be read
            ended = "reset"
        except OSError:
            pass
        try:
            while piece := client.recv(65536):
                got += piece
        except ConnectionError:
            ended = "reset"
        return got, ended


LINES = b"".join(b"line %d\r\n" % number for number in range(20))


def test_a_proxy_lets_everything_pass(between):
    """Without a fault all bytes pass and are counted, and kept by a recorder."""
    large = LINES * 5000
    assert say(between, large) == (large, "close")
    between.record, between.piece = True, 1
    assert say(between, LINES) == (LINES, "close")
    assert (between.connections, between.up, between.down) == (
        2,
        len(large) + len(LINES),
        len(large) + len(LINES),
    )
    for way in ("up", "down"):
        assert b"".join(data for where, data in between.heard if where == way) == LINES
    assert {len(data) for _, data in between.heard} == {1}


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("after", [0, 1, 77, 170])
def test_a_proxy_cuts_after_exactly_so_many_bytes(between, after, how):
    """Everything before the cut arrives, nothing after it; the next connection is whole."""
    between.cut_after(down=after, how=how)
    got, ended = say(between, LINES)
    assert got == LINES[:after]
    assert ended in {how, "reset"}  # our unread data turns any close into a reset
    assert say(between, LINES) == (LINES, "close")


def test_a_proxy_cuts_the_way_up(between):
    """The server gets so many bytes and no more, at each connection with that fault."""
    between.cut_after(up=30, always=True)
    for _ in range(2):
        before = between.up
        assert say(between, LINES)[1] == "reset"
        assert between.up == before + 30


def test_a_proxy_counts_over_connections(between):
    """A cut after so many bytes of all connections together happens once."""
    between.cut_after(down=len(LINES) + 7, total=True)
    assert say(between, LINES) == (LINES, "close")
    assert say(between, LINES) == (LINES[:7], "reset")
    assert say(between, LINES) == (LINES, "close")


def test_a_proxy_stalls(between):
    """After so many bytes nothing more comes, but the other direction stays open."""
    between.stall_after(down=9)
    with socket.create_connection(("127.0.0.1", between.port), 10) as client:
        client.sendall(LINES)
        assert b"".join(client.recv(1) for _ in range(9)) == LINES[:9]
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.sendall(LINES)
        until(lambda: between.up == 2 * len(LINES))
    until(lambda: between.current == 0)
    assert say(between, LINES) == (LINES, "close")


def test_a_proxy_closes_one_half(between):
    """The client sees the end of the data, and may still send."""
    between.faults = [Fault(8, "down", "half")]
    with socket.create_connection(("127.0.0.1", between.port), 10) as client:
        client.sendall(LINES)
        assert client.makefile("rb").read() == LINES[:8]
        up = between.up
        client.sendall(LINES)
        until(lambda: between.up == up + len(LINES))


@pytest.mark.parametrize(("after", "at"), [(0, 0), (1, 8), (8, 8), (9, 16)])
def test_a_proxy_adds_lines(between, after, at):
    """Bytes are inserted at the first end of a line from there on."""
    between.inject(b"* BYE\r\n", after)
    assert say(between, LINES) == (LINES[:at] + b"* BYE\r\n" + LINES[at:], "close")


def test_a_proxy_refuses_and_drops(between):
    """A proxy can close each connection at once, and drop all current ones."""
    between.refuse = True
    assert say(between, b"")[0] == b""
    between.refuse = False
    with socket.create_connection(("127.0.0.1", between.port), 10) as client:
        client.sendall(b"a\r\n")
        assert client.recv(9) == b"a\r\n"
        between.drop_all()
        with pytest.raises(ConnectionResetError):
            client.recv(9)


def test_a_proxy_without_a_server(free_port):
    """If no server listens, the client is reset."""
    with proxy(free_port) as between:
        assert say(between, b"")[0] == b""
