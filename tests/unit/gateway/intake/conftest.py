"""The mails of the reading tests, for the tests of the processes that read."""

from __future__ import annotations

from tests.unit.gateway.reading.conftest import mail, multipart

__all__ = ["mail", "multipart"]
