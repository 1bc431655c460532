"""The mails of the tests of reading, for the tests of intake."""

from __future__ import annotations

from tests.unit.gateway.reading.conftest import mail, multipart

__all__ = ["mail", "multipart"]
