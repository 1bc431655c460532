"""Show a ticket and its history at a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from gateway.cli.output import facts, paragraph, say, table

PREDICATES = {  # of the subject "ticket N", by event type; {0} is the value after, or before
    "ticket_created": "was created in status {0}",
    "deleted": "was moved to the trash",
    "restored": "was taken out of the trash",
}
PREDICATES_BEFORE = {  # of events that have a value before
    "merged": "absorbed ticket {0}",
    "unmerged": "was separated from ticket {0} again",
    "split": "was split off from ticket {0}",
}
PREDICATES_AFTER = {  # of events that have a value after
    "merged": "was merged into ticket {0}",
    "unmerged": "gave ticket {0} back",
    "split": "gave messages to ticket {0}",
    "thread_attached": "received thread {0}",
}
CLAUSES = {  # full clauses, by event type
    "note_added": "a note was added",
    "contact_added": "{0} was added to its people",
    "contact_approved": "{0} was approved as a participant",
    "contact_removed": "{0} was removed from its people",
    "mail_queued": "mail to {0} was queued",
    "mail_cancelled": "mail to {0} was cancelled",
    "mail_retried": "mail to {0} was queued again",
    "task_added": "a task was added: {0}",
    "task_done": "a task was done: {0}",
    "rule_skipped": "a rule was skipped",
    "erased": "the data of a person was erased",
}


def sentence(
    ticket: int, kind: str, before: str | None, after: str | None, detail: str | None
) -> str:
    """Return an event of a ticket as one sentence that names the ticket."""
    words, is_predicate = _describe(kind, before, after, detail)
    return paragraph(f"ticket {ticket}{'' if is_predicate else ':'} {words}")


def _describe(
    kind: str, before: str | None, after: str | None, detail: str | None
) -> tuple[str, bool]:
    """Return the words for an event, and whether they can follow "ticket N" directly.

    If they cannot, put a colon between "ticket N" and the words.
    """
    predicate = PREDICATES.get(kind) or (
        PREDICATES_AFTER.get(kind) if after is not None else PREDICATES_BEFORE.get(kind)
    )
    detail = None if kind in PREDICATES_BEFORE else detail  # it repeats the predicate
    words = (predicate or CLAUSES.get(kind, "")).format(after if after is not None else before)
    if not words and kind == "remark" and detail:
        return detail, False
    if not words:
        words = _change(kind.replace("_", " "), before, after)
    return f"{words} ({detail})" if detail else words, predicate is not None


def _change(what: str, before: str | None, after: str | None) -> str:
    """Return the words for a field whose value changed."""
    field = what.removesuffix(" changed")
    if before is not None and after is not None:
        return f"{what} from {before} to {after}"
    if after is not None:
        return f"{field} was set to {after}"
    return f"{field} {before} was removed" if before is not None else what


def show_ticket(shown: dict[str, Any]) -> None:
    """Print a ticket: its fields, its messages, its tasks and its history."""
    facts(_fields(shown))
    for thread in shown["threads"]:
        say(f"\nThread {thread['id'] or '-'}{' (origin)' if thread['origin'] else ''}")
        for message in thread["messages"]:
            _show_message(message)
    for task in shown["tasks"]:
        due = f", due {task['due_at']:%Y-%m-%d %H:%M}" if task["due_at"] else ""
        say(
            paragraph(f"\nTask {task['id']}{' (done)' if task['done_at'] else due}: {task['text']}")
        )
    say()
    _show_history(shown["events"])


def _fields(shown: dict[str, Any]) -> Iterator[tuple[str, object]]:
    requester = shown["requester"]
    people = (f"{each['address']} ({each['role']})" for each in shown["participants"])
    yield "Ticket", f"{shown['number']}  {shown['subject']}"
    yield "Status", f"{shown['status']} ({shown['pipeline']}, {shown['status_state']})"
    yield "Requester", _person(requester) if requester else None
    yield "People", ", ".join(people)
    yield "Owner", shown["owner"]
    yield "Priority", shown["priority"]
    yield "Source", shown["source"]
    yield "Created", _time(shown["created_at"])
    yield "Close date", shown["close_date"]
    yield "Reopened", shown["reopened_count"] or None
    yield "Flags", ", ".join(shown["flags"])
    yield "Links", ", ".join(f"{each['number']} ({each['kind']})" for each in shown["links"])
    yield "Reply to", shown["reply_address"]
    yield "Trash", "since " + _time(shown["deleted_at"]) if shown["deleted_at"] else None


def _show_message(message: dict[str, Any]) -> None:
    sender, at = message["from"] or {}, _time(message["date"] or message["received_at"])
    who = sender.get("address") or sender.get("name") or ""
    say(f"\n  {at}  {message['direction']}  {who}")
    for each in message["deliveries"]:
        unsent = each["last_reply"] and each["state"] != "sent"
        why = f" ({each['last_reply']})" if unsent else ""
        say(paragraph(f"  to {each['recipient']}: {each['state']}{why}"))
    text = message["reply_text"] or message["text"]
    say(paragraph("\n".join(f"    {line}" for line in text.splitlines())))


def _show_history(events: list[dict[str, Any]]) -> None:
    table(
        ("At", "By", "What happened", "Rule"),
        (
            (
                _time(each["at"]),
                each["actor"],
                _describe(each["type"], each["before"], each["after"], each["detail"])[0],
                each["cause"]["rule"],
            )
            for each in events
        ),
    )


def _person(given: dict[str, str]) -> str:
    return f"{given['name']} <{given['address']}>" if given["name"] else given["address"]


def _time(given: str) -> str:
    """Return an instant as text, to the second."""
    return datetime.fromisoformat(given).isoformat(" ", "seconds")
