"""Find the data folder, database and blobs of this installation; refuse a missing database."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from config.load import Loaded
from gateway.errors import AbsentDatabase

PASSWORD_IN_URL: Final = re.compile(r"(?<=://)([^/@:\s]*):[^/@\s]*(?=@)")
HIDDEN: Final = "**********"


def places(loaded: Loaded) -> dict[str, str]:
    """Return data folder, database and blobs: files as absolute paths, anything else as URLs."""
    settings = loaded.settings
    file, blobs = database_file(loaded), settings.blobs.url
    return {
        "data": _whole(settings.data.directory),
        "database": str(file) if file is not None else without_password(settings.database.url),
        "blobs": _whole(blobs.removeprefix("file://"))
        if blobs.startswith("file://")
        else without_password(blobs),
    }


def without_password(url: str) -> str:
    """Return a URL with its password replaced by stars."""
    return PASSWORD_IN_URL.sub(rf"\1:{HIDDEN}", url)


def database_file(loaded: Loaded) -> Path | None:
    """Return the absolute path of an SQLite database; None for PostgreSQL."""
    from gateway.store.engine import file_of, parsed

    path = file_of(parsed(loaded.settings.database.url))
    return Path(_whole(path)) if path is not None else None


def refuse_absent(loaded: Loaded) -> None:
    """Raise AbsentDatabase if the SQLite file is missing; for commands that do not create it."""
    path = database_file(loaded)
    if path is None or is_there(path):
        return
    raise AbsentDatabase(
        f"there is no database at {path} ({_said_by(loaded)}): name another configuration with "
        "--config, or create the database with: ticketgate db upgrade"
    )


def is_there(path: Path) -> bool:
    """Tell whether a database file exists and is not empty; True if it cannot be examined."""
    try:
        return path.stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # opening it tells the reason
        return True


def _said_by(loaded: Loaded) -> str:
    """Return the setting that names the database, like "data.directory of ticketgate.toml"."""
    directory = loaded.settings.data.directory.rstrip("/") or "/"
    inside = loaded.settings.database.url == f"sqlite:///{directory}/ticketgate.db"
    for key in ("data.directory", "database.url") if inside else ("database.url",):
        if (source := loaded.sources.get(key)) is not None:
            return f"{key} of {source}"
    return "the built-in default, inside the present folder"


def _whole(path: str | Path) -> str:
    return str(Path(path).absolute())
