from __future__ import annotations
from core.message import Forwarded
def find(text, subject, headers, messages) -> Forwarded | None:
    return None
