"""Tests of reading TOML and JSON that somebody made to break the reader."""

from __future__ import annotations

import time
import tomllib

import pytest

from config.documents import DEEPEST, MOST_BYTES, BadDocument, parse_json, parse_toml

BOMBS = {
    "lists": "x = " + "[" * 100_000,
    "closed lists": "x = " + "[" * 5_000 + "]" * 5_000,
    "lists below the limit of the stack": "x = " + "[" * 250 + "]" * 250,
    "tables": "x = " + "{a = " * 5_000 + "1" + "}" * 5_000,
    "long key": ".".join(["a"] * 100_000) + " = 1",
    "long quoted key": " . ".join(['"a b"', "'c'"] * 50_000) + " = 1",
    "long header": "[" + ".".join(["a"] * 100_000) + "]",
    "many digits": "x = " + "9" * 5_000,
    "hexadecimal digits": "x = 0x" + "f" * 100_000,
    "too large a number": f"x = {2**63}",
    "too large a file": "#" * (MOST_BYTES + 1),
    "no TOML": "x = [",
    "a key twice": "x = 1\nx = 2",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_with_a_clause(name):
    """Nothing but BadDocument comes out of a bomb, with a clause that says what is wrong."""
    with pytest.raises(BadDocument, match=r"^(is|has) "):
        parse_toml(BOMBS[name])


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "[" * 500 + "]" * 500, '{"a":' * 900 + "1" + "}" * 900, "9" * 400, "[", "NaN,"],
)
def test_a_json_bomb_is_refused_with_a_clause(text):
    """The same holds for JSON."""
    with pytest.raises(BadDocument, match=r"^(is|has) "):
        parse_json(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"x = {2**63 - 1}\ny = {-(2**63) + 1}",
        "x = " + "[" * (DEEPEST - 2) + "]" * (DEEPEST - 2),
        ".".join(["a"] * 100) + ' = "' + "www.example." * 1_000 + '"',
        "x = 2026-11-22T10:00:00Z\ny = 1.5\nz = nan",
    ],
    ids=["empty", "numbers", "depth", "dots in a text", "dates"],
)
def test_ordinary_documents_are_read(text):
    """Everything within the limits reads as tomllib reads it."""
    assert str(parse_toml(text)) == str(tomllib.loads(text))


def test_looking_for_long_keys_costs_little():
    """A text of one word, of quotes, or of short keys costs time in proportion to its length."""

    def cost(size: int) -> float:
        before = time.process_time()
        for unit in ("a", '"', "a.", "'a'.b ", "-", "a . ", "{", ",a", "\t", "\na."):
            with pytest.raises(BadDocument):
                parse_toml("= " + unit * (size // len(unit)))
        return time.process_time() - before

    cost(20_000)
    assert cost(400_000) < 100 * max(cost(20_000), 0.001)
