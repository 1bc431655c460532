"""Tests of `ticketgate channel login`: messages, JSON and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from urllib.request import ProxyHandler, build_opener

import pytest

from tests.servers.tokens import ACCOUNT, CLIENT, SECRET, refusal, token_server

ROOT = Path(__file__).parents[4]
BROWSER = build_opener(ProxyHandler({}))
CHANNEL = "support@localhost"


@pytest.fixture
def provider():
    """Start a fake OAuth provider."""
    with token_server(interval=0.01) as server:
        yield server


@pytest.fixture
def configure(cli, provider):
    """Return a function that configures ``desk`` at the provider, and ``old`` with a password."""

    def write(grant="device_code", **more):
        box = 'host = "127.0.0.1"\nusername = "desk@example.org"\nchannel = "support@localhost"\n'
        client = {
            "name": "provider",
            "provider": "custom",
            "client_id": CLIENT,
            "client_secret": SECRET,
            "grant": grant,
        }
        table = "".join(
            f'{name} = "{value}"\n' for name, value in (client | provider.places | more).items()
        )
        (cli.folder / "ticketgate.toml").write_text(
            f'[[oauth]]\n{table}\n[[imap]]\nname = "desk"\n{box}oauth = "provider"\n'
            f'[[imap]]\nname = "old"\n{box}password = "s3cret"\nfolder = "Old"\n'
        )

    write()
    return write


@contextmanager
def running(*arguments):
    """Run the command in a process of its own; its output is read line by line."""
    command = [sys.executable, "-u", "-m", "gateway.cli.main", "channel", "login", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes: dict[str, Any] = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }
    # A shell that runs the tests in the background ignores SIGINT, which children inherit.
    pipes["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def address_in(stream):
    """Return the first line that is an address."""
    return next(line.strip() for line in stream if line.startswith("http"))


def access(cli):
    """Return the access health of the mailbox in `channel list`, which needs no daemon."""
    [channel] = cli.json("channel", "list")["channels"]
    return next(box["detail"] or "" for box in channel["mailboxes"] if box["name"] == "desk")


def test_a_device_code_is_shown_and_awaited(cli, configure, provider):
    """The command shows the code, waits and reports success; the list then asks for nothing."""
    assert "nobody has signed in" in access(cli)
    provider.types_at_once = ACCOUNT
    done = cli("channel", "login", "desk")
    assert done.code == 0, done.err
    assert (
        f"Open {provider.url}/activate in a browser, sign in as {ACCOUNT}, and type in the "
        "code ABCD-0001"
    ) in done.text
    assert "desk: access granted. To try it: ticketgate channel test desk" in done.text
    assert "nobody has signed in" not in access(cli)


def test_json_is_one_document_and_the_rest_goes_to_stderr(cli, configure, provider):
    """JSON has mailbox, client, account and end of access; stderr shows the code."""
    provider.types_at_once = ACCOUNT
    done = cli("channel", "login", "desk", "--json")
    assert done.json == {
        "mailbox": "desk",
        "client": "provider",
        "account": ACCOUNT,
        "ok": True,
        "access_until": "2026-11-22T11:00:00+00:00",
    }
    assert "ABCD-0001" in done.err


def test_client_credentials_are_tried(cli, configure, provider):
    """Client credentials need no person: a token is fetched and reported."""
    configure("client_credentials")
    done = cli("channel", "login", "desk")
    assert (done.code, "access granted" in done.text) == (0, True)
    assert provider.calls["client_credentials"] == 1


def test_a_password_mailbox_has_nothing_to_sign_in_to(cli, configure, provider):
    """A password mailbox is no error: the command says so, and how to test it."""
    done = cli("channel", "login", "old")
    assert done.code == 0
    assert done.text == (
        "old signs in with a password: nothing to do here. To try it: ticketgate channel test old\n"
    )
    assert cli.json("channel", "login", "old")["client"] is None


def test_a_channel_signs_in_to_each_of_its_mailboxes(cli, configure, provider):
    """A channel's address signs in to each of its mailboxes in turn; one JSON line for each."""
    provider.types_at_once = ACCOUNT
    done = cli("channel", "login", CHANNEL, "--json")
    assert [json.loads(line)["mailbox"] for line in done.text.splitlines()] == ["desk", "old"]


def test_an_unknown_name_lists_the_known_ones(cli, configure):
    """An unknown mailbox ends with 64 and the names of the known ones."""
    done = cli("channel", "login", "dsek")
    assert done.code == os.EX_USAGE
    assert (
        done.err
        == "ticketgate: no mailbox 'dsek' in the configuration; [[imap]] tables: desk, old\n"
    )


@pytest.mark.parametrize("error", ["access_denied", "invalid_client"])
def test_a_refusal_is_65(cli, configure, provider, error):
    """A refusal by the person or the provider is one line on stderr."""
    provider.replies = [refusal(error)]
    done = cli("channel", "login", "desk")
    assert (done.code, done.text) == (os.EX_DATAERR, "")
    assert done.err.count("\n") == 1
    assert error in done.err


def test_a_provider_that_is_away_is_75(cli, configure, free_port):
    """A provider that does not answer ends with 75."""
    configure(device_url=f"http://127.0.0.1:{free_port}/device")
    done = cli("channel", "login", "desk")
    assert done.code == os.EX_TEMPFAIL
    assert "connection refused" in done.err


def test_the_browser_of_this_machine(cli, configure, provider):
    """The command shows the address, the browser returns by itself, success is reported."""
    configure("authorization_code")
    with running("desk") as process:
        url = address_in(process.stdout)
        with BROWSER.open(url, timeout=20) as page:
            assert "You may close this window" in page.read().decode()
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert "desk: access granted." in out


@pytest.mark.parametrize("is_right", [True, False])
def test_the_browser_of_another_machine(cli, configure, provider, is_right):
    """--paste asks for the address the browser ended at, and refuses a wrong one."""
    configure("authorization_code")
    with running("desk", "--paste") as process:
        url = address_in(process.stdout)
        ended_at = (
            provider.authorize(dict(parse_qsl(urlsplit(url).query)))
            if is_right
            else "http://localhost:8400/?code=a&state=b"
        )
        out, err = process.communicate(f"{ended_at}\n", timeout=30)
    assert "Paste the address of that page here" in err
    if is_right:
        assert (process.returncode, "desk: access granted." in out) == (0, True)
    else:
        assert (process.returncode, "no answer to this sign-in" in err) == (os.EX_DATAERR, True)


@pytest.mark.parametrize("options", [("desk",), ("desk", "--paste")])
def test_ctrl_c_ends_it_cleanly(cli, configure, options):
    """Ctrl-C leaves no traceback and no process."""
    configure("authorization_code")
    with running(*options) as process:
        address_in(process.stdout)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode not in {0, None, -signal.SIGKILL}
    assert "Traceback" not in err
    assert "nobody has signed in" in access(cli)


def test_without_an_answer_the_prompt_keeps_its_own_line(cli, configure, provider):
    """--paste with an empty stdin: the prompt and the end of the command stand on two lines."""
    configure("authorization_code")
    done = cli("channel", "login", "desk", "--paste")
    assert done.code == 1
    assert done.err.splitlines()[-2:] == [
        "Paste the address of that page here:",
        "ticketgate: aborted",
    ]
