"""Decisions of users about outgoing mail: cancel it, or try it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from core.events import DeliveriesHandled
from core.rules.rights import Right
from gateway.desk.tickets import ActResult
from gateway.desk.transaction import Actor, Transaction
from gateway.store.queues import outbox
from gateway.store.tickets import pending_outgoing


class OutboxDesk(Actor):
    """Cancel or retry deliveries (all of them or none), and record this on their tickets."""

    async def cancel(self, ids: Sequence[int]) -> ActResult:
        """Cancel mail that was not sent yet, including replies scheduled for later."""
        async with self.acting(Right.HANDLE_OUTBOX) as act:
            await outbox.cancel(act.unit.connection, ids, act.now)
            numbers = await _record(act, ids, "cancelled")
        return ActResult(numbers, act.events)

    async def retry(self, ids: Sequence[int]) -> ActResult:
        """Queue failed or deferred deliveries again, to be attempted now."""
        async with self.acting(Right.HANDLE_OUTBOX) as act:
            await outbox.retry(act.unit.connection, ids, act.now)
            numbers = await _record(act, ids, "retried")
        return ActResult(numbers, act.events)


async def _record(
    act: Transaction, ids: Sequence[int], what: Literal["cancelled", "retried"]
) -> tuple[int, ...]:
    """Record on each ticket that its deliveries were cancelled or retried; return the tickets."""
    connection = act.unit.connection
    found = await pending_outgoing.deliveries(connection, ids=ids)
    await act.unit.load_tickets({each.ticket for each in found if each.ticket is not None})
    recipients: dict[int, list[str]] = {}
    for each in found:
        ticket = act.unit.live_ticket(each.ticket)
        if ticket is not None:
            recipients.setdefault(ticket.number, []).append(each.recipient)
    failing = await outbox.failing(connection, recipients)
    for number, people in recipients.items():
        ticket = act.unit.tickets[number]
        act.do(DeliveriesHandled(ticket, what, tuple(people), number in failing, act.cause))
    return tuple(recipients)
