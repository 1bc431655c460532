"""Decisions of users about held, quarantined and ignored mail (docs/mail-states.md)."""

from __future__ import annotations

from collections.abc import Collection

from core.rules.rights import Right
from gateway.desk.transaction import Actor
from gateway.store.queues import mail_register
from gateway.store.queues.mail_register import MailState


class HeldMailDesk(Actor):
    """Let users retry, release or discard mail that the intake did not put on a ticket."""

    async def retry(self, mail_id: int) -> None:
        """Queue a held, ignored or quarantined mail to be processed again by the present rules."""
        await self._set(mail_id, "pending", None, ("held", "ignored", "quarantined"))

    async def release(self, mail_id: int) -> None:
        """Queue a quarantined mail as if it arrived now; the verdict on its sender is ignored."""
        await self._set(mail_id, "pending", None, ("quarantined",), released=True)

    async def discard(self, mail_id: int) -> None:
        """Mark a held or quarantined mail as ignored; its raw form is kept."""
        await self._set(mail_id, "ignored", f"Discarded by {self.actor}.", ("held", "quarantined"))

    async def _set(
        self,
        mail_id: int,
        state: MailState,
        reason: str | None,
        only: Collection[str],
        *,
        released: bool = False,
    ) -> None:
        """Set the state of a mail whose present state is one of ``only``."""
        async with self.acting(Right.HANDLE_HELD_MAIL) as act:
            await mail_register.set_state(
                act.connection,
                mail_id,
                state,
                reason=reason,
                now=act.now,
                released=released,
                only=only,
            )
