"""Mail into the outbox, runs of workflows, and words to users: the part of
:mod:`gateway.apply.applier` that looks outward; nobody else uses it.

It changes no ticket. What can go wrong: a run that is moved and is not in the book (LookupError), a
mistake of ours that undoes the transaction.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import Any, assert_never

from core.decisions import outgoing as o
from core.events import Cause
from core.model.delay import Awaited
from core.model.message import Address
from core.model.outgoing_mail import Outgoing
from core.model.ticket import Thread
from core.model.workflow import START, Enrolment
from core.rules import notifications
from core.workflow.run import reached
from gateway.apply.threads import Filing, MailContext, address_of, held
from gateway.store.setup.workflows import ActionRun
from gateway.store.tickets.pending_outgoing import OutgoingRow
from gateway.store.tickets.threads import MessageRow
from gateway.store.tickets.unit_of_work import UnitOfWork


class Posting(Filing):
    """Works on a book, like :class:`Filing`. ``zone`` is the account's, for digests."""

    def __init__(
        self, unit: UnitOfWork, now: datetime, actor: str = "system", zone: tzinfo = UTC
    ) -> None:
        super().__init__(unit, now, actor)
        self.zone = zone

    # one arm a decision, that is the point
    def _post(self, decision: o.Outward, hand: MailContext | None) -> None:  # noqa: C901, PLR0912
        """Perform a decision that looks outward."""
        match decision:
            case o.QueueMail(ticket=ticket, mail=mail, cause=cause):
                self._queue(self._number(ticket, hand) if ticket is not None else None, mail, cause)
            case o.Relay(ticket=ticket, user=user):
                self._relay(ticket, user, held(hand))
            case o.Enrol(ticket=ticket):
                self._enrol(self._number(ticket, hand), decision)
            case o.MoveRun():
                self._move_run(decision)
            case o.FinishRun():
                self._finish_run(decision)
            case o.CancelRuns(ticket=ticket, reason=reason):
                self._cancel_runs(ticket, reason)
            case o.WakeRuns(ticket=ticket, event=event):
                self._wake_runs(self._number(ticket, hand), event)
            case o.RecordRun(ticket=ticket):
                self._record(self._number(ticket, hand), decision)
            case o.Notify(ticket=ticket):
                self._notify(self._number(ticket, hand), decision)
            case o.FailDelivery():
                self._fail_delivery(decision)
            case o.SettleDeliveries(deliveries=deliveries):
                self.unit.outward.settled.extend({"_id": each} for each in deliveries)
            case o.AddTask(ticket=ticket):
                self._task(self._number(ticket, hand), decision)
            case o.FinishTask(ticket=ticket, task=task, text=text, cause=cause):
                self.unit.outward.done_tasks.append({"_id": task, "_done_at": self.now})
                self._event(ticket, "task_done", cause, after=text)
            case o.CallWebhook(ticket=ticket):
                self._webhook(self._number(ticket, hand), decision)
            case _:
                assert_never(decision)

    # ---- mail

    def _queue(self, ticket: int | None, mail: Outgoing, cause: Cause) -> None:
        unit, outward = self.unit, self.unit.outward
        row = self._write(ticket, mail) if mail.thread is not None else None
        thread = mail.thread.id if mail.thread is not None else None
        if mail.draft is not None:
            values: dict[str, Any] = {
                "ticket": ticket,
                "thread_id": thread,
                "message": row,
                "message_id": mail.message_id,
                "subject": mail.subject,
            }
            values["return_address"] = mail.return_address
            outward.drafts.append(
                {
                    "_id": mail.draft,
                    "_raw": mail.raw,
                    **{f"_{name}": value for name, value in values.items()},
                }
            )
            outward.released.append({"_outgoing": mail.draft, "_due": self.now})
        else:
            made = OutgoingRow(
                unit.allot("outgoing"),
                ticket,
                thread,
                row,
                mail.message_id,
                mail.automatic,
                mail.template,
                mail.subject,
                mail.author_id,
                mail.return_address,
                mail.raw,
                None,
                mail.key,
                self.now,
            )
            outward.queue(made, mail.recipients, unit.allot, state="queued", due_at=self.now)
        if ticket is not None and (mail.thread is not None or cause.rule == "workflow"):
            self._event(
                ticket, "mail_queued", cause, after=", ".join(mail.recipients), detail=mail.template
            )

    def _write(self, ticket: int | None, mail: Outgoing) -> int:
        """The message on its thread, with the people it names and the ids by which answers find it."""
        unit, thread = self.unit, self._thread_of(ticket, mail)
        number = unit.allot("message")
        unit.pending.messages.append(
            MessageRow(
                number,
                thread.id,
                "outbound",
                mail.kind,
                "self" if mail.automatic else "user",
                {
                    "from": address_of(mail.sender),
                    "to": [address_of(each) for each in mail.to],
                    "cc": [address_of(each) for each in mail.cc],
                },
                mail.subject,
                self.now,
                mail.text,
                mail.reply_text or mail.text,
                message_id=mail.message_id,
                parents=mail.parents,
                author_id=mail.author_id,
                date=mail.date,
                attachments=mail.attachments,
            )
        )
        unit.remember(mail.message_id, thread.id, number, forward=mail.kind == "forward")
        if not mail.automatic:
            self._address((*mail.to, *mail.cc), thread)
        return number

    def _thread_of(self, ticket: int | None, mail: Outgoing) -> Thread:
        if mail.thread is None:
            raise LookupError("a mail without a thread stands nowhere")
        if not mail.fresh:
            return self._followed(mail.thread.id)
        thread = replace(
            mail.thread, ticket=ticket, attached_at=self.now if ticket is not None else None
        )
        self.unit.set_thread(thread, new=True)
        if (
            ticket is not None
            and thread.kind == "normal"
            and (requester := self.unit.tickets[ticket].requester_id) is not None
        ):
            self.unit.set_participant(thread.id, requester, "requester")
        return thread

    def _address(self, people: tuple[Address, ...], thread: Thread) -> None:
        """Whom a user writes to takes part in that thread, and is known from then on (section 5,
        acknowledgements).
        """
        for each in people:
            if each.address and not self._ours(each.key):
                contact = self.unit.ensure_contact(each.address, each.name)
                self.unit.set_participant(thread.id, contact.id, "participant")
                if not contact.proven:
                    self.unit.set_contact(replace(self.unit.contacts[contact.id], proven=True))

    def _relay(self, ticket: int, user: str, hand: MailContext) -> None:
        """The agent's answer becomes a reply that is due at once; whoever sends those does the rest
        (E19).
        """
        unit = self.unit
        requester = unit.contacts.get(unit.tickets[ticket].requester_id or 0)
        if requester is None:
            return
        draft: dict[str, Any] = {
            "act": "reply",
            "ticket": ticket,
            "user": user,
            "text": hand.message.reply_text,
            "to": [requester.address],
            "cc": [],
            "thread": hand.thread,
            "files_of": hand.mail_id if hand.message.attachments else None,
        }
        author = unit.desk.users.get(user)
        row = OutgoingRow(
            unit.allot("outgoing"),
            ticket,
            hand.thread,
            None,
            None,
            False,
            None,
            hand.message.subject,
            author.id if author is not None else None,
            None,
            None,
            draft,
            f"relay:{hand.mail_id}" if hand.mail_id is not None else None,
            self.now,
        )
        unit.outward.queue(row, [requester.address], unit.allot, state="scheduled", due_at=self.now)

    def _fail_delivery(self, decision: o.FailDelivery) -> None:
        unit = self.unit
        unit.outward.failed.append(
            {"_id": decision.delivery, "_reply": decision.reply, "_at": self.now}
        )
        contact = unit.contact_at(decision.recipient)
        if decision.hard and contact is not None and contact.bounced_at is None:
            unit.set_contact(replace(contact, bounced_at=self.now))

    def _notify(self, ticket: int, decision: o.Notify) -> None:
        unit = self.unit
        for user, due_at in notifications.told(
            decision, unit.tickets[ticket], unit.desk.users, self.now, self.zone
        ):
            notice = {
                "user_id": user.id,
                "kind": decision.kind,
                "ticket": ticket,
                "detail": decision.detail,
            }
            unit.outward.notices.append(
                {"id": unit.allot("notice"), **notice, "created_at": self.now, "due_at": due_at}
            )

    # ---- runs

    def _enrol(self, ticket: int, decision: o.Enrol) -> None:
        cause = {
            name: value
            for name in ("rule", "message_id", "workflow", "action", "user")
            if (value := getattr(decision.cause, name))
        }
        if decision.began is not None:
            cause["began"] = decision.began
        self.unit.set_enrolment(
            Enrolment(
                self.unit.allot("enrolment"),
                decision.workflow,
                ticket,
                "ACTIVE",
                START,
                self.now,
                self.now,
                self.now,
                silent=decision.silent,
                chain=decision.chain,
                cause=cause,
            ),
            new=True,
        )

    def _run(self, number: int) -> Enrolment:
        for runs in self.unit.enrolments.values():
            for each in runs:
                if each.id == number:
                    return each
        raise LookupError(f"enrolment {number} is not in the book")

    def _move_run(self, decision: o.MoveRun) -> None:
        run = self._run(decision.enrolment)
        self.unit.set_enrolment(
            replace(
                run,
                place=decision.place,
                due_at=decision.due_at,
                entered_at=decision.entered_at,
                wait_for=decision.wait_for,
                attempts=decision.attempts,
            )
        )

    def _finish_run(self, decision: o.FinishRun) -> None:
        run = self._run(decision.enrolment)
        if run.state == "ACTIVE":
            self.unit.set_enrolment(
                replace(
                    run,
                    state=decision.state,
                    ended_at=self.now,
                    due_at=None,
                    end_reason=decision.reason,
                )
            )

    def _cancel_runs(self, ticket: int, reason: str) -> None:
        for run in list(self.unit.enrolments.get(ticket, ())):
            self._finish_run(o.FinishRun(run.id, "UNENROLLED", reason))

    def _wake_runs(self, ticket: int, event: Awaited) -> None:
        by_id = {each.id: each for each in self.unit.desk.workflows.values()}
        for run in list(self.unit.enrolments.get(ticket, ())):
            if run.state == "ACTIVE" and run.wait_for == event:
                self.unit.set_enrolment(replace(run, due_at=self.now, wait_for=None))
            elif (workflow := by_id.get(run.workflow_id)) is not None and (
                delay := reached(workflow.graph, run, event, self.now)
            ):
                self._record(
                    ticket,
                    o.RecordRun(
                        workflow.id,
                        workflow.version,
                        ticket,
                        run.id,
                        delay,
                        "OK",
                        "what it waits for came",
                    ),
                )
                self.unit.set_enrolment(
                    replace(run, place=delay, due_at=self.now, entered_at=run.due_at or self.now)
                )

    def _record(self, ticket: int, decision: o.RecordRun) -> None:
        run = ActionRun(
            self.unit.allot("action_run"),
            decision.workflow,
            decision.enrolment,
            ticket,
            decision.action,
            decision.version,
            decision.outcome,
            decision.detail,
            self.now,
            decision.key,
        )
        self.unit.outward.runs.append(run)

    def _task(self, ticket: int, decision: o.AddTask) -> None:
        row = {
            "id": self.unit.allot("task"),
            "ticket": ticket,
            "text": decision.text,
            "due_at": decision.due_at,
            "created_at": self.now,
        }
        self.unit.outward.tasks.append(row)
        self._event(ticket, "task_added", decision.cause, after=decision.text)

    def _webhook(self, number: int, decision: o.CallWebhook) -> None:
        unit = self.unit
        ticket = unit.tickets[number]
        requester = unit.contacts.get(ticket.requester_id or 0)
        body = {
            "event": "workflow",
            "at": self.now.isoformat(),
            "workflow": decision.cause.workflow,
            "action": decision.cause.action,
            "ticket": {
                "number": number,
                "subject": ticket.subject,
                "pipeline": unit.desk.pipelines[ticket.pipeline_id].name,
                "status": self._status_name(ticket),
                "priority": ticket.priority,
                "requester": requester.address if requester is not None else None,
                "tags": list(ticket.tags),
            },
        }
        row = {
            "id": unit.allot("webhook_call"),
            "ticket": number,
            "url": decision.url,
            "body": json.dumps(body),
            "key": decision.key,
        }
        unit.outward.calls.append(
            {**row, "state": "queued", "attempts": 0, "due_at": self.now, "created_at": self.now}
        )
