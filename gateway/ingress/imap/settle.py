r"""Settle stored mails on the server as ``after`` asks: keep, mark as seen, move or delete them.

Settling twice does no harm. Without MOVE (RFC 6851) mails are copied and removed; without UIDPLUS
(RFC 4315) removed mails stay, flagged \Deleted, since a plain EXPUNGE would also remove mails that
other programs flagged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.ingress.imap.account import ImapAccount
from gateway.ingress.imap.commands import ImapSession
from gateway.ingress.imap.connection import CommandRefused

PARTICIPLES: Final = {
    "keep": "kept",
    "seen": "marked as seen",
    "move": "moved",
    "delete": "deleted",
}
_DELETED: Final = r"\Deleted"


async def settle(session: ImapSession, account: ImapAccount, uids: Sequence[int]) -> None:
    """Do with mails of the open folder what ``after`` asks: keep, flag, move or delete them."""
    match account.after:
        case "keep":
            return
        case "seen":
            await session.flag(uids, r"\Seen")
        case "delete":
            await _remove(session, uids)
        case "move":
            await _move_and_create(session, uids, account.move_to)


async def _move_and_create(session: ImapSession, uids: Sequence[int], folder: str) -> None:
    try:
        await _move_or_copy(session, uids, folder)
    except CommandRefused:
        if folder in await session.folders():
            raise
        await session.create(folder)
        await _move_or_copy(session, uids, folder)


async def _move_or_copy(session: ImapSession, uids: Sequence[int], folder: str) -> None:
    if "MOVE" in session.capabilities:
        await session.move(uids, folder)
        return
    # mails already marked were copied before an earlier connection broke
    listed = await session.fetch(uids, "FLAGS")
    fresh = [uid for uid in uids if uid in listed and _DELETED not in (listed[uid].flags or ())]
    if fresh:
        await session.copy(fresh, folder)
    await _remove(session, [uid for uid in uids if uid in listed])


async def _remove(session: ImapSession, uids: Sequence[int]) -> None:
    if uids:
        await session.flag(uids, _DELETED)
        if "UIDPLUS" in session.capabilities:
            await session.expunge(uids)
