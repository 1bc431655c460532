"""Tests that the parts of an installation are built once, from settings, on demand."""

from __future__ import annotations

import subprocess
import sys

import pytest

from config.load import load
from gateway.daemon.assemble import open_installation

HEAVY = ("aiohttp", "aioimaplib", "aiosmtpd", "aiosmtplib", "jinja2", "lxml", "structlog", "uvloop")


@pytest.fixture
def settings(tmp_path):
    """Return the settings of a fresh installation in its own folder."""
    environ = {
        "TICKETGATE_DATABASE__URL": f"sqlite:///{tmp_path}/ticketgate.db",
        "TICKETGATE_BLOBS__URL": f"file://{tmp_path}/blobs",
        "TICKETGATE_DATA__DIRECTORY": str(tmp_path),
        "TICKETGATE_OUTBOUND__FROM_ADDRESS": "desk@example.net",
    }
    return load(None, environ).settings


async def test_parts_are_built_once(settings):
    """All parts share one spool, and the log starts before the first part that writes."""
    started = []
    async with open_installation(settings, {}, lambda: started.append(True)) as installation:
        assert started == []
        accept = await installation.acceptor()
        assert started == [True]
        assert accept._spool is await installation.spool()
        assert installation.tokens is installation.tokens


async def test_identity_and_folders_come_from_the_settings(settings, tmp_path):
    """Mail is sent under the configured name, and large mail goes to a private folder."""
    async with open_installation(settings, {}) as installation:
        assert installation.identity.from_address == "desk@example.net"
        assert installation.identity.zone is installation.zone
        assert installation.incoming == tmp_path / "incoming"
        assert installation.incoming.stat().st_mode & 0o777 == 0o700


async def test_without_a_smarthost_mail_waits(settings):
    """An outbox without ``[outbound] host`` sends nothing."""
    async with open_installation(settings, {}) as installation:
        outbox = installation.outbox()
        assert outbox.smarthost is None
        assert await outbox.run_due() == []


def test_opening_loads_no_heavy_library():
    """What every command imports leaves out the libraries that only few commands need."""
    code = f"import sys, gateway.cli.opening; print(sorted({set(HEAVY)} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
