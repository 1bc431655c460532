"""Names, words and sizes: one meaning for a class name, people are "they", functions stay short."""

from __future__ import annotations

import ast
import re
import statistics
from collections import defaultdict
from pathlib import Path

import pytest

from tests.architecture.source import MARKDOWN, ROOT, SOURCES, TESTS, functions, place, prose, tree

HE = re.compile(r"\b(?:he|his|him|himself)\b", re.IGNORECASE)
WRITTEN = [path for path in SOURCES if "versions" not in path.parts]  # migrations stay as they are
MEDIAN_LINES, P90_LINES = 8, 25
TEST_LINES = 500


def test_no_two_classes_share_a_name() -> None:
    """A class name, public or private, has one meaning in core, config and gateway."""
    places: dict[str, list[str]] = defaultdict(list)
    for path in SOURCES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{place(path)}:{node.lineno}")
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def spoken(path: Path) -> list[tuple[int, str]]:
    """Return what a module says to people: docstrings, comments, and its other strings.

    Strings of gateway/reading are patterns for mail in all languages, and those of the tests are
    mail: both are left out.
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
    """No docstring, comment or message calls somebody he; mail in fixtures may."""
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
    """No page calls somebody he."""
    lines = enumerate(path.read_text().splitlines(), 1)
    assert [f"{number}: {line[:60]}" for number, line in lines if HE.search(line)] == []


def test_functions_stay_short() -> None:
    """From def to the last line, docstring counted: half have at most 8 lines, nine tenths 25."""
    sizes = [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for path in WRITTEN
        for node in functions(tree(path))
    ]
    assert statistics.median(sizes) <= MEDIAN_LINES
    assert statistics.quantiles(sizes, n=10)[8] <= P90_LINES


def test_unit_tests_mirror_the_tree() -> None:
    """A unit test lies in the folder of the same path as what it tests."""
    folders = {path.parent.relative_to(ROOT / "tests/unit") for path in TESTS if is_unit(path)}
    assert sorted(str(folder) for folder in folders if not (ROOT / folder).is_dir()) == []


def is_unit(path: Path) -> bool:
    """Say whether a file is a module of unit tests."""
    return place(path).startswith("tests/unit/") and path.name.startswith("test_")


@pytest.mark.parametrize("path", TESTS, ids=place)
def test_test_files_keep_their_size(path: Path) -> None:
    """A test file has at most 500 lines: tests of another subject go into another file."""
    assert len(path.read_text().splitlines()) <= TEST_LINES
