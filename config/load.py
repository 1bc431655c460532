"""Build one :class:`Settings` from file, credentials and environment, or report every mistake.

Every mistake is raised as :class:`ConfigError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from config.checks import violations
from config.problems import ConfigError, Problem
from config.settings import Settings
from config.sources import (
    Gathered,
    find_file,
    read_credentials,
    read_environment,
    read_file,
    read_secret_files,
)
from config.validate import validate


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration.

    ``sources`` maps each key that is set (``section.key``) to the name of its source; ``file`` is
    the file that was read, if any.
    """

    settings: Settings
    sources: Mapping[str, str]
    file: Path | None


def load(path: Path | None, environ: Mapping[str, str]) -> Loaded:
    """Read the configuration from ``path``, or from the first file found at the usual places.

    Without any file, only the other sources count. Raises :class:`ConfigError` with every problem
    at once: syntax, unknown keys, wrong types, keys that do not fit together, unreadable secrets.
    """
    gathered = Gathered()
    file = find_file(path)
    if file is not None:
        read_file(file, gathered)
    if environ.get("CREDENTIALS_DIRECTORY"):
        read_credentials(environ["CREDENTIALS_DIRECTORY"], gathered)
    read_environment(environ, gathered)
    read_secret_files(gathered)
    settings, invalid = validate(gathered)
    problems = gathered.problems + invalid
    known = {problem.key for problem in problems}
    for key, reason, suggestion in violations(settings):
        if not _reported(key, known):
            section, _, rest = key.partition(".")
            problems.append(
                Problem(gathered.source((section, rest.partition("[")[0])), key, reason, suggestion)
            )
    if problems:
        raise ConfigError(tuple(problems))
    return Loaded(
        settings, {".".join(key): source for key, source in gathered.sources.items()}, file
    )


def _reported(key: str, known: set[str]) -> bool:
    """Tell whether the key, or a table that contains the key, is in ``known``."""
    return any(
        key == other or key.startswith((f"{other}.", f"{other}[")) for other in known if other
    )
