"""From file, credentials and environment to one :class:`Settings`, or to all that is wrong with
them at once.

What can go wrong is the user's configuration only, and it always comes out as :class:`ConfigError`,
whatever stands in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from config.problems import ConfigError, Problem
from config.rules import broken_rules
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
    """A configuration that holds: the settings, for each key that is set where it came from
    (``section.key``), and the file, if one was read.
    """

    settings: Settings
    sources: Mapping[str, str]
    file: Path | None


def load(path: Path | None, environ: Mapping[str, str]) -> Loaded:
    """Reads the configuration. ``path`` is the named file; None looks in the usual places and may
    find none.

    Raises :class:`ConfigError` with every problem: syntax, unknown keys, wrong types, keys that do
    not fit together, secrets that cannot be read.
    """
    gathered = Gathered()
    file = find_file(path)
    if file is not None:
        read_file(file, gathered)
    if environ.get("CREDENTIALS_DIRECTORY"):
        read_credentials(environ["CREDENTIALS_DIRECTORY"], gathered)
    read_environment(environ, gathered)
    read_secret_files(gathered)
    settings, wrong = validate(gathered)
    problems = gathered.problems + wrong
    known = {problem.key for problem in problems}
    for key, reason, suggestion in broken_rules(settings):
        if not _told(key, known):
            section, _, rest = key.partition(".")
            problems.append(
                Problem(gathered.source((section, rest.partition("[")[0])), key, reason, suggestion)
            )
    if problems:
        raise ConfigError(tuple(problems))
    return Loaded(
        settings, {".".join(key): source for key, source in gathered.sources.items()}, file
    )


def _told(key: str, known: set[str]) -> bool:
    """Whether a problem with that very key, or with the whole of what it lies in, is in the list
    already.
    """
    return any(
        key == other or key.startswith((f"{other}.", f"{other}[")) for other in known if other
    )
