"""Test a mailbox step by step without changing it, and say what fails and what to do about it.

Each failure is a :class:`CheckStep` with advice; steps that depend on it are skipped.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

from gateway.errors import Rejected, Unavailable
from gateway.ingress.imap.account import ImapAccount
from gateway.ingress.imap.commands import ImapSession, Selected
from gateway.ingress.imap.connection import CommandRefused, ImapError, LoginRefused, Timeouts
from gateway.oauth.tokens import AccessRefused, Tokens
from gateway.store.imap.mailboxes import Mailboxes
from gateway.store.setup import channels

CHECK_TIMEOUTS = Timeouts(connect=15, silence=15, command=60)
MAX_LISTED = 10  # folders and unfetchable mails


@dataclass(frozen=True, slots=True)
class CheckStep:
    """The result of one step; ``lasting`` means that trying again does not help."""

    step: str
    ok: bool
    detail: str
    advice: str = ""
    lasting: bool = False


async def check_mailbox(
    account: ImapAccount, boxes: Mailboxes, tokens: Tokens
) -> AsyncIterator[CheckStep]:
    """Check a mailbox step by step, and yield the result of each step at once."""
    yield await _check_channel(account, boxes)
    found = await _resolve(account)
    yield found
    if not found.ok:
        return
    try:
        session = await ImapSession.open(account.server(), CHECK_TIMEOUTS)
    except (ImapError, OSError) as error:
        yield _connection_failed(account, error)
        return
    try:
        async for step in _check_session(account, session, tokens):
            yield step
    finally:
        await session.close()
    async for step in _reader_state(account, boxes):
        yield step


async def _check_channel(account: ImapAccount, boxes: Mailboxes) -> CheckStep:
    async with boxes.database.read() as connection:
        try:
            channel = await channels.at(connection, account.channel)
        except Rejected:
            advice = (
                f"run ticketgate channel add {account.channel}; until then its mail goes to the "
                "default channel"
            )
            return CheckStep(
                "channel", False, f"no channel {account.channel}", advice, lasting=True
            )
    makes = (
        "its mail creates tickets"
        if channel.tickets
        else "its mail creates no tickets (change that with channel set --tickets on)"
    )
    return CheckStep("channel", True, f"{channel.address}: {makes}")


async def _resolve(account: ImapAccount) -> CheckStep:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            account.host, account.port, type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError):
        return CheckStep(
            "name",
            False,
            f"{account.host} cannot be resolved",
            "check host in [[imap]], and the name servers of this machine",
        )
    return CheckStep("name", True, f"{account.host} is {found[0][4][0]}")


def _connection_failed(account: ImapAccount, error: ImapError | OSError) -> CheckStep:
    detail = error.message if isinstance(error, ImapError) else f"{account.tls_ca} cannot be read"
    if "certificate" in detail:
        return CheckStep(
            "connection",
            False,
            detail,
            "check host in [[imap]]; for a private certificate authority, set tls_ca",
            lasting=True,
        )
    if account.tls:
        advice = (
            "check host, port (usually 993 with TLS) and firewalls; a plain-text port will not work"
        )
    else:
        advice = "check host and port (usually 143 without TLS)"
    return CheckStep("connection", False, detail, advice)


async def _check_session(
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
    entered = await _log_in(account, session, tokens)
    yield entered
    if not entered.ok:
        return
    yield _server_features(session)
    try:
        selected = await session.select(account.folder, read_only=account.after == "keep")
    except ImapError as error:
        yield await _folder_failed(account, session, error)
        return
    yield CheckStep(
        "folder",
        True,
        f"{account.folder} holds {selected.exists} mail{'' if selected.exists == 1 else 's'}",
    )
    yield await _read_newest(session, selected)
    yield await _check_after(account, session, selected)


async def _log_in(account: ImapAccount, session: ImapSession, tokens: Tokens) -> CheckStep:
    method = (
        f"with a token of {account.client.name}"
        if account.client is not None
        else "with a password"
    )
    try:
        await account.sign_in(session, tokens)
    except AccessRefused as error:
        return CheckStep(
            "login",
            False,
            error.message,
            f"run ticketgate channel login {account.name}",
            lasting=True,
        )
    except LoginRefused as error:
        if account.client is not None:
            advice = (
                "the token is valid but not for this mailbox: check username, scope, and that IMAP "
                "is allowed for the account"
            )
        else:
            advice = (
                "check username and password; Gmail requires an app password, Microsoft 365 "
                "no longer accepts passwords (use oauth)"
            )
        return CheckStep("login", False, error.message, advice, lasting=True)
    except Unavailable as error:
        return CheckStep(
            "login",
            False,
            error.message,
            "try again later; if it persists, ask the server's operator",
        )
    return CheckStep("login", True, f"signed in as {account.username} {method}")


def _server_features(session: ImapSession) -> CheckStep:
    features = []
    features.append(
        "announces new mail at once (IDLE)"
        if "IDLE" in session.capabilities
        else "does not announce new mail (no IDLE): it is checked every 30 s"
    )
    if "MOVE" not in session.capabilities:
        features.append("cannot move mails (no MOVE): they are copied and removed")
    if "UIDPLUS" not in session.capabilities:
        features.append("cannot remove single mails (no UIDPLUS): they stay, marked as deleted")
    return CheckStep("server", True, "; ".join(features))


async def _folder_failed(account: ImapAccount, session: ImapSession, error: ImapError) -> CheckStep:
    if not isinstance(error, CommandRefused):
        return CheckStep("folder", False, error.message, "ask the server's operator")
    try:
        names = await session.folders()
    except ImapError:
        names = []
    existing = ", ".join(repr(name) for name in names[:MAX_LISTED]) + (
        ", ..." if len(names) > MAX_LISTED else ""
    )
    return CheckStep(
        "folder",
        False,
        f"{account.folder!r} cannot be opened: {error.message}",
        f"choose one of the existing folders: {existing or 'none'}",
        lasting=True,
    )


async def _read_newest(session: ImapSession, selected: Selected) -> CheckStep:
    try:
        newest = await session.uids(max(1, (selected.uidnext or 1) - 1)) if selected.exists else []
        text = await session.part(newest[-1], 0, 1024) if newest else None
    except ImapError as error:
        return CheckStep("reading", False, error.message, "ask the server's operator")
    if not newest:
        return CheckStep("reading", True, "not tried: the folder is empty")
    if text is None:
        return CheckStep(
            "reading",
            False,
            "the server lists a mail but does not send its text",
            "ask the server's operator",
        )
    return CheckStep("reading", True, "the newest mail can be read")


async def _check_after(account: ImapAccount, session: ImapSession, selected: Selected) -> CheckStep:
    """Check whether the server seems to allow what the setting ``after`` asks; change no mail."""
    if account.after == "keep":
        return CheckStep("after", True, "mails stay as they are")
    if selected.read_only:
        return CheckStep(
            "after",
            False,
            f"{account.folder} is read-only",
            'give the account write access, or set after = "keep"',
            lasting=True,
        )
    wanted = r"\Seen" if account.after == "seen" else r"\Deleted"
    if account.after != "move" and wanted not in selected.flags:
        return CheckStep(
            "after",
            False,
            f"the server does not store the flag {wanted}",
            'set after = "keep" or "move"',
            lasting=True,
        )
    if account.after == "move":
        exists = account.move_to in await session.folders()
        return CheckStep(
            "after",
            True,
            f"mails are moved to {account.move_to}"
            + ("" if exists else ", which is created when the first mail is moved"),
        )
    return CheckStep(
        "after",
        True,
        "mails are marked as seen" if account.after == "seen" else "mails are deleted",
    )


async def _reader_state(account: ImapAccount, boxes: Mailboxes) -> AsyncIterator[CheckStep]:
    box = await boxes.get(account.name)
    if box is None or box.first_seen_at is None:
        yield CheckStep(
            "reader", True, "not read so far: start the daemon, or import its mail (channel import)"
        )
        return
    who = f"read by {box.lease_owner}" if box.lease_owner else "not being read at the moment"
    yield CheckStep("reader", True, f"{who}, up to UID {box.last_uid}")
    for each in (await boxes.owed(box.id, box.uidvalidity))[:MAX_LISTED]:
        tries = f"tried {each.tries} time{'' if each.tries == 1 else 's'}"
        if each.retry_at:
            tries += f", next at {each.retry_at:%Y-%m-%d %H:%M} UTC"
        yield CheckStep(
            "owed",
            False,
            f"the mail with UID {each.uid} cannot be fetched: {each.problem} ({tries})",
            "open it in a mail program, or move it away",
        )
