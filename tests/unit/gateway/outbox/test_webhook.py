"""Tests of webhook calls to a real HTTP server, on both databases."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import io
import json
import queue
import sys
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import sqlalchemy as sa

from config.settings import WebhookSettings
from gateway import http_client, log
from gateway.outbox import webhook
from gateway.outbox.webhook import AT_ONCE, MOST_READ, UNSIGNED, Webhooks
from gateway.store.engine import Database, upgrade
from gateway.store.queues.wake import Wake
from gateway.store.queues.webhooks import Calls
from gateway.store.schema import tables
from tests.conftest import START

SECRET = "s3cret-of-the-hooks"
BODY = json.dumps(
    {"event": "workflow", "ticket": {"number": 7, "subject": "Gr\u00fc\u00dfe"}}, ensure_ascii=False
)
CALL = tables.webhook_call


@dataclass
class Receiver:
    """A receiving server: its requests and its answers, which ``gate`` can hold back."""

    port: int = 0
    came: queue.Queue = field(default_factory=queue.Queue)
    answers: list = field(default_factory=list)  # (status, head); 200 when the list is empty
    gate: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/hook?token=t0ken"

    def requests(self):
        """Return the requests so far: (path, head, body)."""
        return list(self.came.queue)


class _Handler(BaseHTTPRequestHandler):
    state: Receiver

    def log_message(self, *_):
        """Log nothing."""

    def do_POST(self):
        """Record a call and answer it."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.state.came.put((self.path, dict(self.headers), body))
        self.state.gate.wait(60)
        status, head = self.state.answers.pop(0) if self.state.answers else (200, {})
        with contextlib.suppress(OSError):
            self.send_response(status)
            for name, value in head.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()


@pytest.fixture
def receiver():
    """Run a receiver on a free port of the loopback."""
    made = Receiver()
    made.gate.set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": made}))
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield made
    made.gate.set()
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture
async def database(clean_url):
    """Open a database with all tables."""
    opened = await Database.open(clean_url, node="one")
    yield opened
    await opened.close()


@pytest.fixture
def hooks(database, clock):
    """Return the webhooks of a process that may call the loopback."""
    return Webhooks(database, clock, given())


def given(secret=SECRET, allow=("127.0.0.0/8",)):
    """Return the outbound settings."""
    return WebhookSettings(secret=secret, allow=allow)


async def put(database, *urls, **more):
    """Insert calls that are due now."""
    plain = {
        "body": BODY,
        "state": "queued",
        "attempts": 0,
        "due_at": START,
        "created_at": START,
        "key": None,
    }
    async with database.write() as connection:
        for number, url in enumerate(urls, 1):
            await connection.execute(
                sa.insert(CALL).values(plain | {"id": number, "url": url} | more)
            )


async def rows(database):
    """Return all calls in order."""
    async with database.read() as connection:
        return (await connection.execute(sa.select(CALL).order_by(CALL.c.id))).all()


# ---- one call


async def test_a_call_is_signed_and_made_once(hooks, database, receiver):
    """The stored body arrives with a valid signature, and is not sent again."""
    await put(database, receiver.url, key="run:12:call")
    [called] = await hooks.run_due()
    assert (called.state, called.reply, called.attempts, called.place) == (
        "sent",
        "200 OK",
        1,
        f"http://127.0.0.1:{receiver.port}",
    )
    [(path, head, body)] = receiver.requests()
    assert (path, body.decode()) == ("/hook?token=t0ken", BODY)
    at = str(int(START.timestamp()))
    signed = hmac.new(SECRET.encode(), f"{at}.{BODY}".encode(), sha256).hexdigest()
    wanted = {
        "Content-Type": "application/json",
        "User-Agent": "ticketgate",
        "X-Ticketgate-Timestamp": at,
    }
    wanted |= {"X-Ticketgate-Signature": f"v1={signed}", "X-Ticketgate-Delivery": "run:12:call"}
    assert {name: head[name] for name in wanted} == wanted
    [row] = await rows(database)
    assert (row.state, row.attempts, row.last_reply, row.due_at, row.lease_owner) == (
        "sent",
        1,
        "200 OK",
        None,
        None,
    )
    assert await hooks.run_due() == []


async def test_a_call_without_a_key_is_told_apart_by_its_number(hooks, database, receiver):
    """Every call has an identifier by which a receiver recognises repetitions."""
    await put(database, receiver.url, receiver.url)
    await hooks.run_due()
    assert sorted(head["X-Ticketgate-Delivery"] for _, head, _ in receiver.requests()) == ["1", "2"]


