"""Results of submitting a mail to the smarthost.

``reply`` is the server's answer, or a sentence of ours where there was none.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sent:
    """The smarthost accepted the mail."""

    reply: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """Temporary failure; the delivery is attempted again later.

    ``everybody`` means that the smarthost or our account is at fault, so that attempts for other
    recipients would fail, too.
    """

    reply: str
    everybody: bool = False


@dataclass(frozen=True, slots=True)
class PermanentFailure:
    """Permanent failure; the delivery is not attempted again."""

    reply: str


Result = Sent | Deferred | PermanentFailure
