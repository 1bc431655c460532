"""Shared by the tests of this folder: the project's files, syntax trees and prose."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("core", "config", "gateway")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
SPEC = ROOT / "docs/spec"
MARKDOWN = [
    *(path for path in sorted((ROOT / "docs").rglob("*.md")) if SPEC not in path.parents),
    *(path for name in ("README.md", "CONTRIBUTING.md") if (path := ROOT / name).exists()),
]


def place(path: Path) -> str:
    """Return a path relative to the project, as the rules write it."""
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_bytes())


def functions(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function below a node, methods and inner ones too."""
    return (
        each for each in ast.walk(node) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    )


@cache
def prose(path: Path) -> tuple[tuple[int, str], ...]:
    """Return each docstring and comment of a module as one line, with its line number."""
    return (*_docstrings(tree(path)), *_comments(path))


def _docstrings(module: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(module):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), " ".join(text.split())


def _comments(path: Path) -> Iterator[tuple[int, str]]:
    lines: list[str] = []
    begin = last = 0
    for token in tokenize.tokenize(io.BytesIO(path.read_bytes()).readline):
        if token.type != tokenize.COMMENT:
            continue
        if token.start[0] != last + 1:
            yield begin, " ".join(lines)
            lines, begin = [], token.start[0]
        lines.append(token.string.lstrip("# ").partition("noqa")[0])
        last = token.start[0]
    yield begin, " ".join(lines)
