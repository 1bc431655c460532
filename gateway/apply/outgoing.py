"""Queue mail, notifications, tasks and webhook calls (behaviour.md 2.3, O01 to O15)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from core.decisions import outgoing as o
from core.model.outgoing_mail import Outgoing
from core.model.ticket import Thread
from core.rules import notifications
from core.rules.recipients import first_recipient
from gateway.apply.context import ApplyContext, MailContext, address_of, required
from gateway.apply.people import add_recipients
from gateway.store.tickets.pending_outgoing import (
    CoveredNotice,
    FailedDelivery,
    FailedDraft,
    FinishedTask,
    NoticeRow,
    OutgoingRow,
    ReleasedDraft,
    SentDraft,
    TaskRow,
    WebhookRow,
)
from gateway.store.tickets.threads import MessageRow, RefRow

# ---- mail


def queue_mail(context: ApplyContext, decision: o.QueueMail, mail: MailContext | None) -> None:
    """Put a mail on its thread and into the outbox, or release the draft that it was made from."""
    made, number, outward = decision.mail, decision.ticket, context.unit.outward
    ticket = context.number(number, mail) if number is not None else None
    message = _store_message(context, ticket, made) if made.thread is not None else None
    if made.draft is not None:
        _release_draft(context, ticket, made, made.draft, message)
    else:
        row = _outgoing_row(context, ticket, made, message)
        outward.queue(row, made.recipients, context.unit.allot, state="queued", due_at=context.now)
        outward.covered_notices.extend(
            CoveredNotice(id=each, outgoing_id=row.id) for each in decision.notices
        )
    if ticket is not None and (made.thread is not None or decision.cause.rule == "workflow"):
        recipients = ", ".join(made.recipients)
        context.event(ticket, "mail_queued", decision.cause, after=recipients, detail=made.template)


def _release_draft(
    context: ApplyContext, ticket: int | None, mail: Outgoing, draft: int, message: int | None
) -> None:
    sent = SentDraft(
        id=draft,
        ticket=ticket,
        thread_id=mail.thread.id if mail.thread is not None else None,
        message=message,
        message_id=mail.message_id,
        subject=mail.subject,
        raw=mail.raw,
        return_address=mail.return_address,
    )
    context.unit.outward.sent_drafts.append(sent)
    released = ReleasedDraft(outgoing_id=draft, due_at=context.now)
    context.unit.outward.released_drafts.append(released)


def _outgoing_row(
    context: ApplyContext, ticket: int | None, mail: Outgoing, message: int | None
) -> OutgoingRow:
    return OutgoingRow(
        id=context.unit.allot("outgoing"),
        ticket=ticket,
        thread_id=mail.thread.id if mail.thread is not None else None,
        message=message,
        message_id=mail.message_id,
        automatic=mail.automatic,
        template=mail.template,
        subject=mail.subject,
        author_id=mail.author_id,
        return_address=mail.return_address,
        raw=mail.raw,
        draft=None,
        key=mail.key,
        created_at=context.now,
    )


def _store_message(context: ApplyContext, ticket: int | None, mail: Outgoing) -> int:
    """Store a mail on its thread; recipients of a user's mail become participants (section 5)."""
    unit, thread = context.unit, _thread_of(context, ticket, mail)
    number = unit.allot("message")
    unit.pending.messages.append(_message_row(context, mail, thread, number))
    unit.remember(RefRow(mail.message_id, thread.id, number, forward=mail.kind == "forward"))
    if not mail.automatic:
        add_recipients(context, thread.id, (*mail.to, *mail.cc), proven=True)
    return number


def _message_row(context: ApplyContext, mail: Outgoing, thread: Thread, number: int) -> MessageRow:
    return MessageRow(
        id=number,
        thread_id=thread.id,
        direction="outbound",
        kind=mail.kind,
        sender_role="self" if mail.automatic else "user",
        head={
            "from": address_of(mail.sender),
            "to": [address_of(each) for each in mail.to],
            "cc": [address_of(each) for each in mail.cc],
        },
        subject=mail.subject,
        created_at=context.now,
        text=mail.text,
        reply_text=mail.reply_text or mail.text,
        message_id=mail.message_id,
        parents=mail.parents,
        author_id=mail.author_id,
        date=mail.date,
        attachments=mail.attachments,
    )


def _thread_of(context: ApplyContext, ticket: int | None, mail: Outgoing) -> Thread:
    """Return the thread of a mail. If it is new, store it and add the ticket's requester."""
    unit = context.unit
    if mail.thread is None:
        raise LookupError("the mail to store has no thread")
    if not mail.fresh:
        return context.followed(mail.thread.id)
    attached_at = context.now if ticket is not None else None
    thread = replace(mail.thread, ticket=ticket, attached_at=attached_at)
    unit.set_thread(thread, new=True)
    requester = unit.tickets[ticket].requester_id if ticket is not None else None
    if thread.kind == "normal" and requester is not None:
        unit.set_participant(thread.id, requester, "requester")
    return thread


