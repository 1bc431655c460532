"""What a person decides about mail that was held, quarantined or ignored (docs/mail-states.md)."""

from __future__ import annotations

from core.rules.rights import Right
from gateway.desk.transaction import Actor
from gateway.store.queues import mail_register


class HeldMailDesk(Actor):
    """Give mail another chance, or put it aside for good; the intake does the processing."""

    async def retry(self, mail_id: int) -> None:
        """Queue a held, ignored or quarantined mail to be processed by the rules of today."""
        async with self.acting(Right.HANDLE_HELD_MAIL) as act:
            await mail_register.set_state(
                act.unit.connection,
                mail_id,
                "pending",
                reason=None,
                now=act.now,
                only=("held", "ignored", "quarantined"),
            )

    async def release(self, mail_id: int) -> None:
        """Queue a quarantined mail as if it arrived now; the verdict on it no longer counts."""
        async with self.acting(Right.HANDLE_HELD_MAIL) as act:
            await mail_register.set_state(
                act.unit.connection,
                mail_id,
                "pending",
                reason=None,
                now=act.now,
                released=True,
                only=("quarantined",),
            )

    async def discard(self, mail_id: int) -> None:
        """Mark a held or quarantined mail as ignored; its raw form is kept."""
        async with self.acting(Right.HANDLE_HELD_MAIL) as act:
            await mail_register.set_state(
                act.unit.connection,
                mail_id,
                "ignored",
                reason=f"Discarded by {self.actor}.",
                now=act.now,
                only=("held", "quarantined"),
            )
