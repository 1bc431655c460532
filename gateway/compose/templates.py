"""Check and render mail templates; the only module that imports jinja2.

Administrators write templates, but strangers write the values of tokens. So a template may hold
tokens, ``if``, comments and a few filters; anything else in its syntax tree is refused. Each token
becomes a variable that holds plain text, so no attribute, item or call is left when the template is
rendered. A token without a value is never an error.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gateway.errors import Invalid

MAX_OCTETS: Final = 262_144  # of a template part, and of what it renders to
MAX_SUBJECT: Final = 500  # characters
KNOWN_TOKENS: Final = frozenset(
    "ticket.id ticket.number ticket.tag ticket.subject ticket.status ticket.url ticket.created "
    "ticket.priority ticket.quote contact.first_name "
    "contact.name contact.email owner.name owner.email pipeline.name channel.name "
    "channel.address company.name agent.name agent.email".split()
)
# No replace or join: a few in a row could make a text of any length.
_FILTERS: Final = frozenset(
    "capitalize default d e escape first last length lower title trim truncate upper".split()
)
_TESTS: Final = frozenset({"defined", "undefined"})
_COMPARISONS: Final = frozenset({"eq", "ne"})
_ALLOWED_NODES: Final = frozenset(
    {
        nodes.Template,
        nodes.Output,
        nodes.TemplateData,
        nodes.Const,
        nodes.If,
        nodes.CondExpr,
        nodes.And,
        nodes.Or,
        nodes.Not,
        nodes.Compare,
        nodes.Operand,
        nodes.Test,
        nodes.Filter,
        nodes.Keyword,
    }
)
_MAX_DEPTH: Final = 40
_CONTROL_CHARACTERS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


@dataclass(frozen=True, slots=True)
class Template:
    """The source of a mail in one language.

    If ``transactional``, it also goes to contacts who want no marketing (behaviour.md 3.3).
    """

    name: str
    subject: str
    text: str
    html: str | None = None
    transactional: bool = False


@dataclass(frozen=True, slots=True)
class Rendered:
    """A template with its tokens filled in; ``unknown`` lists tokens that had no value."""

    subject: str
    text: str
    html: str | None
    unknown: tuple[str, ...]


class TemplateError(Invalid):
    """An error in a template; the message names the part and, if known, the line."""


class _PartError(Exception):
    """An error in one part of a template, with its line if known."""

    def __init__(self, line: int | None, problem: str) -> None:
        super().__init__(problem)
        self.line = line
        self.problem = problem


def _environment(*, html: bool) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(autoescape=html)
    environment.globals.clear()
    environment.filters = {name: environment.filters[name] for name in _FILTERS}
    environment.tests = {name: environment.tests[name] for name in _TESTS}
    return environment


_PLAIN: Final = _environment(html=False)
_HTML: Final = _environment(html=True)


def _dotted(node: nodes.Node) -> str | None:
    """Return the token that a node stands for, such as ``ticket.tag``; None if it is no token."""
    words = []
    while isinstance(node, nodes.Getattr):
        words.append(node.attr)
        node = node.node
    if not isinstance(node, nodes.Name):
        return None
    words.append(node.name)
    if any(word.startswith("_") for word in words):
        raise _PartError(node.lineno, "a token must not begin with an underscore")
    return ".".join(reversed(words))


def _flattened(
    node: nodes.Node, tokens: dict[str, str], depth: int = 0, line: int = 1
) -> nodes.Node:
    """Return the tree with a plain variable for each token.

    ``tokens`` collects the variables by token. Raises for every node that is not allowed.
    """
    line = node.lineno or line
    if depth > _MAX_DEPTH:
        raise _PartError(line, "nested too deeply")
    if (dotted := _dotted(node)) is not None:
        return nodes.Name(
            tokens.setdefault(dotted, f"t{len(tokens)}"),
            "load",
            lineno=node.lineno,
            environment=node.environment,
        )
    if not _is_allowed(node):
        raise _PartError(line, _not_allowed(node))
    for name, value in list(node.iter_fields()):
        if isinstance(value, nodes.Node):
            setattr(node, name, _flattened(value, tokens, depth + 1, line))
        elif isinstance(value, list):
            children = [
                _flattened(each, tokens, depth + 1, line) if isinstance(each, nodes.Node) else each
                for each in value
            ]
            setattr(node, name, children)
    return node


def _is_allowed(node: nodes.Node) -> bool:
    """Tell whether a template may hold this syntax node; the node's children are not checked."""
    match node:
        case nodes.Filter():
            return node.name in _FILTERS and node.dyn_args is None and node.dyn_kwargs is None
        case nodes.Test():
            return node.name in _TESTS
        case nodes.Operand():
            return node.op in _COMPARISONS
        case _:
            return type(node) in _ALLOWED_NODES