def relay(context: ApplyContext, decision: o.Relay, mail: MailContext | None) -> None:
    """Queue a reply with the answer that an agent sent us by mail; it goes to the customer (E19).

    The agenda composes the reply at once, as it does for scheduled mail.
    """
    unit, mail, ticket = context.unit, required(mail), decision.ticket
    thread = unit.threads[mail.thread]
    chosen = first_recipient(unit.tickets[ticket], thread, unit.participants[thread.id])
    requester = unit.contacts.get(chosen or 0)
    if requester is None:
        return
    author = unit.desk.users.get(decision.user)
    draft: dict[str, Any] = {
        "act": "reply",
        "ticket": ticket,
        "user": decision.user,
        "text": mail.message.reply_text,
        "to": [requester.address],
        "cc": [],
        "asked": [],
        "thread": mail.thread,
        "files_of": mail.mail_id if mail.message.attachments else None,
    }
    row = OutgoingRow(
        id=unit.allot("outgoing"),
        ticket=ticket,
        thread_id=mail.thread,
        message=None,
        message_id=None,
        automatic=False,
        template=None,
        subject=mail.message.subject,
        author_id=author.id if author is not None else None,
        return_address=None,
        raw=None,
        draft=draft,
        key=f"relay:{mail.mail_id}" if mail.mail_id is not None else None,
        created_at=context.now,
    )
    unit.outward.queue(row, [requester.address], unit.allot, state="scheduled", due_at=context.now)


# ---- deliveries


def fail_delivery(context: ApplyContext, decision: o.FailDelivery) -> None:
    """Mark a delivery as failed, and its contact as unreachable after a hard bounce."""
    unit = context.unit
    failed = FailedDelivery(id=decision.delivery, reply=decision.reply, at=context.now)
    unit.outward.failed.append(failed)
    contact = unit.contact_at(decision.recipient)
    if decision.hard and contact is not None and contact.bounced_at is None:
        unit.set_contact(replace(contact, bounced_at=context.now))


def settle_deliveries(context: ApplyContext, decision: o.SettleDeliveries) -> None:
    """Mark failed deliveries as reported, so that the agenda reports them only once."""
    context.unit.outward.settled.extend(decision.deliveries)


def fail_draft(context: ApplyContext, decision: o.FailDraft) -> None:
    """Fail the scheduled deliveries of a draft; the agenda then reports them on the ticket."""
    context.unit.outward.failed_drafts.append(
        FailedDraft(outgoing_id=decision.outgoing, reply=decision.reason, at=context.now)
    )


# ---- notices, tasks, webhooks


def notify(context: ApplyContext, decision: o.Notify, mail: MailContext | None) -> None:
    """Queue a notification for each user who wants to be told."""
    unit, ticket = context.unit, context.ticket(decision.ticket, mail)
    for user, due_at in notifications.told(
        decision, ticket, unit.desk.users, context.now, context.zone
    ):
        unit.outward.notices.append(
            NoticeRow(
                id=unit.allot("notice"),
                user_id=user.id,
                kind=decision.kind,
                ticket=ticket.number,
                detail=decision.detail,
                thread_id=(mail.thread or None) if mail is not None else None,
                created_at=context.now,
                due_at=due_at,
            )
        )


def drop_notices(context: ApplyContext, decision: o.DropNotices) -> None:
    """Delete notifications that cannot be sent."""
    context.unit.outward.dropped_notices.extend(decision.notices)


def add_task(context: ApplyContext, decision: o.AddTask, mail: MailContext | None) -> None:
    """Add a task to a ticket."""
    ticket = context.number(decision.ticket, mail)
    context.unit.outward.tasks.append(
        TaskRow(
            id=context.unit.allot("task"),
            ticket=ticket,
            text=decision.text,
            due_at=decision.due_at,
            created_at=context.now,
        )
    )
    context.event(ticket, "task_added", decision.cause, after=decision.text)


def finish_task(context: ApplyContext, decision: o.FinishTask) -> None:
    """Mark a task as done."""
    finished = FinishedTask(id=decision.task, done_at=context.now)
    context.unit.outward.finished_tasks.append(finished)
    context.event(decision.ticket, "task_done", decision.cause, after=decision.text)


def call_webhook(context: ApplyContext, decision: o.CallWebhook, mail: MailContext | None) -> None:
    """Queue a call of a webhook with the ticket as it is now."""
    number = context.number(decision.ticket, mail)
    context.unit.outward.calls.append(
        WebhookRow(
            id=context.unit.allot("webhook_call"),
            ticket=number,
            url=decision.url,
            body=json.dumps(_webhook_body(context, decision, number)),
            key=decision.key,
            due_at=context.now,
            created_at=context.now,
        )
    )


def _webhook_body(context: ApplyContext, decision: o.CallWebhook, number: int) -> dict[str, Any]:
    unit, ticket = context.unit, context.unit.tickets[number]
    requester = unit.contacts.get(ticket.requester_id or 0)
    return {
        "event": "workflow",
        "at": context.now.isoformat(),
        "workflow": decision.cause.workflow,
        "action": decision.cause.action,
        "ticket": {
            "number": number,
            "subject": ticket.subject,
            "pipeline": unit.desk.pipelines[ticket.pipeline_id].name,
            "status": context.status_name(ticket),
            "priority": ticket.priority,
            "requester": requester.address if requester is not None else None,
            "tags": list(ticket.tags),
        },
    }
