"""Tries a mailbox step by step, changes nothing in it, and says in plain words what fails and what
to do about it.

What can go wrong is what this is for: each failure is a :class:`CheckStep` with advice, and the steps
that need it are left out.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

from gateway.errors import Rejected, Unavailable
from gateway.ingress.imap.account import ImapAccount
from gateway.ingress.imap.commands import ImapSession, Selected
from gateway.ingress.imap.connection import CommandRefused, ImapError, LoginRefused, Patience
from gateway.oauth.tokens import AccessRefused, Tokens
from gateway.store.imap.mailboxes import Mailboxes
from gateway.store.setup import channels

SHORT = Patience(connect=15, silence=15, command=60)
SHOWN = 10  # folders and owed mails that are listed


@dataclass(frozen=True, slots=True)
class CheckStep:
    """One thing that was tried. ``lasting`` tells a failure that stays until somebody changes
    something.
    """

    step: str
    ok: bool
    detail: str
    advice: str = ""
    lasting: bool = False


async def trial(account: ImapAccount, boxes: Mailboxes, tokens: Tokens) -> AsyncIterator[CheckStep]:
    """The steps as they are done."""
    yield await _channel(account, boxes)
    found = await _name(account)
    yield found
    if not found.ok:
        return
    try:
        session = await ImapSession.open(account.server(), SHORT)
    except (ImapError, OSError) as error:
        yield _unreachable(account, error)
        return
    try:
        async for step in _inside(account, session, tokens):
            yield step
    finally:
        await session.close()
    async for step in _known(account, boxes):
        yield step


async def _channel(account: ImapAccount, boxes: Mailboxes) -> CheckStep:
    async with boxes.database.read() as connection:
        try:
            channel = await channels.at(connection, account.channel)
        except Rejected:
            advice = (
                f"ticketgate channel add {account.channel}; until then its mail goes to the "
                "default channel"
            )
            return CheckStep(
                "channel", False, f"there is no channel {account.channel}", advice, lasting=True
            )
    makes = (
        "its mail makes tickets"
        if channel.tickets
        else "its mail makes no tickets (channel set --tickets on changes that)"
    )
    return CheckStep("channel", True, f"{channel.address}: {makes}")


async def _name(account: ImapAccount) -> CheckStep:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            account.host, account.port, type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError):
        return CheckStep(
            "name",
            False,
            f"{account.host} is not known",
            "check host in [[imap]], and the name servers of this machine",
        )
    return CheckStep("name", True, f"{account.host} is {found[0][4][0]}")


def _unreachable(account: ImapAccount, error: ImapError | OSError) -> CheckStep:
    said = error.message if isinstance(error, ImapError) else f"{account.tls_ca} cannot be read"
    if "certificate" in said:
        return CheckStep(
            "connection",
            False,
            said,
            (
                "a server with a certificate of its own needs tls_ca in [[imap]]; else host is not "
                "its name"
            ),
            lasting=True,
        )
    if account.tls:
        advice = (
            "check host, port (993 is usual with TLS) and firewalls; a port without TLS is no use"
        )
    else:
        advice = "check host and port (143 is usual without TLS)"
    return CheckStep("connection", False, said, advice)


async def _inside(
    account: ImapAccount, session: ImapSession, tokens: Tokens
) -> AsyncIterator[CheckStep]:
    yield CheckStep(
        "connection",
        True,
        (
            f"an IMAP server answers on port {account.port}, "
            f"{'with' if account.tls else 'without'} TLS"
        ),
    )
    entered = await _login(account, session, tokens)
    yield entered
    if not entered.ok:
        return
    yield _abilities(session)
    try:
        selected = await session.select(account.folder, read_only=account.after == "keep")
    except ImapError as error:
        yield await _no_folder(account, session, error)
        return
    yield CheckStep("folder", True, f"{account.folder} holds {selected.exists} mails")
    yield await _reading(session, selected)
    yield await _after(account, session, selected)


async def _login(account: ImapAccount, session: ImapSession, tokens: Tokens) -> CheckStep:
    how = (
        f"with a token of {account.client.name}"
        if account.client is not None
        else "with a password"
    )
    try:
        await account.sign_in(session, tokens)
    except AccessRefused as error:
        return CheckStep(
            "login", False, error.message, f"ticketgate channel login {account.name}", lasting=True
        )
    except LoginRefused as error:
        if account.client is not None:
            advice = (
                "the token is good but not for this mailbox: check username, the scope, and "
                "that IMAP is allowed for the account"
            )
        else:
            advice = (
                "check username and password; Gmail wants an app password, Microsoft 365 "
                "takes no passwords any more (use oauth)"
            )
        return CheckStep("login", False, error.message, advice, lasting=True)
    except Unavailable as error:
        return CheckStep(
            "login", False, error.message, "try again; if it stays so, ask whoever runs the server"
        )
    return CheckStep("login", True, f"signed in as {account.username} {how}")


def _abilities(session: ImapSession) -> CheckStep:
    told = []
    told.append(
        "tells of new mail at once (IDLE)"
        if "IDLE" in session.capabilities
        else "does not tell of new mail (no IDLE): looked into every 30 s"
    )
    if "MOVE" not in session.capabilities:
        told.append("cannot move (no MOVE): mails are copied and removed")
    if "UIDPLUS" not in session.capabilities:
        told.append("cannot remove single mails (no UIDPLUS): they stay, marked as deleted")
    return CheckStep("server", True, "; ".join(told))


async def _no_folder(account: ImapAccount, session: ImapSession, error: ImapError) -> CheckStep:
    if not isinstance(error, CommandRefused):
        return CheckStep("folder", False, error.message, "ask whoever runs the server")
    try:
        names = await session.folders()
    except ImapError:
        names = []
    there = ", ".join(repr(name) for name in names[:SHOWN]) + (
        ", ..." if len(names) > SHOWN else ""
    )
    return CheckStep(
        "folder",
        False,
        f"{account.folder!r} cannot be opened: {error.message}",
        f"there are: {there or 'none'}",
        lasting=True,
    )


async def _reading(session: ImapSession, selected: Selected) -> CheckStep:
    try:
        newest = await session.uids(max(1, (selected.uidnext or 1) - 1)) if selected.exists else []
        given = await session.part(newest[-1], 0, 1024) if newest else None
    except ImapError as error:
        return CheckStep("reading", False, error.message, "ask whoever runs the server")
    if not newest:
        return CheckStep("reading", True, "nothing to try it with: no mail is there")
    if given is None:
        return CheckStep(
            "reading",
            False,
            "the server lists a mail but does not give its text",
            "ask whoever runs the server",
        )
    return CheckStep("reading", True, "the newest mail can be read")


async def _after(account: ImapAccount, session: ImapSession, selected: Selected) -> CheckStep:
    r"""Whether what is to follow a commit is allowed, as far as can be told without doing it."""
    if account.after == "keep":
        return CheckStep("after", True, "mails stay as they are")
    if selected.read_only:
        return CheckStep(
            "after",
            False,
            f"{account.folder} can only be read",
            'give the account the right to change it, or set after = "keep"',
            lasting=True,
        )
    wanted = r"\Seen" if account.after == "seen" else r"\Deleted"
    if account.after != "move" and wanted not in selected.flags:
        return CheckStep(
            "after",
            False,
            f"the server does not keep the mark {wanted}",
            'set after = "keep" or "move"',
            lasting=True,
        )
    if account.after == "move":
        there = account.move_to in await session.folders()
        return CheckStep(
            "after",
            True,
            f"mails are moved to {account.move_to}"
            + ("" if there else ", which is made when the first mail is moved"),
        )
    return CheckStep(
        "after",
        True,
        "mails are marked as seen" if account.after == "seen" else "mails are deleted",
    )


async def _known(account: ImapAccount, boxes: Mailboxes) -> AsyncIterator[CheckStep]:
    box = await boxes.get(account.name)
    if box is None or box.first_seen_at is None:
        yield CheckStep(
            "reader",
            True,
            "nobody has read it so far: start the daemon, or import what is there (channel import)",
        )
        return
    who = f"read by {box.lease_owner}" if box.lease_owner else "read by nobody at the moment"
    yield CheckStep("reader", True, f"{who}, up to UID {box.last_uid}")
    for each in (await boxes.owed(box.id, box.uidvalidity))[:SHOWN]:
        again = (
            f"tried {each.tries} times, next at {each.retry_at:%Y-%m-%d %H:%M} UTC"
            if each.retry_at
            else f"tried {each.tries} times"
        )
        yield CheckStep(
            "owed",
            False,
            f"the mail with UID {each.uid} cannot be fetched: {each.problem} ({again})",
            "open it in a mail program, or move it away",
        )
