"""Tests of the log: what it shows of a mail, and what it hides."""

from __future__ import annotations

import io
import json
import logging

import pytest

from gateway import log, maillog
from gateway.errors import Refused

PERSON = "Erika.Mustermann@example.org"


@pytest.fixture
def stream():
    """Capture the log of the test; reset logging afterwards."""
    target = io.StringIO()
    log.configure(level="info", form="json", addresses="hashed", stream=target)
    yield target
    log.configure(level="error", form="json", addresses="hashed")


def lines(stream: io.StringIO) -> list[dict]:
    """Return the lines of the log so far, as data."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_mail_has_one_canonical_line(stream):
    """A processed mail leaves one line at the default level."""
    maillog.queued(mail_id=7, source="smtp", size=4711, peer="192.0.2.1")
    maillog.processed(
        mail_id=7,
        state="done",
        kind="human",
        ticket=3,
        thread=9,
        rule="in_reply_to",
        sender=PERSON,
        size=4711,
    )
    (line,) = lines(stream)
    assert {
        name: line[name]
        for name in ("event", "mail_id", "state", "kind", "ticket", "thread", "rule", "size")
    } == {
        "event": "processed",
        "mail_id": 7,
        "state": "done",
        "kind": "human",
        "ticket": 3,
        "thread": 9,
        "rule": "in_reply_to",
        "size": 4711,
    }
    assert line["at"].endswith("Z")


def test_every_log_function_writes_its_line(stream):
    """Each function of the log vocabulary writes one line under its own name."""
    maillog.refused(source="smtp", reason_code="unknown_user", peer="192.0.2.1", address=PERSON)
    maillog.failed(source="smtp", error_id="e1", exc=ValueError("body"))
    maillog.held(mail_id=1, reason="parser failed twice", exc=ValueError("body"))
    maillog.duplicate(mail_id=2, original=1)
    maillog.released(mail_id=1, actor=PERSON)
    maillog.retried(mail_id=1, actor=PERSON)
    maillog.discarded(mail_id=1, actor=PERSON)
    maillog.moved(ticket=1, before="New", after="Closed", rule="user")
    words = ["refused", "failed", "held", "duplicate", "released", "retried", "discarded", "moved"]
    assert [line["event"] for line in lines(stream)] == words
    assert "Erika" not in stream.getvalue()
    assert "body" not in stream.getvalue()


def test_addresses_are_hashed_and_can_be_followed(stream):
    """An address is the same hash in all lines, in any spelling, and is not readable."""
    assert log.address(PERSON) == log.address(PERSON.lower())
    assert log.address("other@example.org") != log.address(PERSON)
    assert "example" not in log.address(PERSON)
    assert log.address(None) is None


@pytest.mark.parametrize(("addresses", "shown"), [("domain", "~@example.org"), ("full", PERSON)])
def test_addresses_are_shown_as_configured(stream, addresses, shown):
    """An operator may choose to see domains or whole addresses."""
    log.configure(level="info", form="json", addresses=addresses, stream=stream)
    assert log.address(PERSON) == shown


def test_a_sentence_with_an_address_is_redacted(stream):
    """Addresses in a reason are redacted."""
    text = log.redact(f"no channel for <{PERSON}>, tried twice")
    assert text == f"no channel for <{log.address(PERSON)}>, tried twice"


def test_the_text_of_foreign_errors_is_not_logged(stream):
    """Foreign errors are logged by type and place, our own with their text."""
    try:
        raise ValueError("invalid literal: 'the whole body of a mail'")
    except ValueError as error:
        maillog.failed(source="intake", error_id="e2", exc=error)
    maillog.failed(source="cli", error_id="e3", exc=Refused("there is no ticket 9"))
    foreign, ours = lines(stream)
    assert foreign["error"] == "ValueError"
    assert foreign["where"][-1].startswith("gateway/test_log.py:")
    assert "whole body" not in stream.getvalue()
    assert ours["why"] == "there is no ticket 9"


def test_the_errno_of_an_error_is_logged(stream):
    """The errno of an operating system's error is logged."""
    maillog.failed(source="smtp", error_id="e4", exc=OSError(28, "No space left on device"))
    assert lines(stream)[0]["errno"] == 28


@pytest.mark.parametrize(
    "library", ["mail.log", "aioimaplib.aioimaplib", "sqlalchemy.engine", "asyncio"]
)
@pytest.mark.parametrize("level", ["debug", "info"])
def test_libraries_are_held_at_warning(stream, library, level):
    """Mail libraries stay at WARNING, whatever the level."""
    log.configure(level=level, form="json", addresses="hashed", stream=stream)
    logger = logging.getLogger(library)
    logger.debug("body: %s", "Dear Sir")
    logger.info("%r sender: %s", ("192.0.2.1", 25), PERSON)
    assert stream.getvalue() == ""
    logger.warning("something about %s", PERSON)
    (line,) = lines(stream)
    assert (line["library"], line["template"]) == (library, "something about %s")
    assert "Erika" not in stream.getvalue()


def test_a_traceback_of_a_library_shows_no_text(stream):
    """An exception that a library logs appears as type and place."""
    try:
        raise RuntimeError("AUTH PLAIN AGVyaWthAGh1bnRlcjI=")
    except RuntimeError:
        logging.getLogger("mail.log").exception("session failed")
    (line,) = lines(stream)
    assert (line["error"], line["template"]) == ("RuntimeError", "session failed")
    assert "AGVy" not in stream.getvalue()


def test_our_own_exc_info_shows_no_text(stream):
    """The structlog argument ``exc_info=True`` shows no text of the error either."""
    try:
        raise KeyError("subject of a mail")
    except KeyError:
        log.logger("room").error("broken", exc_info=True)
    assert lines(stream)[0]["error"] == "KeyError"
    assert "subject" not in stream.getvalue()


def test_pretty_is_for_people(stream):
    """With ``pretty`` the log is text instead of JSON."""
    log.configure(level="info", form="pretty", addresses="hashed", stream=stream)
    maillog.moved(ticket=1, before="New", after="Closed", rule="user")
    assert "moved" in stream.getvalue()
    assert not stream.getvalue().startswith("{")
