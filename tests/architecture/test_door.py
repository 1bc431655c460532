"""Tests that people's changes go through the desk, which checks their rights."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GATEWAY = ROOT / "gateway"
TREES = {path: ast.parse(path.read_bytes()) for path in sorted(GATEWAY.rglob("*.py"))}
# Modules of the store with functions that write on behalf of a person.
WRITERS = (
    "gateway.store.setup.channels",
    "gateway.store.setup.default_workflows",
    "gateway.store.setup.pipelines",
    "gateway.store.setup.references",
    "gateway.store.setup.templates",
    "gateway.store.setup.users",
    "gateway.store.setup.workflow_history",
    "gateway.store.setup.workflows",
    "gateway.store.queues.mail_register",
    "gateway.store.queues.outbox",
    "gateway.store.erasure.erase",
)
# Packages that receive people's requests and hand them to the desk.
ASKING = ("cli", "daemon", "web")
# Work of the installation itself, with the reason why no right is checked.
OWN_WORK = {
    ("gateway/agenda/worker.py", "forget_runs")  # deletes old entries of the action log
}
STATEMENTS = {"insert", "update", "delete"}


def place(path: Path) -> str:
    """Return a path relative to the project, as the rules write it."""
    return path.relative_to(ROOT).as_posix()


def attributes(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Return (owner, name) of every call like ``pipelines.add(...)``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            match node.func.value:
                case ast.Name(id=before) | ast.Attribute(attr=before):
                    yield before, node.func.attr
                case _:
                    yield "", node.func.attr


def names(tree: ast.AST) -> set[str]:
    """Return the names of all functions that are called without a dot."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {node.func.id for node in calls if isinstance(node.func, ast.Name)}


@cache
def writers(module: str) -> set[str]:
    """Return the public functions of a module that write rows, directly or indirectly."""
    tree = TREES[ROOT / (module.replace(".", "/") + ".py")]
    found = {each.name: each for each in tree.body if isinstance(each, ast.AsyncFunctionDef)}
    write = {
        name
        for name, function in found.items()
        if written(function, aliases(tree))
        or any(before == "sa" and after in STATEMENTS for before, after in attributes(function))
    }
    while more := {name for name in found.keys() - write if names(found[name]) & write}:
        write |= more
    return {name for name in write if not name.startswith("_")}


def aliases(tree: ast.AST) -> dict[str, str]:
    """Return the names that a file gives to the modules of WRITERS and their functions."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in WRITERS or node.module in WRITERS:
                    known[alias.asname or alias.name] = whole
    return known


def written(tree: ast.AST, known: dict[str, str]) -> set[str]:
    """Return the writing functions of the store that a file calls."""
    modules = {each if each in WRITERS else each.rpartition(".")[0] for each in known.values()}
    own = {module: writers(module) for module in modules}
    dotted = {
        after
        for before, after in attributes(tree)
        if before in known and after in own.get(known[before], ())
    }
    taken = {
        known[name].rpartition(".")[2]
        for name in names(tree) & known.keys()
        if known[name].rpartition(".")[2] in own.get(known[name].rpartition(".")[0], ())
    }
    return dotted | taken


@pytest.mark.parametrize("module", WRITERS)
def test_the_writers_are_found(module):
    """Each listed module has writing functions, so that the next test tests something."""
    assert writers(module)


def test_only_the_desk_writes_what_people_change():
    """Pipelines, channels, users, templates, workflows and held mail change at a desk only."""
    outside = {
        (place(path), name)
        for path, tree in TREES.items()
        if path.relative_to(GATEWAY).parts[0] not in ("desk", "store")
        for name in written(tree, aliases(tree))
    }
    assert outside == OWN_WORK


def test_the_desk_has_one_door():
    """A desk opens write transactions only through the one that checks the right."""
    opened = {
        place(path)
        for path, tree in TREES.items()
        if path.relative_to(GATEWAY).parts[0] == "desk"
        for _, name in attributes(tree)
        if name == "write"
    }
    assert opened == {"gateway/desk/transaction.py"}


@pytest.mark.parametrize("folder", ASKING)
def test_folders_that_take_requests_write_nothing_themselves(folder):
    """Command line, daemon and web neither open a write transaction nor apply decisions."""
    for path, tree in TREES.items():
        if path.relative_to(GATEWAY).parts[0] != folder:
            continue
        opened = [
            before
            for before, name in attributes(tree)
            if name == "write" and before not in ("writer", "file", "stdout", "buffer")
        ]
        imports = [
            node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gateway.apply")
        ]
        assert (place(path), opened, imports) == (place(path), [], [])
