"""Tests that all output passes through gateway/cli/output.py, which makes controls visible."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOOR = "gateway/cli/output.py"
STREAMS = {"stdout", "stderr"}
PRINTERS = {"print", "echo", "secho", "print_exception", "print_exc", "print_tb", "Console"}
# What writes to a stream by itself, and the reason why that is right.
EXCEPTIONS = {
    ("gateway/cli/main.py", "sys.stdout.flush"): "writes nothing new",
    ("gateway/cli/main.py", "sys.stdout.fileno"): "writes nothing",
    ("gateway/cli/opening.py", "sys.stderr"): "the log, which quotes what it prints",
    ("gateway/log.py", "sys.stderr"): "the log, which quotes what it prints",
    ("gateway/daemon/serve.py", "sys.stderr"): "the log, which quotes what it prints",
}


def dotted(node: ast.AST) -> str:
    """Return ``sys.stdout.write`` for such an expression."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def printing(tree: ast.AST) -> Iterator[str]:
    """Yield the names of calls that print, and of uses of the standard streams."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and dotted(node.func).split(".")[-1] in PRINTERS:
            yield dotted(node.func)
        name = dotted(node)
        parts = name.split(".")
        if parts[0] == "sys" and len(parts) > 1 and parts[1] in STREAMS:
            yield name


def test_only_one_file_prints():
    """No other file calls a printer or writes to stdout or stderr, but for named exceptions."""
    found = {
        (path.relative_to(ROOT).as_posix(), name)
        for package in ("core", "config", "gateway")
        for path in (ROOT / package).rglob("*.py")
        for name in printing(ast.parse(path.read_bytes()))
        if path.relative_to(ROOT).as_posix() != DOOR
    }
    shorter = {
        place
        for place in found
        if any(o != place and o[0] == place[0] and o[1].startswith(place[1] + ".") for o in found)
    }
    assert found - shorter - EXCEPTIONS.keys() == set()
