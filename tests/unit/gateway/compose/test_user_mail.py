"""Tests of the mails of users: the text of a forward."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from gateway.compose.user_mail import forwarded_text
from gateway.store.tickets.threads import MessageRow

SENT = datetime(2026, 11, 21, 10, tzinfo=UTC)
MAIL = MessageRow(
    id=1,
    thread_id=1,
    direction="inbound",
    kind="human",
    sender_role="contact",
    head={
        "from": {"name": "Ann", "address": "ann@example.org"},
        "to": [{"name": "", "address": "desk@help.example"}],
    },
    subject="Toner",
    created_at=SENT,
    text="Empty.",
    reply_text="Empty.",
    date=SENT,
)


def test_a_forward_begins_with_the_headers_of_the_mail():
    """The text of a mail stands below a header block that mail programs read as a forward."""
    assert forwarded_text(MAIL) == (
        "---------- Forwarded message ---------\nFrom: Ann <ann@example.org>\n"
        "Date: 2026-11-21T10:00:00+00:00\nSubject: Toner\nTo: desk@help.example\n\nEmpty."
    )


def test_a_forward_of_a_mail_without_a_date_has_no_date_line():
    """A header that the mail did not have is left out, not shown empty."""
    assert forwarded_text(replace(MAIL, date=None)) == (
        "---------- Forwarded message ---------\nFrom: Ann <ann@example.org>\n"
        "Subject: Toner\nTo: desk@help.example\n\nEmpty."
    )
