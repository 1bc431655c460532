"""Log events about mail, one function each. Events never change, so old logs stay searchable.

Each accepted mail is logged at its end by exactly one of :func:`processed`, :func:`held` and
:func:`duplicate`. Field names are stable. Addresses are passed in full and logged as ``[log]
addresses`` asks; ``reason`` and ``reason_code`` are our own words, never text of a mail.
"""

from __future__ import annotations

from typing import Any

from gateway import log

_log = log.logger("mail")


def queued(*, mail_id: int | str, source: str, size: int, peer: str | None = None) -> None:
    """Log that a mail of ``size`` bytes is durable in the spool (level debug).

    ``source`` is smtp, lmtp, imap, pipe, file or http.
    """
    _log.debug("queued", mail_id=mail_id, source=source, size=size, peer=peer)


def refused(
    *, source: str, reason_code: str, peer: str | None = None, address: str | None = None
) -> None:
    """Log that a mail, a recipient or a connection was refused, permanently or temporarily."""
    _log.info(
        "refused", source=source, reason_code=reason_code, peer=peer, address=log.address(address)
    )


def failed(
    *, source: str, error_id: str, exc: BaseException, mail_id: int | str | None = None
) -> None:
    """Log an internal error; ``error_id`` is the number the client was given."""
    _log.error("failed", source=source, error_id=error_id, mail_id=mail_id, **log.error_fields(exc))


def processed(
    *,
    mail_id: int | str,
    state: str,
    kind: str | None,
    ticket: int | None = None,
    thread: int | str | None = None,
    rule: str | None = None,
    reason_code: str | None = None,
    sender: str | None = None,
    **more: Any,
) -> None:
    """Log the end of a mail: done, ignored or quarantined.

    ``rule`` names the rule that decided; ``more`` are further plain values such as ``size``.
    """
    _log.info(
        "processed",
        mail_id=mail_id,
        state=state,
        kind=kind,
        ticket=ticket,
        thread=thread,
        rule=rule,
        reason_code=reason_code,
        sender=log.address(sender),
        **more,
    )


def unreadable(*, mail_id: int | str, reason: str) -> None:
    """Log that parsing a mail failed twice, so that only its headers are processed."""
    _log.warning("unreadable", mail_id=mail_id, reason=log.redact(reason))


def void_results(*, mail_id: int | str, peer: str) -> None:
    """Log that a mail's Authentication-Results are ignored, since its peer is not a listed one."""
    _log.info(
        "void results",
        mail_id=mail_id,
        peer=peer,
        reason="Authentication-Results with a trusted id count only from [auth_results] peers",
    )


def held(*, mail_id: int | str, reason: str, exc: BaseException | None = None) -> None:
    """Log that a mail could not be processed and waits for a person; its raw bytes are kept."""
    _log.warning(
        "held",
        mail_id=mail_id,
        reason=log.redact(reason),
        **(log.error_fields(exc) if exc is not None else {}),
    )


def duplicate(*, mail_id: int | str, original: int | str, source: str | None = None) -> None:
    """Log that the mail is already stored as ``original``; its sender got the reply 250 anyway."""
    _log.info("duplicate", mail_id=mail_id, original=original, source=source)


def released(*, mail_id: int | str, actor: str) -> None:
    """Log that a person released a quarantined or held mail."""
    _log.info("released", mail_id=mail_id, actor=log.address(actor))


def retried(*, mail_id: int | str, actor: str) -> None:
    """Log that a person asked for another attempt at a held mail."""
    _log.info("retried", mail_id=mail_id, actor=log.address(actor))


def discarded(*, mail_id: int | str, actor: str) -> None:
    """Log that a person discarded a mail."""
    _log.info("discarded", mail_id=mail_id, actor=log.address(actor))


def moved(*, ticket: int, before: str, after: str, rule: str) -> None:
    """Log that something other than mail (a person, a workflow, the API) moved a ticket."""
    _log.info("moved", ticket=ticket, before=before, after=after, rule=rule)
