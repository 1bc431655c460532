"""Tests of the health listener: ready, degraded, and metrics for Prometheus."""

from __future__ import annotations

import asyncio
import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.errors import StoreUnavailable
from gateway.web.health import Health, HealthReport
from gateway.web.metrics import Figure


async def answer(path, report=None, figures=(), error=None, method="GET"):
    """Return status line and body of one request."""

    async def check():
        return report

    async def measure():
        if error is not None:
            raise error
        return figures

    health = Health("127.0.0.1", 0, check, measure)
    await health.start()
    port = health._server.sockets[0].getsockname()[1]
    stop = asyncio.Event()
    running = asyncio.create_task(health.run(stop))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    whole = await reader.read()
    writer.close()
    await writer.wait_closed()
    stop.set()
    await running
    head, _, body = whole.partition(b"\r\n\r\n")
    return head.split(b"\r\n")[0].decode().split(" ", 1)[1], body.decode()


@pytest.mark.parametrize(
    ("report", "status", "word"),
    [
        (HealthReport({"database": "ok"}), "200 OK", "ok"),
        (HealthReport({"database": "ok"}, {"desk": "ok"}), "200 OK", "ok"),
        (
            HealthReport({"database": "ok"}, {"desk": "the login was refused", "sales": "ok"}),
            "200 OK",
            "degraded",
        ),
        (HealthReport({"database": "away"}, {}), "503 Service Unavailable", "not ready"),
    ],
)
async def test_a_failing_mailbox_is_reported_as_degraded(report, status, word):
    """Without a database it is not ready; with a failing mailbox it is ready and degraded."""
    line, body = await answer("/readyz", report)
    told = json.loads(body)
    assert (line, told["status"]) == (status, word)
    assert (told["parts"], told["mailboxes"]) == (dict(report.parts), dict(report.mailboxes))


async def test_metrics_are_what_prometheus_reads():
    """Metrics of one name are one family, with labels that hold any name."""
    strange = 'a "quoted"\\ näme\n'
    figures = [
        Figure("up", "whether", 1.0, {"mailbox": "desk"}),
        Figure("pending", "how many", 7),
        Figure("up", "whether", 0.0, {"mailbox": strange}),
    ]
    line, body = await answer("/metrics", figures=figures)
    families = {family.name: family for family in text_string_to_metric_families(body)}
    assert line == "200 OK"
    assert {(sample.labels["mailbox"], sample.value) for sample in families["up"].samples} == {
        ("desk", 1.0),
        (strange, 0.0),
    }
    assert [sample.value for sample in families["pending"].samples] == [7.0]


async def test_metrics_without_a_database_are_503():
    """Without a database the metrics are 503."""
    line, body = await answer("/metrics", error=StoreUnavailable("the database does not answer"))
    assert (line, json.loads(body)["status"]) == (
        "503 Service Unavailable",
        "the database does not answer",
    )


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/livez", "GET", "200 OK"),
        ("/livez", "HEAD", "200 OK"),
        ("/other", "GET", "404 Not Found"),
        ("/livez", "POST", "404 Not Found"),
    ],
)
async def test_other_requests(path, method, status):
    """/livez takes GET and HEAD; any other path or method is 404."""
    assert (await answer(path, method=method))[0] == status
