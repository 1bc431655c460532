"""Read settings from one file, systemd credentials and the environment, and report problems.

Of these sources, a later one wins: defaults, the file, credentials
(``$CREDENTIALS_DIRECTORY/section.key``), the environment (``TICKETGATE_SECTION__KEY``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, get_origin

from config.documents import BadDocument, parse_json, parse_toml
from config.problems import Problem
from config.settings import ImapSettings, OauthSettings, Section, Settings

PREFIX: Final = "TICKETGATE_"
RESERVED: Final = frozenset({"TICKETGATE_NOW", "TICKETGATE_REQUIRE_ALL", "TICKETGATE_CONFIG"})
PLACES: Final = (Path("ticketgate.toml"), Path("/etc/ticketgate/ticketgate.toml"))
ITEMS: Final[dict[str, type[Section]]] = {"imap": ImapSettings, "oauth": OauthSettings}
SECRETS: Final = {
    "outbound": "password",
    "webhooks": "secret",
    "imap": "password",
    "oauth": "client_secret",
}
MAX_FILE_BYTES: Final = 1 << 20
Key = tuple[str, ...]
_TOML_HINTS: Final = {  # by the words of tomllib's message
    "Invalid value": 'put text in quotes, as in name = "Support"',
    "Cannot overwrite a value": "set each key only once",
}
# Stands for a secret whose file could not be read, so that no rule reports it as missing too.
_PLACEHOLDER: Final = "unread"


@dataclass(slots=True)
class Gathered:
    """The merged values of all sources, the source of each value, and all problems."""

    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[Key, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def put(self, key: Key, value: Any, source: str) -> None:
        """Set a value, in place of a value from an earlier source."""
        if len(key) == 1:
            self.values[key[0]] = value
        else:
            table = self.values.get(key[0])
            self.values[key[0]] = {**(table if isinstance(table, dict) else {}), key[1]: value}
        self.sources[key] = source

    def put_section(self, section: str, values: dict[str, Any], source: str) -> None:
        """Set values of a section, and create the section even if ``values`` is empty."""
        self.values.setdefault(section, {})
        for key, value in values.items():
            self.put((section, key), value, source)

    def report(self, source: str, key: str, reason: str, suggestion: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(source, key, reason, suggestion))

    def source(self, loc: tuple[int | str, ...]) -> str:
        """Return the source of a value; for a missing value, the source of its section."""
        key = tuple(str(part) for part in loc[:2])
        exact = self.sources.get(key) or self.sources.get(key[:1])
        others = (source for each, source in self.sources.items() if each[0] == loc[0])
        return exact or next(others, "defaults")


def section_model(name: str) -> type[Section] | None:
    """Return the model of a plain section (not a list of tables); None if there is none."""
    about = Settings.model_fields.get(name)
    model = about.annotation if about is not None else None
    return model if isinstance(model, type) and issubclass(model, Section) else None


def did_you_mean(name: str, known: Iterator[str] | list[str]) -> str:
    """Return a suggestion for a misspelt name: the closest known name, or all known names."""
    names = list(known)
    near = get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else f"known names: {', '.join(names)}"


def find_file(named: Path | None) -> Path | None:
    """Return the file to read: ``named`` if given, or the first that exists at the usual places."""
    return (
        named if named is not None else next((place for place in PLACES if place.is_file()), None)
    )


def read_file(path: Path, gathered: Gathered) -> None:
    """Add the values of a TOML file; report a file that is missing, unreadable or not TOML."""
    for section, table in _parse_file(path, gathered).items():
        if isinstance(table, dict):
            gathered.put_section(section, table, str(path))
        else:
            gathered.put((section,), table, str(path))


def _parse_file(path: Path, gathered: Gathered) -> dict[str, Any]:
    line = ""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
        if len(raw) <= MAX_FILE_BYTES:
            return parse_toml(raw.decode())
        reason = f"is larger than {MAX_FILE_BYTES >> 20} MiB"
        suggestion = "name a configuration file"
    except FileNotFoundError:
        reason, suggestion = "there is no such file", "name an existing file, or leave out --config"
    except OSError as error:
        reason = f"cannot be read: {os.strerror(error.errno or 0)}"
        suggestion = "check the path and its permissions"
    except UnicodeDecodeError as error:
        number = error.object.count(b"\n", 0, error.start) + 1
        line = f"line {number}"
        reason, suggestion = "is not UTF-8 text", "save the file as UTF-8"
    except BadDocument as error:
        reason = str(error)
        hints = (hint for word, hint in _TOML_HINTS.items() if word in str(error))
        suggestion = next(hints, "correct this line")
    gathered.report(str(path), line, reason, suggestion)
    return {}


def read_environment(environ: Mapping[str, str], gathered: Gathered) -> None:
    """Add the values of environment variables.

    Lists, numbers and truth values are written as JSON; an empty text also stands for an empty
    list. Other values are taken as they are.
    """
    for name in sorted(environ):
        section, double, key = name.removeprefix(PREFIX).lower().partition("__")
        if not name.startswith(PREFIX) or name in RESERVED or not (double or section in ITEMS):
            continue
        _put_text(
            (section, key) if double else (section,), environ[name], "environment", name, gathered
        )


def read_credentials(folder: str, gathered: Gathered) -> None:
    """Add the files of systemd's credentials folder that are named ``section.key``; skip others."""
    for path in sorted(Path(folder).glob("*.*")):
        section, _, key = path.name.partition(".")
        if section not in Settings.model_fields:
            continue
        try:
            text = path.read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            gathered.report(
                "credentials",
                path.name,
                "cannot be read as text",
                "check LoadCredential= of the unit",
            )
            continue
        if section in ITEMS:
            _put_list_secret(section, key, text, gathered)
        else:
            _put_text((section, key), text, "credentials", path.name, gathered)


