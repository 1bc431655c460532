"""How outgoing mail is worded: templates with tokens. The only door to jinja2.

Templates come from people who administer, the values of their tokens from strangers. So a template
may say little: tokens, ``if``, comments and a few filters. Everything else is refused while its
syntax tree is walked, and each token becomes a variable of its own that holds plain text: no
attribute, no item and no call is left by the time it is rendered. A token without a value is never
an error.
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

from gateway.errors import Refused

LARGEST: Final = 262_144  # octets of a template part, and of what it renders to
LONGEST_SUBJECT: Final = 500
KNOWN_TOKENS: Final = frozenset(
    "ticket.id ticket.number ticket.tag ticket.subject ticket.status ticket.url ticket.created "
    "ticket.priority ticket.quote contact.first_name "
    "contact.name contact.email owner.name owner.email pipeline.name channel.name "
    "channel.address company.name agent.name agent.email".split()
)
# replace and join are left out: a few of them in a row make any amount of text out of a mail
_FILTERS: Final = frozenset(
    "capitalize default d e escape first last length lower title trim truncate upper".split()
)
_TESTS: Final = frozenset({"defined", "undefined"})
_COMPARED: Final = frozenset({"eq", "ne"})
_ALLOWED: Final = frozenset(
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
    }
    | {nodes.Compare, nodes.Operand, nodes.Test, nodes.Filter, nodes.Keyword}
)
_DEEPEST: Final = 40
_LINE_ENDS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


@dataclass(frozen=True, slots=True)
class Template:
    """The words of a mail in one language. ``transactional``: it may also go to contacts who want
    no marketing (behaviour.md 3.3).
    """

    name: str
    subject: str
    text: str
    html: str | None = None
    transactional: bool = False


@dataclass(frozen=True, slots=True)
class Rendered:
    """A template with its tokens filled in. ``unknown`` are the tokens that had no value, for the
    warning of a preview.
    """

    subject: str
    text: str
    html: str | None
    unknown: tuple[str, ...]


class TemplateError(Refused):
    """A template that cannot be read or filled in; the sentence names it and, where it is known,
    the line.
    """


class _Unfit(Exception):
    """What is wrong in one part of a template, and in which line."""

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
    """The token that a node names (``ticket.tag``); None where it is none."""
    words = []
    while isinstance(node, nodes.Getattr):
        words.append(node.attr)
        node = node.node
    if not isinstance(node, nodes.Name):
        return None
    words.append(node.name)
    if any(word.startswith("_") for word in words):
        raise _Unfit(node.lineno, "no token begins with an underscore")
    return ".".join(reversed(words))


def _flat(node: nodes.Node, tokens: dict[str, str], depth: int = 0, line: int = 1) -> nodes.Node:
    """The tree with a plain variable for each token; ``tokens`` collects them. Raises where it
    holds anything that is not on our short list.
    """
    line = node.lineno or line
    if depth > _DEEPEST:
        raise _Unfit(line, "this is nested too deeply")
    if (dotted := _dotted(node)) is not None:
        return nodes.Name(
            tokens.setdefault(dotted, f"t{len(tokens)}"),
            "load",
            lineno=node.lineno,
            environment=node.environment,
        )
    allowed = type(node) in _ALLOWED
    if isinstance(node, nodes.Filter):
        allowed = node.name in _FILTERS and node.dyn_args is None and node.dyn_kwargs is None
    elif isinstance(node, nodes.Test):
        allowed = node.name in _TESTS
    elif isinstance(node, nodes.Operand):
        allowed = node.op in _COMPARED
    if not allowed:
        what = (
            getattr(node, "name", None) or getattr(node, "op", None) or type(node).__name__.lower()
        )
        raise _Unfit(
            line,
            (
                f"{str(what)[:80]!r} is not allowed; tokens, if, comments and the filters "
                f"{', '.join(sorted(_FILTERS))} are"
            ),
        )
    for name, value in list(node.iter_fields()):
        if isinstance(value, nodes.Node):
            setattr(node, name, _flat(value, tokens, depth + 1, line))
        elif isinstance(value, list):
            setattr(
                node,
                name,
                [
                    _flat(each, tokens, depth + 1, line) if isinstance(each, nodes.Node) else each
                    for each in value
                ],
            )
    return node


@lru_cache(512)
def _compiled(source: str, html: bool) -> tuple[jinja2.Template, tuple[tuple[str, str], ...]]:
    """A part of a template, ready to be filled in, and the variable of each token in it."""
    if len(source) > LARGEST:
        raise _Unfit(None, f"it is longer than {LARGEST} characters")
    environment = _HTML if html else _PLAIN
    tokens: dict[str, str] = {}
    try:
        tree = environment.parse(source)
        _flat(tree, tokens)
        return environment.from_string(tree), tuple(tokens.items())
    except jinja2.TemplateSyntaxError as error:
        raise _Unfit(
            error.lineno,
            " ".join((error.message or "this cannot be read").split())[:200].rstrip("."),
        ) from None
    except (RecursionError, ValueError, SyntaxError, MemoryError, OverflowError):
        raise _Unfit(None, "it is nested too deeply, or a number in it is too long") from None


def _value(tokens: Mapping[str, object], dotted: str) -> str | None:
    """The text of a token; None where it has no value or an empty one, or is no token but a group
    of them.
    """
    at: object = tokens
    for word in dotted.split("."):
        at = at.get(word) if isinstance(at, Mapping) else None
    return None if at is None or isinstance(at, Mapping) else str(at) or None


def _filled(template: jinja2.Template, values: Mapping[str, str]) -> str:
    """What a part renders to with the values of its variables."""
    pieces = []
    size = 0
    try:
        for piece in template.generate(values):
            size += len(piece.encode("utf-8", "surrogatepass"))
            if size > LARGEST:
                raise _Unfit(None, f"it becomes longer than {LARGEST} octets")
            pieces.append(piece)
    except (jinja2.TemplateError, TypeError, ValueError, AssertionError, OverflowError) as error:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == "<template>"
        ]
        raise _Unfit(
            lines[-1] if lines else None, "a filter cannot work with its arguments"
        ) from None
    return "".join(pieces)


def _parts(template: Template) -> list[tuple[str, str, bool]]:
    """(what it is called, its source, whether it is HTML) of each part."""
    html = [] if template.html is None else [("HTML", template.html, True)]
    return [("subject", template.subject, False), ("text", template.text, False), *html]


def _error(template: Template, part: str, unfit: _Unfit) -> TemplateError:
    line = "" if unfit.line is None else f", line {unfit.line}"
    return TemplateError(f"Template {template.name[:200]!r}, {part}{line}: {unfit.problem}.")


def check(template: Template) -> tuple[str, ...]:
    """The tokens a template uses that are not among :data:`KNOWN_TOKENS`, sorted, for a warning.

    Raises :class:`TemplateError` for bad syntax, for what templates may not hold, and for filters
    that cannot work.
    """
    used: set[str] = set()
    for part, source, html in _parts(template):
        try:
            ready, tokens = _compiled(source, html)
            _filled(ready, {})
            _filled(ready, {variable: dotted for dotted, variable in tokens})
        except _Unfit as unfit:
            raise _error(template, part, unfit) from None
        used.update(dotted for dotted, _ in tokens)
    return tuple(sorted(used - KNOWN_TOKENS))


def render(template: Template, tokens: Mapping[str, object]) -> Rendered:
    """A template filled in with ``tokens`` (groups of values: ``{"ticket": {"tag": ...}, ...}``).

    Values are put in as text, escaped in the HTML part. One that is missing, None or empty is what
    ``default`` says, else nothing. The subject is one line of at most 500 characters. Raises
    :class:`TemplateError` for a template that :func:`check` refuses, and above 256 KiB.
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
        except _Unfit as unfit:
            raise _error(template, part, unfit) from None
        unknown.update(dotted for dotted, variable in used if variable not in values)
    subject = _LINE_ENDS.sub(" ", made[0]).strip()[:LONGEST_SUBJECT].rstrip()
    return Rendered(
        subject, made[1], made[2] if template.html is not None else None, tuple(sorted(unknown))
    )
