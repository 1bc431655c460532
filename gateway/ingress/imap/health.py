"""How each mailbox is, in a word and a sentence, for the list of channels, the health page and the
metrics.

It is read from the database, so that every process and every command tells the same. What can go
wrong: nobody reads a mailbox at all; that is seen by the time of the last complete look, which the
reader renews every few minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.ingress.imap.account import ImapAccount
from gateway.oauth.tokens import Tokens
from gateway.store.imap.mailboxes import Mailbox, Mailboxes

STALE = timedelta(minutes=15)  # three looks missed


@dataclass(frozen=True, slots=True)
class MailboxHealth:
    """One mailbox. ``state`` is ok, new, failing, refused, stale or warning; ``detail`` says what
    is wrong, "" where nothing is.
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
    def word(self) -> str:
        """The word ok, or a sentence."""
        return "ok" if self.state == "ok" else f"mailbox {self.name}: {self.detail}"


async def conditions(
    accounts: Sequence[ImapAccount], boxes: Mailboxes, tokens: Tokens, now: datetime
) -> list[MailboxHealth]:
    """Every configured mailbox, in the order of the configuration."""
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
            _condition(
                account,
                box if box is not None and box.place == account.place else None,
                owed,
                warning,
                now,
            )
        )
    return found


def _condition(
    account: ImapAccount,
    box: Mailbox | None,
    owed: dict[int, int],
    warning: str | None,
    now: datetime,
) -> MailboxHealth:
    missing = owed.get(box.id, 0) if box is not None else 0
    state, detail = _state(box, missing, warning, now)
    return MailboxHealth(
        account.name,
        account.channel,
        state,
        detail,
        box.failing_since if box is not None else None,
        box.last_pass_at if box is not None else None,
        missing,
        box.lease_owner if box is not None else None,
    )


def _state(box: Mailbox | None, owed: int, warning: str | None, now: datetime) -> tuple[str, str]:
    if box is not None and box.state in ("failing", "refused"):
        since = f" (since {_shown(box.failing_since)})" if box.failing_since is not None else ""
        return box.state, f"{box.problem or 'cannot be read'}{since}"
    if warning:
        return "warning", warning
    if box is None or box.first_seen_at is None:
        return "new", "was never opened; a running daemon with the role ingress does that"
    reading = box.lease_until is not None and box.lease_until > now
    if box.last_pass_at is None:
        return (
            "new",
            "is being read for the first time"
            if reading
            else "was not read to its end so far; is a daemon running?",
        )
    if (
        now - box.last_pass_at > STALE and not reading
    ):  # whoever reads ends or fails within the deadlines of a session
        return (
            "stale",
            f"was last looked through at {_shown(box.last_pass_at)}; is a daemon running?",
        )
    if owed:
        return (
            "warning",
            (
                f"{owed} mail{'s' if owed > 1 else ''} in it cannot be fetched; channel test "
                f"{box.name} tells which"
            ),
        )
    return "ok", ""


def _shown(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC"
