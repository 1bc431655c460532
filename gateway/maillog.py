"""The fixed words for what happens to mail: one function a word, so that a log can be searched and
counted for years.

Every mail that was accepted ends in exactly one of :func:`processed`, :func:`held` or
:func:`duplicate`: that line is its canonical one and tells all that is known. Names of fields are
stable. Addresses go in as they are and come out as ``[log] addresses`` says; ``reason`` and
``reason_code`` are words of ours, never text of a mail.
"""

from __future__ import annotations

from typing import Any

from gateway import log

_log = log.logger("mail")


def queued(*, mail_id: int | str, source: str, size: int, peer: str | None = None) -> None:
    """A mail of ``size`` bytes is durable in the spool; ``source`` is smtp, lmtp, imap, pipe, file
    or http. Level debug.
    """
    _log.debug("queued", mail_id=mail_id, source=source, size=size, peer=peer)


def refused(
    *, source: str, reason_code: str, peer: str | None = None, address: str | None = None
) -> None:
    """A mail, a recipient or a connection was turned away with a permanent or a temporary answer,
    for the named reason.
    """
    _log.info(
        "refused", source=source, reason_code=reason_code, peer=peer, address=log.address(address)
    )


def failed(
    *, source: str, error_id: str, exc: BaseException, mail_id: int | str | None = None
) -> None:
    """Something of ours broke; ``error_id`` is what the client was told, so that a report from
    outside can be found here.
    """
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
    """A mail reached its end: done, ignored or quarantined; ``rule`` is what decided, ``more`` are
    further plain figures such as ``size``.
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
    """A mail could not be read in two tries; it goes on with what its headers tell."""
    _log.warning("unreadable", mail_id=mail_id, reason=log.redact(reason))


def held(*, mail_id: int | str, reason: str, exc: BaseException | None = None) -> None:
    """A mail could not be processed and waits for a person; its raw bytes are kept."""
    _log.warning(
        "held",
        mail_id=mail_id,
        reason=log.redact(reason),
        **(log.error_fields(exc) if exc is not None else {}),
    )


def duplicate(*, mail_id: int | str, original: int | str, source: str | None = None) -> None:
    """The same mail is there already as ``original``; the sender got his 250 and nothing else
    happened.
    """
    _log.info("duplicate", mail_id=mail_id, original=original, source=source)


def released(*, mail_id: int | str, actor: str) -> None:
    """A person let a quarantined or held mail through."""
    _log.info("released", mail_id=mail_id, actor=log.address(actor))


def retried(*, mail_id: int | str, actor: str) -> None:
    """A person asked for another attempt at a held mail."""
    _log.info("retried", mail_id=mail_id, actor=log.address(actor))


def discarded(*, mail_id: int | str, actor: str) -> None:
    """A person decided that a mail is not to become anything."""
    _log.info("discarded", mail_id=mail_id, actor=log.address(actor))


def moved(*, ticket: int, before: str, after: str, rule: str) -> None:
    """A ticket changed its status by something that is no mail: a person, a workflow, the API."""
    _log.info("moved", ticket=ticket, before=before, after=after, rule=rule)