def _put_list_secret(section: str, key: str, text: str, gathered: Gathered) -> None:
    """Set a secret of a table in a list: ``imap.NAME.password`` belongs to the table NAME."""
    name, _, secret = key.rpartition(".")
    tables = gathered.values.get(section)
    if isinstance(tables, list):
        for number, table in enumerate(tables):
            if isinstance(table, dict) and table.get("name") == name:
                tables[number] = {**table, secret: text}
                return
    suggestion = f"use the name of a [[{section}]] table, as in {section}.NAME.{SECRETS[section]}"
    gathered.report("credentials", f"{section}.{key}", "matches no table of the file", suggestion)


def _put_text(key: Key, text: str, source: str, shown: str, gathered: Gathered) -> None:
    """Add a value given as text, converted to the type of its key; report unknown names."""
    if len(key) == 1:
        wanted: Any = tuple
    else:
        model = section_model(key[0])
        if model is None:
            known = [name for name in Settings.model_fields if name not in ITEMS]
            gathered.report(
                source, shown, f"unknown section {key[0]!r}", did_you_mean(key[0], known)
            )
            return
        if key[1] not in model.model_fields:
            suggestion = did_you_mean(key[1], list(model.model_fields))
            gathered.report(source, shown, f"unknown key {key[1]!r} in [{key[0]}]", suggestion)
            return
        wanted = model.model_fields[key[1]].annotation
    is_list = wanted is tuple or get_origin(wanted) is tuple
    if is_list and not text.strip():
        gathered.put(key, [], source)  # an empty value switches a listener off (interfaces.md 6)
    elif is_list or wanted in {int, bool}:
        try:
            gathered.put(key, parse_json(text), source)
        except BadDocument:
            form = {int: "a whole number", bool: "true or false"}.get(
                wanted, 'a JSON list, as in ["a", "b"]'
            )
            gathered.report(
                source, shown, f"is not {form}", "write lists, numbers and true/false as JSON"
            )
    else:
        gathered.put(key, text, source)


def read_secret_files(gathered: Gathered) -> None:
    """Set each secret whose file is named by a key such as ``password_file``."""
    for section, secret in SECRETS.items():
        tables = gathered.values.get(section)
        for table in tables if isinstance(tables, list) else [tables]:
            if isinstance(table, dict) and table.get(f"{secret}_file"):
                _read_secret(section, secret, table, gathered)


def _read_secret(section: str, secret: str, table: dict[str, Any], gathered: Gathered) -> None:
    """Set a secret from its file, unless a later source has set it.

    A secret that is set twice is reported.
    """
    path, key = table[f"{secret}_file"], f"{section}.{secret}_file"
    if section in ITEMS:
        key = f"{section}.{table.get('name', '?')}.{secret}_file"
    source = gathered.source((section, f"{secret}_file"))
    if not isinstance(path, str):
        return
    if table.get(secret):
        if gathered.source((section, secret)) == source:
            gathered.report(source, key, f"{secret} is set as well", "remove one of them")
        return
    try:
        text = Path(path).read_text().rstrip("\r\n")
    except (OSError, ValueError) as error:
        why = os.strerror(error.errno or 0) if isinstance(error, OSError) else "it is not text"
        gathered.report(
            source, key, f"{path!r} cannot be read: {why}", "check the path and its permissions"
        )
        table[secret] = _PLACEHOLDER
        return
    if not text:
        gathered.report(source, key, f"{path!r} is empty", "write the secret on its first line")
        text = _PLACEHOLDER
    table[secret] = text
