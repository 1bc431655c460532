"""What is wrong with a configuration: one :class:`Problem` a mistake, and the error that carries
all of them at once.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: in which file (or ``environment``, ``credentials``), at which key, why it is
    wrong, and what to do instead.
    """

    file: str
    key: str
    reason: str
    suggestion: str = ""

    def __str__(self) -> str:
        """``FILE: KEY: reason (suggestion)``; parts that are empty are left out."""
        where = ": ".join(part for part in (self.file, self.key) if part)
        return f"{where}: {self.reason}" + (f" ({self.suggestion})" if self.suggestion else "")


class ConfigError(Exception):
    """The configuration cannot be used. ``problems`` holds every mistake that was found, in the
    order of the file.
    """

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        """``problems`` is never empty."""
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems
