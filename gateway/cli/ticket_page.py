"""A ticket, and what happened to it, as a person reads it at a terminal. Nothing can go wrong here."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from gateway.cli.output import facts, paragraph, table


def sentence(kind: str, before: str | None, after: str | None, detail: str | None) -> str:
    """One entry of a history."""
    change = (
        f" {before or 'none'} -> {after or 'none'}"
        if before is not None or after is not None
        else ""
    )
    return paragraph(f"{kind.replace('_', ' ')}{change}{f' ({detail})' if detail else ''}")


def page(shown: dict[str, Any]) -> None:
    """A ticket for a person at a terminal."""
    requester = shown["requester"]
    facts(
        (
            ("Ticket", f"{shown['number']}  {shown['subject']}"),
            ("Status", f"{shown['status']} ({shown['pipeline']}, {shown['status_state']})"),
            ("Requester", _person(requester) if requester else None),
            (
                "People",
                ", ".join(f"{each['address']} ({each['role']})" for each in shown["participants"]),
            ),
            ("Owner", shown["owner"]),
            ("Priority", shown["priority"]),
            ("Source", shown["source"]),
            ("Created", _time(shown["created_at"])),
            ("Close date", shown["close_date"]),
            ("Reopened", shown["reopened_count"] or None),
            ("Flags", ", ".join(shown["flags"])),
            ("Links", ", ".join(f"{each['number']} ({each['kind']})" for each in shown["links"])),
            ("Reply to", shown["reply_address"]),
            ("Trash", "since " + _time(shown["deleted_at"]) if shown["deleted_at"] else None),
        )
    )
    for thread in shown["threads"]:
        print(f"\nThread {thread['id'] or '-'}{' (origin)' if thread['origin'] else ''}")
        for message in thread["messages"]:
            sender = message["from"] or {}
            print(
                f"\n  {_time(message['date'] or message['received_at'])}  "
                f"{message['direction']}  {sender.get('address') or sender.get('name') or ''}"
            )
            for each in message["deliveries"]:
                why = (
                    f" ({each['last_reply']})"
                    if each["last_reply"] and each["state"] != "sent"
                    else ""
                )
                print(paragraph(f"  to {each['recipient']}: {each['state']}{why}"))
            print(
                paragraph(
                    "\n".join(
                        f"    {line}"
                        for line in (message["reply_text"] or message["text"]).splitlines()
                    )
                )
            )
    for task in shown["tasks"]:
        due = f", due {task['due_at']:%Y-%m-%d %H:%M}" if task["due_at"] else ""
        print(
            paragraph(f"\nTask {task['id']}{' (done)' if task['done_at'] else due}: {task['text']}")
        )
    print()
    table(
        ("At", "What", "By", "Before", "After", "Because"),
        (
            (
                _time(each["at"]),
                each["type"],
                each["actor"],
                each["before"],
                each["after"],
                each["detail"] or each["cause"]["rule"],
            )
            for each in shown["events"]
        ),
    )


def _person(given: dict[str, str]) -> str:
    return f"{given['name']} <{given['address']}>" if given["name"] else given["address"]


def _time(given: str) -> str:
    """An instant to the second."""
    return datetime.fromisoformat(given).isoformat(" ", "seconds")
