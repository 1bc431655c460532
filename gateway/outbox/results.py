"""The result of handing a mail to the smarthost.

``reply`` is the server's answer, or our own sentence where there was none.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sent:
    """The smarthost accepted the mail."""

    reply: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """Try again later.

    ``everybody`` means that the smarthost or our account is at fault, so other recipients need not
    be tried.
    """

    reply: str
    everybody: bool = False


@dataclass(frozen=True, slots=True)
class PermanentFailure:
    """Permanent failure; do not retry."""

    reply: str


Result = Sent | Deferred | PermanentFailure
