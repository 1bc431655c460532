"""One transaction of the agenda: hand events to the rules and write what they decide."""

from __future__ import annotations

from datetime import datetime, tzinfo

from core.decide import decide
from core.decisions.tickets import Decision
from core.events import Event
from gateway.apply.applier import Applier
from gateway.desk.transaction import state_of
from gateway.store.tickets.unit_of_work import UnitOfWork


class AgendaTransaction:
    """Hands events to the rules and performs their decisions; ``actor`` is named in the history."""

    def __init__(self, unit: UnitOfWork, now: datetime, zone: tzinfo, actor: str) -> None:
        self.unit = unit
        self.now = now
        self.state = state_of(unit, zone)
        self.applier = Applier(unit, now, actor, zone)

    def set_time(self, now: datetime) -> None:
        """Set the clock of this transaction, to try a workflow out."""
        self.now = self.applier.now = now

    def do(self, event: Event) -> tuple[Decision, ...]:
        """Ask the rules about an event, perform their decisions, and return these decisions."""
        decided = decide(event, self.state, self.now)
        self.applier.perform(decided)
        return decided

    async def write(self) -> None:
        """Write everything done so far into the open database transaction."""
        await self.applier.finish()
        await self.unit.flush()
