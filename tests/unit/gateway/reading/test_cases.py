"""Tests of mails with one oddity each, and the expected result of reading them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.cli.inspect import as_row
from gateway.reading import parse

CASES = sorted((Path(__file__).parent / "cases").glob("*.eml"))


def test_there_are_enough():
    """There are at least 120 mails."""
    assert len(CASES) >= 120


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path):
    """Expected keys have their values; ``defects`` are a subset, ``files`` names and sizes."""
    expected = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    row = as_row(path.name, parse.read(path.read_bytes(), html=True), ())
    assert set(expected.pop("defects", ())) <= set(row["defects"])
    if "files" in expected:
        assert [[each["filename"], each["size"]] for each in row["attachments"]] == expected.pop(
            "files"
        )
    assert {key: row[key] for key in expected} == expected
