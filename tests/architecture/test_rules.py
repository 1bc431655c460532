"""Tests of the rules of the code (docs/architecture.md), by reading the source."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from core.decisions.tickets import Decision
from tests.architecture.source import PACKAGES, ROOT, SOURCES, TESTS, functions, place, tree

TREES = {path: tree(path) for path in SOURCES}
FILE_LINES = 500  # 350 is the guideline, 500 the limit
FUNCTION_LINES = 60
OURS = {*PACKAGES, "tests"}

IMPURE = {
    *(
        "asyncio",
        "logging",
        "os",
        "io",
        "socket",
        "sqlite3",
        "time",
        "random",
        "secrets",
        "uuid",
        "subprocess",
        "threading",
        "multiprocessing",
    ),
    *(
        "pathlib",
        "tempfile",
        "shutil",
        "signal",
        "select",
        "selectors",
        "ssl",
        "ctypes",
        "glob",
        "fileinput",
        "sys",
        "urllib.request",
        "http",
    ),
}
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "now", "utcnow", "today", "getLogger"}

# R4: each library and the only places that may name it. A new library gets a line here, or the test
# fails.
DOORS = {
    "aiohttp": ("gateway/http_client.py",),
    "aioimaplib": ("gateway/ingress/imap/connection.py",),
    "aiosmtpd": ("gateway/ingress/smtp/protocol.py", "gateway/ingress/smtp/lmtp.py"),
    "aiosmtplib": ("gateway/outbox/submit.py",),
    "aiosqlite": ("gateway/store/",),
    "alembic": ("gateway/store/",),
    "asyncpg": ("gateway/store/",),
    "charset_normalizer": ("gateway/reading/mime/charset.py",),
    "dkim": ("gateway/outbox/signing.py",),
    "flufl": ("gateway/reading/reports/prose_bounces.py",),
    "icalendar": ("gateway/reading/mime/invitation.py",),
    "jinja2": ("gateway/compose/templates.py",),
    "lxml": ("gateway/reading/mime/html.py",),
    "mailparser": ("gateway/reading/parse.py",),
    "nh3": (
        "gateway/reading/mime/html.py",
        "gateway/reading/parse.py",
    ),  # parse imports it before the fork
    "obstore": ("gateway/store/",),
    "prometheus_client": ("gateway/web/metrics.py",),
    "publicsuffixlist": ("gateway/store/tickets/organisations.py",),
    "pydantic": ("config/", "gateway/cli/config.py"),
    "pydantic_core": ("config/",),
    "rich": ("gateway/cli/",),
    "sqlalchemy": ("gateway/store/",),
    "structlog": ("gateway/log.py",),
    "tnefparse": ("gateway/reading/mime/tnef.py",),
    "typer": ("gateway/cli/",),
    "uvloop": ("gateway/daemon/serve.py", "gateway/cli/"),
}


def imported(path: Path) -> Iterator[str]:
    """Yield the full names of all modules that a file imports, wherever in it."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def called(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and last name of every call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                yield node.lineno, node.func.id
            elif isinstance(node.func, ast.Attribute):
                yield node.lineno, node.func.attr


def test_core_imports_the_pure_standard_library_only():
    """R1: core imports itself and the standard library without clocks, files, sockets or chance."""
    wrong = []
    for path in SOURCES:
        if place(path).startswith("core/"):
            for name in imported(path):
                top = name.split(".")[0]
                pure = top == "core" or (
                    top in sys.stdlib_module_names and top not in IMPURE and name not in IMPURE
                )
                if not pure:
                    wrong.append(f"{place(path)}: {name}")
    assert wrong == []


def test_core_calls_nothing_impure():
    """R1: core reaches no clock, file or output through a built-in or a method either."""
    core = [path for path in SOURCES if place(path).startswith("core/")]
    assert [
        f"{place(path)}:{line} {name}"
        for path in core
        for line, name in called(TREES[path])
        if name in IMPURE_CALLS
    ] == []


def test_config_imports_pydantic_only():
    """R2: config imports pydantic, the standard library and itself."""
    wrong = []
    for path in SOURCES:
        if place(path).startswith("config/"):
            allowed = sys.stdlib_module_names | {"config", "pydantic", "pydantic_core"}
            wrong += [
                f"{place(path)}: {name}"
                for name in imported(path)
                if name.split(".")[0] not in allowed
            ]
    assert wrong == []


def test_each_library_has_one_door():
    """R4: each third-party library is imported by its listed modules only."""
    wrong = []
    for path in SOURCES:
        for name in imported(path):
            top = name.split(".")[0]
            if top in sys.stdlib_module_names or top in OURS:
                continue
            if not place(path).startswith(DOORS.get(top, ())):
                wrong.append(f"{place(path)}: {name}")
    assert wrong == []


