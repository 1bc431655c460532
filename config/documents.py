"""Parse TOML and JSON that may come from anybody and may be made to do harm.

A few bytes can exhaust the stack, keep the parser busy for hours, or hold a number that no other
format can take.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any, Final

MOST_BYTES: Final = 4 << 20
DEEPEST: Final = 200  # tables and lists in one another; the deepest workflow needs 120
LARGEST: Final = 2**63 - 1  # TOML asks for 64 bits
_TOO_DEEP: Final = f"is nested more than {DEEPEST} deep"
_TOO_LARGE: Final = "has a number that does not fit into 64 bits"
# tomllib needs the square of the time for a key of many parts.
_LONG_KEY: Final = re.compile(
    r"""(?:^|[{,[])[ \t]*+(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){200}""",
    re.MULTILINE,
)


class BadDocument(ValueError):
    """The text cannot be read; the message is a clause like "is not TOML: ..."."""


def parse_toml(text: str) -> dict[str, Any]:
    """Return the tables of a text; raise :class:`BadDocument` for anything else."""
    if len(text) > MOST_BYTES:
        raise BadDocument(f"is larger than {MOST_BYTES >> 20} MiB")
    if _LONG_KEY.search(text):
        raise BadDocument(_TOO_DEEP)
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadDocument(f"is not TOML: {error}") from None
    except RecursionError:
        raise BadDocument(_TOO_DEEP) from None
    except ValueError:  # more digits than Python converts
        raise BadDocument(_TOO_LARGE) from None
    _refuse_bomb(found)
    return found


def parse_json(text: str) -> Any:
    """Return the value of a JSON text; raise :class:`BadDocument` for anything else."""
    try:
        found = json.loads(text)
    except RecursionError:
        raise BadDocument(_TOO_DEEP) from None
    except ValueError:
        raise BadDocument("is not JSON") from None
    _refuse_bomb(found)
    return found


def _refuse_bomb(found: Any) -> None:
    """Raise :class:`BadDocument` for a value nested too deep or with too large a number."""
    level = [found]
    for _ in range(DEEPEST):
        if any(isinstance(each, int) and abs(each) > LARGEST for each in level):
            raise BadDocument(_TOO_LARGE)
        level = [inner for each in level for inner in _inside(each)]
        if not level:
            return
    raise BadDocument(_TOO_DEEP)


def _inside(value: Any) -> list[Any]:
    """Return the values directly inside a table or list."""
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
