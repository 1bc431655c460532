"""For each user, queue one mail with all due notifications."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from core.events import NoticesUnsendable, NoticesWritten
from core.mail.our_addresses import our_address
from core.model.message import Address
from core.model.outgoing_mail import Outgoing
from core.model.ticket import User
from gateway import log
from gateway.agenda.transaction import AgendaTransaction
from gateway.compose.automatic_mail import AutomaticMail
from gateway.errors import Rejected
from gateway.store.queues.notices import Notice
from gateway.store.setup.templates import Words

_log = log.logger("agenda")
HEADLINES: Final = {"new": "New ticket", "reply": "Reply", "failure": "Failure"}


def notify(
    composer: AutomaticMail, act: AgendaTransaction, waiting: Sequence[Notice]
) -> list[tuple[int, str]]:
    """Queue the mails and return (ticket, address) of each.

    If a user is not active or cannot be reached by mail, their notifications are deleted.
    """
    users = {user.id: user for user in act.unit.desk.users.values()}
    by_user: dict[int, list[Notice]] = {}
    for each in waiting:
        by_user.setdefault(each.user_id, []).append(each)
    told = []
    for user_id, notices in by_user.items():
        ids, user = tuple(each.id for each in notices), users.get(user_id)
        mail = _mail(composer, user, notices) if user is not None else None
        if user is None or mail is None:
            act.do(NoticesUnsendable(ids))
        else:
            act.do(NoticesWritten(notices[0].ticket, mail, ids))
            told.append((notices[0].ticket, user.address))
    return told


def _mail(composer: AutomaticMail, user: User, notices: Sequence[Notice]) -> Outgoing | None:
    """Return the mail; None if the user is not active or their address is ours or unusable."""
    channels = composer.writer.unit.desk.channels
    if not user.active or our_address(channels, user.address) is not None:
        return None
    first = notices[0]
    to, words = Address(user.name, user.address), _words(composer, notices)
    try:
        return composer.notice(
            first.ticket,
            to,
            words,
            f"notice:{first.id}",
            user=user,
            what="notification",
            thread=first.thread_id,
        )
    except Rejected as error:  # the other users still get their mail
        _log.warning("user cannot be notified", user=user.id, reason=error.message)
        return None


def _words(composer: AutomaticMail, notices: Sequence[Notice]) -> Words:
    text = "\n".join(_paragraph(composer, each) for each in notices)
    if len(notices) > 1:
        return Words(f"{len(notices)} ticket updates", text)
    return Words(f"{HEADLINES[notices[0].kind]}: {_subject(composer, notices[0])}", text)


def _paragraph(composer: AutomaticMail, notice: Notice) -> str:
    headline = f"{HEADLINES[notice.kind]}: ticket {notice.ticket}, {_subject(composer, notice)}"
    return f"{headline}\n{notice.detail or ''}\n{composer.url(notice.ticket)}\n"


def _subject(composer: AutomaticMail, notice: Notice) -> str:
    ticket = composer.writer.unit.live_ticket(notice.ticket)
    return ticket.subject if ticket is not None else ""