def _not_allowed(node: nodes.Node) -> str:
    """Return the message for a node that is not allowed."""
    name = getattr(node, "name", None) or getattr(node, "op", None) or type(node).__name__.lower()
    return (
        f"{str(name)[:80]!r} is not allowed; use only tokens, if, comments and the filters "
        f"{', '.join(sorted(_FILTERS))}"
    )


@lru_cache(512)
def _compiled(source: str, html: bool) -> tuple[jinja2.Template, tuple[tuple[str, str], ...]]:
    """Compile a part of a template; return (compiled part, pairs of token and variable)."""
    if len(source) > MAX_OCTETS:
        raise _PartError(None, f"longer than {MAX_OCTETS} characters")
    environment = _HTML if html else _PLAIN
    tokens: dict[str, str] = {}
    try:
        tree = environment.parse(source)
        _flattened(tree, tokens)
        return environment.from_string(tree), tuple(tokens.items())
    except jinja2.TemplateSyntaxError as error:
        problem = " ".join((error.message or "syntax error").split())[:200].rstrip(".")
        raise _PartError(error.lineno, problem) from None
    except (RecursionError, ValueError, SyntaxError, MemoryError, OverflowError):
        raise _PartError(None, "nested too deeply, or a number is too long") from None


def _value(tokens: Mapping[str, object], dotted: str) -> str | None:
    """Return the value of a token as text; None if it is missing, empty or a group of tokens."""
    value: object = tokens
    for word in dotted.split("."):
        value = value.get(word) if isinstance(value, Mapping) else None
    return None if value is None or isinstance(value, Mapping) else str(value) or None


def _filled(template: jinja2.Template, values: Mapping[str, str]) -> str:
    """Return a part rendered with the values of its variables."""
    pieces = []
    size = 0
    try:
        for piece in template.generate(values):
            size += len(piece.encode("utf-8", "surrogatepass"))
            if size > MAX_OCTETS:
                raise _PartError(None, f"becomes longer than {MAX_OCTETS} octets")
            pieces.append(piece)
    except (jinja2.TemplateError, TypeError, ValueError, AssertionError, OverflowError) as error:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == "<template>"
        ]
        problem = "a filter cannot work with its arguments"
        raise _PartError(lines[-1] if lines else None, problem) from None
    return "".join(pieces)


def _parts(template: Template) -> list[tuple[str, str, bool]]:
    """Return each part of a template: its name, its source, and whether it is HTML."""
    html = [] if template.html is None else [("HTML", template.html, True)]
    return [("subject", template.subject, False), ("text", template.text, False), *html]


def _error(template: Template, part: str, error: _PartError) -> TemplateError:
    line = "" if error.line is None else f", line {error.line}"
    return TemplateError(
        f"template {template.name[:200]!r}, {part}{line}: {error.problem}", part.lower()
    )


def check(template: Template) -> tuple[str, ...]:
    """Return the tokens of a template that are not in :data:`KNOWN_TOKENS`, sorted.

    Raises :class:`TemplateError` for bad syntax, for syntax that is not allowed, and for filters
    with wrong arguments.
    """
    used: set[str] = set()
    for part, source, html in _parts(template):
        try:
            ready, tokens = _compiled(source, html)
            _filled(ready, {})
            _filled(ready, {variable: dotted for dotted, variable in tokens})
        except _PartError as error:
            raise _error(template, part, error) from None
        used.update(dotted for dotted, _ in tokens)
    return tuple(sorted(used - KNOWN_TOKENS))


def render(template: Template, tokens: Mapping[str, object]) -> Rendered:
    """Return a template filled in with ``tokens``, such as ``{"ticket": {"tag": ...}, ...}``.

    Values are inserted as text, escaped in the HTML part. Where a value is missing, None or empty,
    the argument of a ``default`` filter is inserted, or else nothing. The subject becomes one line
    of at most 500 characters. Raises :class:`TemplateError` for a template that :func:`check`
    refuses, and if a rendered part is longer than 256 KiB.
    """
    unknown: set[str] = set()
    made: list[str] = []
    for part, source, html in _parts(template):
        try:
            ready, used = _compiled(source, html)
            values = {
                variable: value
                for dotted, variable in used
                if (value := _value(tokens, dotted)) is not None
            }
            made.append(_filled(ready, values))
        except _PartError as error:
            raise _error(template, part, error) from None
        unknown.update(dotted for dotted, variable in used if variable not in values)
    subject = _CONTROL_CHARACTERS.sub(" ", made[0]).strip()[:MAX_SUBJECT].rstrip()
    markup = made[2] if template.html is not None else None
    return Rendered(subject, made[1], markup, tuple(sorted(unknown)))
