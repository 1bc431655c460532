"""The mistakes in a configuration: one :class:`Problem` each, and the error that holds them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: its source, key, reason and suggestion.

    The source is a file, ``environment`` or ``credentials``.
    """

    file: str
    key: str
    reason: str
    suggestion: str = ""

    def __str__(self) -> str:
        """Return ``FILE: KEY: reason (suggestion)`` without the parts that are empty."""
        where = ": ".join(part for part in (self.file, self.key) if part)
        return f"{where}: {self.reason}" + (f" ({self.suggestion})" if self.suggestion else "")


class ConfigError(Exception):
    """The configuration cannot be used; ``problems`` holds every mistake, in file order."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        """Make the error; ``problems`` must not be empty."""
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems
