"""Fixtures of test mails, shared with the tests of reading."""

from __future__ import annotations

from tests.unit.gateway.reading.conftest import mail, multipart

__all__ = ["mail", "multipart"]
