"""Decisions become rows: the only interpreter of :data:`core.decisions.tickets.Decision`, and the
only place that changes a ticket (R7).

It works on a :class:`gateway.store.tickets.unit_of_work.UnitOfWork`, inside the transaction of the work
that caused the decisions; nothing is written before the book is flushed. A decision that is
forgotten here is a type error.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import Any

from core.decisions import tickets as d
from core.decisions.outgoing import ReplyRecorded, TellDeliveries
from core.events import Cause
from core.mail.threading import Entry, head
from core.model.message import MACHINE_KINDS, Address
from core.model.ticket import Thread, Ticket
from gateway.apply.outgoing import Posting
from gateway.apply.threads import NEW, MailContext, held
from gateway.store.tickets import threads
from gateway.store.tickets.unit_of_work import UnitOfWork

ATTENTION = frozenset({"unread_reply", "needs_attention"})


class Applier(Posting):
    """Performs decisions on a book, then :meth:`finish`; the caller flushes the book."""

    def __init__(
        self, unit: UnitOfWork, now: datetime, actor: str = "system", zone: tzinfo = UTC
    ) -> None:
        super().__init__(unit, now, actor, zone)
        self.renames: dict[
            int, int
        ] = {}  # ticket -> thread it is named after, done once for all by finish()

    def perform(self, decided: Iterable[d.Decision], hand: MailContext | None = None) -> None:
        """Change the book by these decisions, in order. ``hand`` is the mail they are about, if
        any.
        """
        for decision in decided:
            self._perform(decision, hand)
            if hand is not None and not isinstance(decision, d.Finish):
                hand.notes.append(type(decision).__name__)

    # one arm a decision, that is the point
    def _perform(self, decision: d.Decision, hand: MailContext | None) -> None:  # noqa: C901, PLR0912, PLR0915
        match decision:
            case d.OpenTicket():
                self._open(decision, hand)
            case d.AppendMessage():
                self._append(decision, held(hand))
            case d.JoinThread(thread=thread, into=into):
                self._join(thread, into)
            case d.RenameTicket(ticket=ticket, thread=thread):
                self.renames[self._number(ticket, hand)] = self._thread_id(thread, hand)
            case d.AttachThread():
                self._attach(decision, hand)
            case d.ContinueThread(thread=thread):
                self._continue(thread, held(hand))
            case d.MergeTicket(ticket=ticket, into=into, cause=cause):
                self._merge(ticket, into, cause)
            case d.UnmergeTicket():
                self._unmerge(decision)
            case d.SplitOff():
                self._split_off(decision)
                self._change(decision.ticket, worked=True)
            case d.AddNote(ticket=ticket, text=text, cause=cause):
                self._note(ticket, text, cause)
                if cause.rule == "user":
                    self._change(ticket, worked=True)
            case d.PlacePerson():
                self._place(decision)
                self._settle_strangers(decision.ticket)
            case d.LinkTickets(ticket=ticket, other=other, kind=kind):
                self.unit.pending.links.append((ticket, other, kind))
                self._flag(ticket, ("needs_attention",))
                self._flag(other, ("needs_attention",))
            case d.SetStatus():
                self._set_status(decision, hand)
            case d.SetClosure():
                self._set_closure(decision, hand)
            case d.SetFields(ticket=ticket, fields=fields, cause=cause):
                self._set_fields(ticket, fields, cause)
            case d.SkipRule(ticket=ticket, cause=cause, detail=detail):
                self._event(
                    self._number(ticket, hand), "rule_skipped", cause, detail=detail, hand=hand
                )
            case d.Remark(ticket=ticket, cause=cause, detail=detail):
                self._event(self._number(ticket, hand), "remark", cause, detail=detail, hand=hand)
            case d.RaiseFlags(ticket=ticket, flags=flags):
                self._flag(self._number(ticket, hand), flags)
            case d.AddParticipants():
                self._participants(decision, held(hand))
            case d.NoteCustomer(ticket=ticket, at=at):
                self._heard(self._number(ticket, hand), at or self.now)
            case d.NoteAgent(ticket=ticket):
                self._change(self._number(ticket, hand), worked=True)
            case d.MarkContact(automated=automated, proven=proven, heard=heard):
                self._mark(held(hand), automated=automated, proven=proven, heard=heard)
            case ReplyRecorded():
                self._answered(decision)
            case TellDeliveries():
                self._tell_deliveries(decision)
            case d.Finish():
                held(hand).finish = decision
            case _:
                self._post(decision, hand)

    async def finish(self) -> None:
        """Give tickets the requester and subject of their conversation's head (section 5, joining);
        once a batch, in one query.
        """
        wanted = {
            number: thread
            for number, thread in self.renames.items()
            if not self.unit.tickets[number].titled
        }
        wanted = {
            number: found.id
            for number, thread in wanted.items()
            if (found := self._names(number, thread)) is not None
        }
        # Messages of this batch are not in the database yet, and joined threads keep theirs until
        # the flush.
        sources: dict[int, set[int]] = {}
        for thread in self.unit.threads:
            found = self.unit.follow(thread)
            if found is not None:
                sources.setdefault(found.id, set()).add(thread)
        needed = {
            source
            for thread in wanted.values()
            for source in sources[thread]
            if source not in self.unit.pending.new_threads
        }
        entries = await threads.outline(self.unit.connection, needed) if needed else {}
        for row in self.unit.pending.messages:
            if row.thread_id is not None:
                entries.setdefault(row.thread_id, []).append(
                    Entry(
                        row.id,
                        row.message_id,
                        row.parents,
                        row.date or row.created_at,
                        row.sender_id,
                        row.subject,
                        row.opens,
                        row.kind in MACHINE_KINDS,
                    )
                )
        for number, thread in wanted.items():
            first = head(entry for source in sources[thread] for entry in entries.get(source, ()))
            if first is not None:
                self._change(number, requester_id=first.sender_id, subject=first.subject)
        self.renames.clear()

    def _names(self, number: int, thread: int) -> Thread | None:
        """The thread, when it is the only origin of the ticket: one that was attached or merged
        into it never renames it.
        """
        found = self.unit.follow(thread)
        origins = {
            each.id
            for each in self.unit.threads_of(number)
            if each.origin and each.redirect_to is None
        }
        return found if found is not None and origins == {found.id} else None

    # ---- tickets

    def _open(self, decision: d.OpenTicket, hand: MailContext | None) -> None:
        unit = self.unit
        number = unit.allot("ticket")
        requester = self._requester(decision.requester, hand)
        ticket = Ticket(
            number,
            decision.subject,
            decision.pipeline_id,
            decision.status_id,
            decision.source,
            self.now,
            priority=decision.priority,
            requester_id=requester,
            close_date=decision.close_date,
            flags=frozenset(decision.flags),
            worked=decision.cause.rule == "user",
            titled=decision.cause.rule in ("user", "api") and decision.thread is None,
        )
        unit.set_ticket(ticket, new=True)
        self.opened = number
        if hand is not None:
            hand.ticket, hand.created_ticket = number, True
        if decision.thread is not None:
            thread = unit.threads[self._thread_id(decision.thread, hand)]
            unit.set_thread(replace(thread, ticket=number, origin=True, attached_at=self.now))
            if requester is not None:
                unit.set_participant(thread.id, requester, "requester")
        name = unit.desk.pipelines[decision.pipeline_id].status(decision.status_id).name
        self._event(
            number, "ticket_created", decision.cause, after=name, detail=decision.note, hand=hand
        )
        unit.pending.links.extend((number, other, "earlier") for other in decision.links)

    def _requester(self, wanted: int | Address | None, hand: MailContext | None) -> int | None:
        match wanted:
            case Address(name=name, address=str(address)):
                return self.unit.ensure_contact(address, name).id
            case int() if wanted == NEW:
                contact = self._sender(held(hand))
                return contact.id if contact else None
            case int():
                return wanted
            case _:
                return None

    def _set_status(self, decision: d.SetStatus, hand: MailContext | None) -> None:
        ticket = self.unit.tickets[self._number(decision.ticket, hand)]
        before = self._status_name(ticket)
        changes: dict[str, Any] = {
            "pipeline_id": decision.pipeline_id,
            "status_id": decision.status_id,
        }
        if decision.cause.rule in ("user", "api"):
            changes |= {"worked": True, "flags": ticket.flags - ATTENTION}
        self._change(ticket.number, **changes)
        after = self._status_name(self.unit.tickets[ticket.number])
        if hand is not None:
            hand.before = before
        self._event(
            ticket.number, "status_changed", decision.cause, before=before, after=after, hand=hand
        )

    def _set_closure(self, decision: d.SetClosure, hand: MailContext | None) -> None:
        ticket = self.unit.tickets[self._number(decision.ticket, hand)]
        changes: dict[str, Any] = {"closed_at": decision.closed_at}
        if decision.close_date != "keep":
            changes["close_date"] = decision.close_date
        if decision.closed_at is not None and ticket.first_closed_at is None:
            changes["first_closed_at"] = decision.closed_at
        if decision.reopened:
            changes |= {"reopened_count": ticket.reopened_count + 1, "last_reopened_at": self.now}
        self._change(ticket.number, **changes)
        after = self.unit.tickets[ticket.number].close_date
        if after != ticket.close_date:
            self._event(
                ticket.number,
                "close_date_changed",
                decision.cause,
                before=ticket.close_date.isoformat() if ticket.close_date else None,
                after=after.isoformat() if after else None,
                hand=hand,
            )

    def _set_fields(
        self, number: int, fields: tuple[tuple[str, object], ...], cause: Cause
    ) -> None:
        ticket = self.unit.tickets[number]
        changes: dict[str, Any] = dict(fields)
        if cause.rule == "user":
            changes["worked"] = True
            changes["titled"] = ticket.titled or bool({"subject", "requester_id"} & changes.keys())
        self._change(number, **changes)
        for name, value in fields:
            before = getattr(ticket, name)
            if name == "deleted_at":
                if value is None:
                    self._have_back(number)
                self._event(number, "restored" if value is None else "deleted", cause)
            else:
                kind = f"{name.removesuffix('_id')}_changed"
                self._event(
                    number,
                    kind,
                    cause,
                    before=self._shown(name, before),
                    after=self._shown(name, value),
                )

    def _have_back(self, number: int) -> None:
        """Replies to a ticket's own mail are its own again: those that went on with another ticket
        meanwhile stay there (E38).
        """
        for thread in self.unit.threads_of(number):
            if thread.redirect_to is not None:
                self.unit.set_thread(replace(thread, redirect_to=None))

    def _merge(self, number: int, into: int, cause: Cause) -> None:
        unit = self.unit
        ticket, survivor = unit.tickets[number], unit.tickets[into]
        moved = [thread.id for thread in unit.threads_of(number)]
        for thread in moved:
            unit.set_thread(replace(unit.threads[thread], ticket=into))
        self._change(number, merged_into=into)
        self._change(
            into, flags=survivor.flags | ticket.flags, worked=survivor.worked or ticket.worked
        )
        people = self._merged_people(ticket, survivor, cause)
        for contact in people:
            unit.set_associated(into, contact, present=True)
        what = {
            "threads": moved,
            "contacts": people,
            "flags": sorted(survivor.flags),
            "created_at": survivor.created_at.isoformat(),
        }
        unit.pending.merges.append((number, into, what))
        self._event(number, "merged", cause, after=str(into))
        self._event(
            into,
            "merged",
            cause,
            before=str(number),
            detail=f"ticket {number} was merged into this one",
        )

    def _merged_people(self, ticket: Ticket, survivor: Ticket, cause: Cause) -> list[int]:
        """Who has to be put on the survivor: the other's people; not its requester when the two
        were one conversation all along.
        """
        wanted = set(self.unit.associated[ticket.number])
        if ticket.requester_id is not None and cause.rule != "join":
            wanted.add(ticket.requester_id)
        return sorted(wanted - self.unit.associated[survivor.number] - {survivor.requester_id})

    def _unmerge(self, decision: d.UnmergeTicket) -> None:
        unit, number, into, record = self.unit, decision.ticket, decision.into, decision.record
        ticket, survivor = unit.tickets[number], unit.tickets[into]
        for each in record.threads:
            thread = unit.threads[each]
            if thread.redirect_to is None and thread.ticket == into:
                unit.set_thread(replace(thread, ticket=number))
        for join in record.joins:
            unit.set_thread(
                replace(
                    unit.threads[join.thread], redirect_to=None, ticket=number, origin=join.origin
                )
            )
        for contact in record.contacts:
            unit.set_associated(into, contact, present=False)
        came = ticket.flags - set(record.flags)
        created_at = (
            record.created_at if survivor.created_at == ticket.created_at else survivor.created_at
        )
        self._change(into, flags=survivor.flags - came, created_at=created_at)
        self._change(number, merged_into=None)
        unit.pending.returns.extend(record.joins)
        unit.pending.undone.extend((record.id, *(join.id for join in record.joins)))
        self._event(number, "unmerged", decision.cause, before=str(into))
        self._event(
            into,
            "unmerged",
            decision.cause,
            after=str(number),
            detail=f"ticket {number} stands on its own again",
        )

    def _answered(self, decision: ReplyRecorded) -> None:
        """A user wrote: what waited for an answer has it, and the first response is dated (2.6)."""
        ticket = self.unit.tickets[decision.ticket]
        changes: dict[str, Any] = {
            "last_agent_message_at": self.now,
            "worked": True,
            "flags": ticket.flags - ATTENTION,
        }
        if decision.contact:
            changes |= {
                "times_contacted": ticket.times_contacted + 1,
                "first_response_at": ticket.first_response_at or self.now,
            }
        self._change(decision.ticket, **changes)

    def _heard(self, number: int, at: datetime) -> None:
        before = self.unit.tickets[number].last_customer_message_at
        self._change(number, last_customer_message_at=max(at, before) if before is not None else at)

    def _tell_deliveries(self, decision: TellDeliveries) -> None:
        if decision.settled:
            self._change(
                decision.ticket,
                flags=self.unit.tickets[decision.ticket].flags - {"delivery_failed"},
            )
        self._event(
            decision.ticket,
            f"mail_{decision.what}",
            decision.cause,
            after=", ".join(decision.recipients),
        )

    def _settle_strangers(self, number: int) -> None:
        """The flag goes with the last stranger."""
        ticket, unit = self.unit.tickets[number], self.unit
        if "new_participant" in ticket.flags and not any(
            "stranger" in unit.participants[each.id].values() for each in unit.threads_of(number)
        ):
            self._change(number, flags=ticket.flags - {"new_participant"})

    def _shown(self, name: str, value: object) -> str | None:
        """A field's value as the history tells it: people by address or name, everything else as
        text.
        """
        if name == "requester_id" and isinstance(value, int):
            contact = self.unit.contacts.get(value)
            return contact.address if contact else f"contact {value}"
        if name == "owner_id" and isinstance(value, int):
            user = next((each for each in self.unit.desk.users.values() if each.id == value), None)
            return user.name if user else f"user {value}"
        return _shown(value)

    def _change(self, number: int, **changes: Any) -> None:
        self.unit.set_ticket(replace(self.unit.tickets[number], **changes))

    def _flag(self, number: int, flags: Iterable[str]) -> None:
        ticket = self.unit.tickets[number]
        if not ticket.flags.issuperset(flags):
            self._change(number, flags=ticket.flags | set(flags))


def _shown(value: object) -> str | None:
    if value is None:
        return None
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
