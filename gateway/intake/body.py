from __future__ import annotations
def visible(text: str) -> tuple[str, str]:
    return text, ""
