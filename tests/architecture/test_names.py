"""Tests of names and sizes: unique class names, people are "they", short functions."""

from __future__ import annotations

import ast
import re
import statistics
from collections import defaultdict
from pathlib import Path

import pytest

from tests.architecture.source import MARKDOWN, ROOT, SOURCES, TESTS, functions, place, prose, tree

HE = re.compile(r"\b(?:he|his|him|himself)\b", re.IGNORECASE)
WRITTEN = [path for path in SOURCES if "versions" not in path.parts]  # migrations are never edited
MEDIAN_LINES, P90_LINES = 8, 25
TEST_LINES = 500


def test_no_two_classes_share_a_name() -> None:
    """A class name, public or private, is used once in core, config and gateway."""
    places: dict[str, list[str]] = defaultdict(list)
    for path in SOURCES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{place(path)}:{node.lineno}")
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def spoken(path: Path) -> list[tuple[int, str]]:
    """Return the text of a module that people read: docstrings, comments, and other strings.

    The other strings of gateway/reading (patterns for mail) and of tests (mail) are left out.
    """
    texts = list(prose(path))
    if not place(path).startswith(("gateway/reading/", "tests/")):
        texts += [
            (node.lineno, node.value)
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
    return texts


def test_people_are_they_in_code() -> None:
    """No docstring, comment or message calls a person "he"; mail in fixtures may."""
    found = {
        f"{place(path)}:{line}: {text[:60]}"
        for path in [*WRITTEN, *TESTS]
        if path.name != "test_names.py"
        for line, text in spoken(path)
        if HE.search(text)
    }
    assert sorted(found) == []


@pytest.mark.parametrize("path", MARKDOWN, ids=place)
def test_people_are_they_in_pages(path: Path) -> None:
    """No page calls a person "he"."""
    lines = enumerate(path.read_text().splitlines(), 1)
    assert [f"{number}: {line[:60]}" for number, line in lines if HE.search(line)] == []


def test_functions_stay_short() -> None:
    """Length from def to the last line: median at most 8, 90th percentile at most 25."""
    sizes = [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for path in WRITTEN
        for node in functions(tree(path))
    ]
    assert statistics.median(sizes) <= MEDIAN_LINES
    assert statistics.quantiles(sizes, n=10)[8] <= P90_LINES


def test_unit_tests_mirror_the_tree() -> None:
    """A unit test is in the folder of the same path as the module it tests."""
    folders = {path.parent.relative_to(ROOT / "tests/unit") for path in TESTS if is_unit(path)}
    assert sorted(str(folder) for folder in folders if not (ROOT / folder).is_dir()) == []


def is_unit(path: Path) -> bool:
    """Return whether a file is a module of unit tests."""
    return place(path).startswith("tests/unit/") and path.name.startswith("test_")


@pytest.mark.parametrize("path", TESTS, ids=place)
def test_test_files_keep_their_size(path: Path) -> None:
    """A test file has at most 500 lines."""
    assert len(path.read_text().splitlines()) <= TEST_LINES


def test_lines_have_at_most_100_columns():
    """No line of a Python file is longer, migrations and pragma comments included."""
    files = [*SOURCES, *TESTS]
    lines = ((path, text) for path in files for text in path.read_text("utf-8").splitlines())
    assert [f"{place(path)}: {text}" for path, text in lines if len(text) > 100] == []
