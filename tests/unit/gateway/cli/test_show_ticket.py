"""Tests of the sentences for changes of a ticket, with singular and plural."""

from __future__ import annotations

import pytest

from gateway.cli.output import count
from gateway.cli.show_ticket import sentence


@pytest.mark.parametrize(
    ("kind", "before", "after", "detail", "words"),
    [
        ("ticket_created", None, "New", None, "ticket 2 was created in status New"),
        ("status_changed", "New", "Closed", None, "ticket 2: status changed from New to Closed"),
        ("merged", None, "1", None, "ticket 2 was merged into ticket 1"),
        ("merged", "3", None, "ticket 3 was merged into this one", "ticket 2 absorbed ticket 3"),
        ("unmerged", "1", None, None, "ticket 2 was separated from ticket 1 again"),
        ("split", "1", None, "split off ticket 1", "ticket 2 was split off from ticket 1"),
        ("split", None, "3", "mails went to ticket 3", "ticket 2 gave messages to ticket 3"),
        ("deleted", None, None, None, "ticket 2 was moved to the trash"),
        ("restored", None, None, None, "ticket 2 was taken out of the trash"),
        ("priority_changed", None, "high", None, "ticket 2: priority was set to high"),
        ("owner_changed", "a@b.example", None, None, "ticket 2: owner a@b.example was removed"),
        (
            "close_date_changed",
            "2026-01-31",
            "2026-02-01",
            None,
            "ticket 2: close date changed from 2026-01-31 to 2026-02-01",
        ),
        ("rule_skipped", None, None, "forward", "ticket 2: a rule was skipped (forward)"),
        ("remark", None, None, "also sent to a@b.example", "ticket 2: also sent to a@b.example"),
        ("note_added", None, None, None, "ticket 2: a note was added"),
        ("task_added", None, "Call {her}", None, "ticket 2: a task was added: Call {her}"),
        ("contact_removed", "a@b.example", None, None, "ticket 2: a@b.example was removed"),
        ("mail_queued", None, "a@b.example", None, "ticket 2: mail to a@b.example was queued"),
        ("something_else", None, None, None, "ticket 2: something else"),
    ],
)
def test_an_event_is_a_sentence(kind, before, after, detail, words):
    """Each change is a sentence that names the ticket."""
    assert sentence(2, kind, before, after, detail).startswith(words)


def test_singular_and_plural():
    """One ticket, and no or two tickets."""
    assert [count(number, "ticket") for number in (0, 1, 2)] == [
        "0 tickets",
        "1 ticket",
        "2 tickets",
    ]
