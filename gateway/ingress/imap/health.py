"""The state of each mailbox, for the list of channels, the health page and the metrics.

The state is read from the database, so every process and command reports the same. The reader of a
mailbox stores the time of each complete pass, every few minutes. If that time is old, nobody reads
the mailbox.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.ingress.imap.account import ImapAccount
from gateway.oauth.tokens import Tokens
from gateway.store.imap.mailboxes import Mailbox, Mailboxes

STALE_AFTER = timedelta(minutes=15)  # three missed passes


@dataclass(frozen=True, slots=True)
class MailboxHealth:
    """The state of one mailbox: ok, new, failing, refused, stale or warning.

    ``detail`` says what is wrong; it is "" if nothing is.
    """

    name: str
    channel: str
    state: str
    detail: str
    since: datetime | None
    last_pass_at: datetime | None
    owed: int
    node: str | None

    @property
    def summary(self) -> str:
        """The word "ok" if all is well, or else a sentence that says what is wrong."""
        return "ok" if self.state == "ok" else f"mailbox {self.name}: {self.detail}"


async def mailbox_health(
    accounts: Sequence[ImapAccount], boxes: Mailboxes, tokens: Tokens, now: datetime
) -> list[MailboxHealth]:
    """Return the state of every configured mailbox, in the order of the configuration."""
    known = {box.name: box for box in await boxes.listing()}
    owed = await boxes.owed_counts()
    found = []
    for account in accounts:
        box = known.get(account.name)
        warning = (
            await tokens.problem(account.client, account.username)
            if account.client is not None
            else None
        )
        found.append(
            _health(
                account,
                box if box is not None and box.place == account.place else None,
                owed,
                warning,
                now,
            )
        )
    return found


def _health(
    account: ImapAccount,
    box: Mailbox | None,
    owed: dict[int, int],
    warning: str | None,
    now: datetime,
) -> MailboxHealth:
    missing = owed.get(box.id, 0) if box is not None else 0
    state, detail = _state(box, missing, warning, now)
    return MailboxHealth(
        name=account.name,
        channel=account.channel,
        state=state,
        detail=detail,
        since=box.failing_since if box is not None else None,
        last_pass_at=box.last_pass_at if box is not None else None,
        owed=missing,
        node=box.lease_owner if box is not None else None,
    )


def _state(box: Mailbox | None, owed: int, warning: str | None, now: datetime) -> tuple[str, str]:
    if box is not None and box.state in ("failing", "refused"):
        since = f" (since {_shown(box.failing_since)})" if box.failing_since is not None else ""
        return box.state, f"{box.problem or 'cannot be read'}{since}"
    if warning:
        return "warning", warning
    if box is None or box.first_seen_at is None:
        return "new", "was never opened; start a daemon with the role ingress"
    reading = box.lease_until is not None and box.lease_until > now
    if box.last_pass_at is None:
        return (
            "new",
            "is being read for the first time"
            if reading
            else "was not read to its end so far; check that a daemon is running",
        )
    # a reader at work finishes or fails within the timeouts of a session
    if now - box.last_pass_at > STALE_AFTER and not reading:
        return (
            "stale",
            f"was last read at {_shown(box.last_pass_at)}; check that a daemon is running",
        )
    if owed:
        return (
            "warning",
            (
                f"{owed} mail{'s' if owed > 1 else ''} in it cannot be fetched; to list them, run "
                f"ticketgate channel test {box.name}"
            ),
        )
    return "ok", ""


def _shown(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC"
