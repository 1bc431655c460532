"""Fixtures of the OAuth tests."""

from __future__ import annotations

from tests.unit.gateway.ingress.conftest import make_pair

__all__ = ["make_pair"]