@pytest.mark.parametrize(
    ("status", "state"),
    [
        *((status, "sent") for status in (200, 201, 202, 204, 299)),
        *((status, "failed") for status in (400, 401, 403, 404, 410, 422, 451)),
        *((status, "deferred") for status in (301, 307, 308, 408, 425, 429, 500, 502, 503, 504)),
    ],
)
async def test_what_an_answer_means(tmp_path, templates, clock, receiver, status, state):
    """An answer is an acceptance, a refusal, or a reason to retry in a minute."""
    database = await Database.open(
        templates.sqlite(upgrade, tmp_path / "ticketgate.db"), node="one"
    )
    receiver.answers = [(status, {"Location": receiver.url})]
    await put(database, receiver.url)
    await Webhooks(database, clock, given()).run_due()
    [row] = await rows(database)
    assert (row.state, row.attempts) == (state, 1)
    assert row.last_reply.startswith(str(status))
    assert row.due_at == (START + timedelta(minutes=1) if state == "deferred" else None)
    assert len(receiver.requests()) == 1, "a redirect is not followed"
    await database.close()


async def test_a_call_is_tried_again_for_three_days(hooks, database, receiver, clock):
    """Retries follow after 1, 2, 4 ... minutes, then every four hours, for three days."""
    receiver.answers = [(503, {})] * 100
    await put(database, receiver.url)
    pauses = []
    while True:
        [called] = await hooks.run_due()
        assert await hooks.run_due() == [], "once when it is due"
        if called.state == "failed":
            break
        [row] = await rows(database)
        pauses.append((row.due_at - clock.now()) / timedelta(minutes=1))
        clock.set(row.due_at)
    assert pauses[:9] == [1, 2, 4, 8, 16, 32, 64, 128, 240]
    assert set(pauses[9:-1]) == {240}
    assert clock.now() == START + timedelta(days=3)
    [row] = await rows(database)
    assert (row.state, row.attempts, row.last_reply, row.due_at) == (
        "failed",
        len(pauses) + 1,
        "503 Service Unavailable",
        None,
    )


async def test_a_receiver_that_is_away_is_tried_again(hooks, database, free_port):
    """A refused connection is retried, with a plain reason."""
    await put(database, f"http://127.0.0.1:{free_port}/")
    [called] = await hooks.run_due()
    assert (called.state, called.reply) == (
        "deferred",
        "127.0.0.1 cannot be asked: connection refused",
    )


async def test_a_receiver_that_is_silent_is_tried_again(hooks, database, receiver, monkeypatch):
    """A timeout and an unknown name are retried, with plain reasons."""
    monkeypatch.setattr(webhook, "SECONDS", 0.3)
    receiver.gate.clear()
    await put(database, receiver.url, "http://no-such-host.invalid/")
    called = {each.id: each for each in await hooks.run_due()}
    assert {each.state for each in called.values()} == {"deferred"}
    assert called[1].reply.startswith("127.0.0.1 did not answer within")
    assert "no-such-host.invalid" in called[2].reply


@pytest.mark.parametrize("body", ["endless", "cut"])
async def test_the_status_line_decides(hooks, database, body):
    """An endless answer is left after 64 KiB, and an incomplete one counts."""
    sent = []

    async def speak(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 Fine \x1b[2J" + b"y" * 500 + b"\r\nContent-Length: 100000000\r\n\r\n"
        )
        with contextlib.suppress(ConnectionError):
            while body == "endless" and len(sent) < 2000:
                writer.write(b"x" * MOST_READ)
                await writer.drain()
                sent.append(MOST_READ)
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    await put(database, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    [called] = await hooks.run_due()
    server.close()
    assert called.state == "sent"
    assert called.reply.startswith("200 Fine")
    assert called.reply.isprintable()
    assert len(called.reply) <= 300
    assert len(sent) < 1000


async def test_without_a_secret_calls_wait(hooks, database, receiver, clock):
    """Unsigned calls are not sent and give the reason; with a secret they are sent at once."""
    await put(database, receiver.url)
    assert await Webhooks(database, clock, given(secret="")).run_due() == []
    [row] = await rows(database)
    assert (row.state, row.attempts, row.last_reply, row.due_at) == ("deferred", 0, UNSIGNED, START)
    assert receiver.requests() == []
    [called] = await hooks.run_due()
    assert called.state == "sent"


# ---- forbidden targets


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://LOCALHOST:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://[64:ff9b::7f00:1]:{port}/",
        "http://2130706433:{port}/",
        "http://0x7f.1:{port}/",
        "http://127.1:{port}/",
        "http://0:{port}/",
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1%25lo]:{port}/",
        "http://user:password@127.0.0.1:{port}/",
        "http://hooks.example.org@127.0.0.1:{port}/",
        "http://hooks.example.org\\@127.0.0.1:{port}/",
        "ftp://127.0.0.1:{port}/",
        "file:///etc/passwd",
        "http://",
        "http:///hook",
        "http://127.0.0.1:{port}/a b",
        "http://127.0.0.1:99999/",
        "//127.0.0.1:{port}/",
        "",
    ],
)
async def test_calls_do_not_go_where_they_may_not(database, clock, receiver, url):
    """Private addresses in every spelling, other schemes and passwords fail at once."""
    await put(database, url.format(port=receiver.port))
    [called] = await Webhooks(
        database, clock, given(allow=("10.0.0.0/8", "hooks.example.org"))
    ).run_due()
    assert (called.state, called.attempts) == ("failed", 1)
    assert receiver.requests() == []
    assert "password" not in called.reply + called.place