def test_nothing_imports_the_tests():
    """R5: the program runs without its tests."""
    assert [
        place(path)
        for path in SOURCES
        for name in imported(path)
        if name.split(".")[0] in {"tests", "conftest", "pytest"}
    ] == []


def test_only_apply_changes_a_ticket():
    """R7: outside apply and the store nobody calls a function that writes tickets."""
    store = ROOT / "gateway/store/tickets/tickets.py"
    verbs = ("writ", "undo", "move", "set", "delete", "insert", "update")
    writers = {
        function.name for function in functions(TREES[store]) if function.name.startswith(verbs)
    }
    assert "writing" in writers, (
        "the store has another shape: this test no longer knows what writes tickets"
    )
    wrong = []
    for path in SOURCES:
        if place(path).startswith(("gateway/store/", "gateway/apply/")):
            continue
        wrong += [
            f"{place(path)}: {name}"
            for name in imported(path)
            if name.rpartition(".")[0] == "gateway.store.tickets.tickets"
            and name.rpartition(".")[2] in writers
        ]
        for node in ast.walk(TREES[path]):
            if isinstance(node, ast.Attribute):
                module = node.value.id if isinstance(node.value, ast.Name) else ""
                if node.attr == "set_ticket" or (
                    module in {"tickets", "ticket_rows"} and node.attr in writers
                ):
                    wrong.append(f"{place(path)}:{node.lineno} {node.attr}")
    assert wrong == []


def decisions_built(tree: ast.AST, names: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Return line and name of each call of a class that is imported from core.decisions."""
    modules, classes = set(), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("core.decisions"):
            for alias in node.names:
                own = alias.asname or alias.name
                modules.add(own)
                classes[own] = alias.name
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name)) if classes.get(name) in names:
                yield node.lineno, name
            case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr=name)) if (
                module in modules and name in names
            ):
                yield node.lineno, name


def test_only_the_rules_decide():
    """R7: outside core and apply no decision is built; events go through `decide`."""
    names = frozenset(each.__name__ for each in get_args(Decision))
    assert {"OpenTicket", "QueueMail", "FinishRun"} <= names
    assert [
        f"{place(path)}:{line} {name}"
        for path in SOURCES
        if not place(path).startswith(("core/", "gateway/apply/"))
        for line, name in decisions_built(TREES[path], names)
    ] == []


def test_only_the_store_of_tickets_writes_their_tables():
    """R7: only store/tickets/tickets.py writes the tables of tickets."""
    wrong = []
    for path in SOURCES:
        if "migrations" in path.parts or place(path) == "gateway/store/tickets/tickets.py":
            continue
        for node in ast.walk(TREES[path]):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in {"insert", "update", "delete"}
                and node.args
            ):
                table = node.args[0]
                if isinstance(table, ast.Attribute) and table.attr.startswith("ticket"):
                    wrong.append(f"{place(path)}:{node.lineno} {table.attr}")
    assert wrong == []


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if "versions" not in path.parts], ids=place
)
def test_files_and_functions_keep_their_size(path):
    """A file has at most 500 lines and a function at most 60; migrations are left out."""
    lines = len(path.read_text().splitlines())
    assert lines <= FILE_LINES
    long = [
        f"{function.name}: {function.end_lineno - function.lineno + 1}"
        for function in functions(TREES[path])
    ]
    assert [name for name in long if int(name.rpartition(" ")[2]) > FUNCTION_LINES] == []


@pytest.mark.parametrize("path", TESTS, ids=place)
def test_every_test_says_what_it_promises(path):
    """Each test function and each test module has a docstring."""
    tree = ast.parse(path.read_bytes())
    silent = [
        function.name
        for function in functions(tree)
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]
    assert silent == []
    assert ast.get_docstring(tree), "the module says what its tests are about"


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_every_module_says_what_it_is_for(path):
    """Each module of the program opens with a docstring; empty package files are left out."""
    assert not TREES[path].body or ast.get_docstring(TREES[path])


def sleeps(tree: ast.AST) -> Iterator[int]:
    """Yield the lines that wait for time to pass; ``sleep(0)`` only lets other tasks run."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="sleep"), args=[ast.Constant(value=0)]):
                continue
            case ast.Call(func=ast.Attribute(attr="sleep")):
                yield node.lineno


def test_tests_do_not_sleep():
    """A test waits for events, never for a number of seconds; only benches may sleep."""
    trees = {path: ast.parse(path.read_bytes()) for path in TESTS if "bench" not in path.parts}
    assert [f"{place(path)}:{line}" for path, tree in trees.items() for line in sleeps(tree)] == []


def test_one_module_normalises() -> None:
    """Text is brought into a normal form by core/normal_form.py only, in linear time."""
    found = [place(path) for path in SOURCES if "unicodedata.normalize" in path.read_text()]
    assert found == ["core/normal_form.py"]
