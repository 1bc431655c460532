r"""What happens on the server to mails that are stored: nothing, \\Seen, a move, or removal. Doing
it twice does no harm.

What can go wrong: a server without MOVE (RFC 6851) gets a copy, a flag and an expunge instead; one
without UIDPLUS (RFC 4315) keeps the mails marked \\Deleted, since a bare EXPUNGE would remove what
somebody else has marked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.ingress.imap.account import ImapAccount
from gateway.ingress.imap.commands import ImapSession
from gateway.ingress.imap.connection import CommandRefused

DONE: Final = {"keep": "kept", "seen": "marked as seen", "move": "moved", "delete": "deleted"}
_DELETED: Final = r"\Deleted"


async def settle(session: ImapSession, account: ImapAccount, uids: Sequence[int]) -> None:
    """Does with these mails of the open folder what the account wants; :class:`CommandRefused` where the
    server refuses.
    """
    match account.after:
        case "keep":
            return
        case "seen":
            await session.flag(uids, r"\Seen")
        case "delete":
            await _remove(session, uids)
        case "move":
            await _move(session, uids, account.move_to)


async def _move(session: ImapSession, uids: Sequence[int], folder: str) -> None:
    try:
        await _moved(session, uids, folder)
    except CommandRefused:
        if folder in await session.folders():
            raise
        await session.create(folder)
        await _moved(session, uids, folder)


async def _moved(session: ImapSession, uids: Sequence[int], folder: str) -> None:
    if "MOVE" in session.capabilities:
        await session.move(uids, folder)
        return
    told = await session.fetch(
        uids, "FLAGS"
    )  # what is marked was copied before the connection broke
    fresh = [uid for uid in uids if uid in told and _DELETED not in (told[uid].flags or ())]
    if fresh:
        await session.copy(fresh, folder)
    await _remove(session, [uid for uid in uids if uid in told])


async def _remove(session: ImapSession, uids: Sequence[int]) -> None:
    if uids:
        await session.flag(uids, _DELETED)
        if "UIDPLUS" in session.capabilities:
            await session.expunge(uids)
