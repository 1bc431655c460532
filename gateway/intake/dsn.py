from __future__ import annotations
from dataclasses import dataclass
from core.message import Bounce
@dataclass
class Report:
    kind: str = ""
    bounce: Bounce | None = None
    rule: str = ""
    challenge: bool = False
def read(root, headers, sender, subject, text, *, null_path) -> Report:
    return Report()