@pytest.mark.parametrize("allow", ["127.0.0.1", "127.0.0.0/8", "localhost", "LocalHost"])
async def test_what_is_allowed_is_called(database, clock, receiver, allow):
    """An entry is an address, a network, or a host name."""
    await put(database, f"http://localhost:{receiver.port}/")
    [called] = await Webhooks(database, clock, given(allow=(allow,))).run_due()
    assert called.state == "sent"


async def test_the_checked_address_is_the_one_connected_to(receiver):
    """The address that was checked is the one connected to, after one look-up."""
    asked = []

    def allowed(address):
        asked.append(address)
        return address == "127.0.0.1"

    url = f"http://localhost:{receiver.port}/"
    assert (
        await http_client.post(url, b"{}", {}, seconds=5, most=0, allowed=allowed)
    ).status == 200
    assert set(asked) <= {"127.0.0.1", "::1"}
    assert asked.count("127.0.0.1") == 1


async def test_proxies_of_the_environment_are_not_used(database, clock, receiver, monkeypatch):
    """Proxies are not used: they would connect to unchecked addresses."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{receiver.port}")
    await put(database, "http://169.254.169.254/")
    [called] = await Webhooks(database, clock, given()).run_due()
    assert called.state == "failed"
    assert receiver.requests() == []


# ---- several calls, several processes


async def test_two_processes_make_each_call_once(clean_url, database, clock, receiver):
    """A process leaves calls alone that another has claimed."""
    other = await Database.open(clean_url, node="two")
    number = 3 * AT_ONCE
    await put(database, *[receiver.url] * number)
    both = [Webhooks(each, clock, given()) for each in (database, other)]
    done = await asyncio.gather(*(each.run_due() for each in both))
    assert sorted(called.id for some in done for called in some) == list(range(1, number + 1))
    assert sorted(int(head["X-Ticketgate-Delivery"]) for _, head, _ in receiver.requests()) == list(
        range(1, number + 1)
    )
    assert {row.state for row in await rows(database)} == {"sent"}
    await other.close()


async def test_a_call_of_a_process_that_died_is_made_again(
    clean_url, hooks, database, clock, receiver
):
    """After its lease it is repeated with the same identifier; a late result is ignored."""
    other = await Database.open(clean_url, node="two")
    await put(database, receiver.url, key="run:1:call")
    [held] = await Calls(other).claim(10, 60, clock.now())
    assert await hooks.run_due() == []
    clock.advance(timedelta(seconds=61))
    [called] = await hooks.run_due()
    await Calls(other).settle(held.id, "failed", "too late", None)
    await other.close()
    assert (called.state, called.attempts) == ("sent", 2)
    [row] = await rows(database)
    assert (row.state, row.attempts) == ("sent", 2)


async def test_the_service_wakes_and_finishes_its_call_at_stop(hooks, database, receiver):
    """A wake-up starts calls; a call under way at the stop is finished and recorded."""
    stop, wake = asyncio.Event(), Wake()
    running = asyncio.create_task(hooks.serve(stop, wake))
    receiver.gate.clear()
    await put(database, receiver.url)
    wake.notify("webhook")
    await asyncio.to_thread(receiver.came.get, timeout=20)
    stop.set()
    receiver.gate.set()
    async with asyncio.timeout(10):
        await running
    [row] = await rows(database)
    assert row.state == "sent"


async def test_the_log_tells_the_attempt_and_nothing_secret(hooks, database, receiver, free_port):
    """An attempt is one line with the host; no path, query, body or secret at any level."""
    written = io.StringIO()
    log.configure(level="debug", form="json", addresses="hashed", stream=written)
    receiver.answers = [(500, {})]
    await put(
        database,
        receiver.url,
        f"http://127.0.0.1:{free_port}/hook?token=t0ken",
        "http://name:t0ken@127.0.0.1/",
    )
    await hooks.run_due()
    log.configure(level="info", form="json", addresses="hashed", stream=sys.__stderr__)
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    ours = {line["call"]: line for line in lines if line.get("room") == "webhook"}
    assert (ours[1]["event"], ours[1]["to"], ours[1]["attempt"]) == (
        "webhook deferred",
        f"http://127.0.0.1:{receiver.port}",
        1,
    )
    assert len(ours) == len([line for line in lines if line.get("room") == "webhook"]) == 3
    assert not [
        word
        for word in ("t0ken", "hook?", "/hook", SECRET, "Gr\u00fc")
        if word in written.getvalue()
    ]
