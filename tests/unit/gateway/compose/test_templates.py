"""Tests of templates: what they may contain, and how they render with any values."""

from __future__ import annotations

from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.rules import automatic_mail
from gateway.compose import templates
from gateway.compose.builtin_templates import (
    BUILT_IN,
    TICKET_CLOSED,
    TICKET_RECEIVED,
    generic_acknowledgement,
)
from gateway.compose.templates import KNOWN_TOKENS, Rendered, Template, TemplateError, check, render
from gateway.errors import Invalid
from gateway.store.setup import default_workflows

TOKENS = {
    "ticket": {
        "id": 12,
        "tag": "#12.abcdefghijklmnop",
        "subject": "A & B",
        "quote": "> Hello\n> <b>",
    },
    "contact": {"first_name": "Ann", "name": "Ann Example", "email": "ann@example.org"},
    "company": {"name": "Example Ltd"},
    "owner": {"name": None, "email": ""},
}


def text(source: str, tokens: dict[str, object] | None = None) -> str:
    """Return the rendered text."""
    return render(Template("T", "s", source), TOKENS if tokens is None else tokens).text


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ ticket.tag }} {{ticket.id}}", "#12.abcdefghijklmnop 12"),
        ("{{ ticket.subject }}", "A & B"),
        (
            (
                "{{ owner.name }}|{{ owner.email | default('none') }}|{{ owner.name | d('x') | "
                "upper }}"
            ),
            "|none|X",
        ),
        (
            (
                "{{ nobody }}{{ no.body }}{{ ticket }}{{ ticket.tag.upper }}{{ a.b.c | "
                "default(contact.first_name) }}"
            ),
            "Ann",
        ),
        (
            "{% if contact.first_name %}Dear {{ contact.first_name }}{% else %}Hello{% endif %}",
            "Dear Ann",
        ),
        (
            (
                "{% if owner.name %}a{% elif ticket.id == '12' and not x.y %}b{% endif %}{# said "
                "to nobody #}"
            ),
            "b",
        ),
        ("{{ 'a' if owner.name is defined else 'b' }}", "b"),
        (
            (
                "{{ contact.name | lower | truncate(7, true, '.', 0) }}|{{ contact.name | first "
                "}}{{ contact.name | last }}"
            ),
            "ann ex.|Ae",
        ),
        ("{{ x.y | first }}{{ x.y | last }}{{ x.y | length }}{{ x.y | title | trim | e }}", "0"),
        ("{% raw %}{{ as it is }}{% endraw %}", "{{ as it is }}"),
    ],
)
def test_tokens_filters_and_if(source: str, expected: str) -> None:
    """A token without a value is its default, else nothing."""
    check(Template("T", "s", source))
    assert text(source) == expected


def test_the_preview_learns_which_tokens_had_no_value() -> None:
    """Missing, None and empty tokens are reported once, sorted, from all parts."""
    rendered = render(
        Template(
            "T",
            "{{ z.z }}",
            "{{ owner.name }}{{ owner.email }}{{ ticket.id }}",
            "{{ owner.name }}{{ a }}",
        ),
        TOKENS,
    )
    assert rendered.unknown == ("a", "owner.email", "owner.name", "z.z")


def test_checking_names_the_tokens_that_do_not_exist() -> None:
    """Unknown tokens are reported when the template is checked."""
    assert check(
        Template("T", "{{ ticket.tga }}", "{{ ticket.tag }}{{ contact.firstname }}", "{{ ticket }}")
    ) == (*("contact.firstname", "ticket", "ticket.tga"),)


def test_values_are_escaped_in_html_only() -> None:
    """Values are escaped in HTML, unchanged in text, and never read as templates."""
    template = Template(
        "T",
        "{{ ticket.subject }}",
        "{{ ticket.subject }}",
        "<p title='{{ ticket.subject }}'>{{ x.y | default(ticket.subject) }}</p>",
    )
    rendered = render(template, {"ticket": {"subject": "<b>'&{{ 1 }}"}})
    assert rendered.text == rendered.subject == "<b>'&{{ 1 }}"
    assert rendered.html == "<p title='&lt;b&gt;&#39;&amp;{{ 1 }}'>&lt;b&gt;&#39;&amp;{{ 1 }}</p>"


@pytest.mark.parametrize(
    "source",
    [
        *(
            "{% for a in b %}{% endfor %}",
            "{% set a = 1 %}",
            "{% macro m() %}{% endmacro %}",
            "{% include 'a' %}",
            "{% import 'a' as b %}",
        ),
        *(
            "{% extends 'a' %}",
            "{% block a %}{% endblock %}",
            "{% filter upper %}{% endfilter %}",
            "{% call a() %}{% endcall %}",
        ),
        *(
            "{% with %}{% endwith %}",
            "{% autoescape false %}{% endautoescape %}",
            "{% from 'a' import b %}",
            "{% do a %}",
        ),
        *(
            "{{ range(9) }}",
            "{{ lipsum() }}",
            "{{ ticket.tag.upper() }}",
            "{{ self.x() }}",
            "{{ _('a') }}",
            "{{ ticket.__class__ }}",
            "{{ __x }}",
        ),
        *(
            "{{ ''.x }}",
            "{{ (ticket.tag|upper).x }}",
            "{{ ticket['tag'] }}",
            "{{ ticket.tag[0] }}",
            "{{ ticket.tag[:1] }}",
        ),
        *(
            "{{ 'a' * 9 }}",
            "{{ 9 ** 9 }}",
            "{{ 'a' % 9 }}",
            "{{ a.b ~ a.b }}",
            "{{ 1 + 1 }}",
            "{{ -1 }}",
            "{{ 1 // 1 }}",
            "{{ 1 / 1 }}",
            "{{ 1 - 1 }}",
        ),
        *(
            "{{ [1] }}",
            "{{ {1: 2} }}",
            "{{ (1, 2) }}",
            "{{ a.b > 1 }}",
            "{{ a.b in a.c }}",
            "{{ a.b is divisibleby 2 }}",
        ),
        *(
            "{{ a.b | safe }}",
            "{{ a.b | attr('c') }}",
            "{{ a.b | replace('a', 'b') }}",
            "{{ a.b | join(a.b) }}",
            "{{ a.b | nothing }}",
        ),
        *(
            "{{ a.b | center(99999999) }}",
            "{{ a.b | format }}",
            "{{ a.b | default(*a.b) }}",
            "{{ a.b | default(**a.b) }}",
            "{{ a.b | upper(1) }}",
        ),
        *(
            "{{ a.b | truncate(1) }}",
            "{{ a.b | truncate(a.b) }}",
            "{{ 1 | first }}",
            "{{ a.b",
            "{% if a %}",
            "{% endif %}",
            "{{ }}",
            "{{ a b }}",
        ),
        *(
            "{{ " + "not " * 5000 + "a }}",
            "{{ " + "(" * 5000 + "a" + ")" * 5000 + " }}",
            "{% if a %}" * 300 + "{% endif %}" * 300,
        ),
        *("{{ " + "9" * 5000 + " }}", "{{ a" + " | upper" * 50 + " }}", "x" * 300_000),
    ],
    ids=lambda source: source[:40],
)
@pytest.mark.parametrize("part", ["subject", "text", "html"])
def test_everything_else_is_refused(source: str, part: str) -> None:
    """Loops, definitions, calls, arithmetic, unknown filters and wrong syntax are refused."""
    template = Template("Greeting", **{"subject": "s", "text": "t", part: source})
    with pytest.raises(TemplateError) as caught:
        check(template)
    assert isinstance(caught.value, Invalid)
    assert caught.value.message.startswith(
        "template 'Greeting', " + {"html": "HTML"}.get(part, part)
    )
    assert len(caught.value.message) < 500
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "wrong",
    ["{{ a.b", "{% for a in b %}{% endfor %}", "{{ a.b | truncate('x') }}", "{{ a.b > 1 }}"],
)
def test_the_sentence_names_the_line(wrong: str) -> None:
    """The message of a refused template names the line."""
    with pytest.raises(TemplateError, match="'Greeting', text, line 3: "):
        check(Template("Greeting", "s", f"one\ntwo\n{wrong}\n"))


def test_a_filter_that_fails_only_with_a_value_is_told_at_once() -> None:
    """Such an error is found by the check, and its message does not show the value."""
    template = Template("T", "s", "\n{{ ticket.subject | truncate(ticket.id) }}")
    with pytest.raises(TemplateError):
        check(template)
    with pytest.raises(
        TemplateError,
        match=r"^template 'T', text, line 2: a filter cannot work with its arguments$",
    ):
        render(template, TOKENS)


def test_a_template_cannot_reach_into_a_value() -> None:
    """Values are plain text in a template: no attribute or method is reachable."""

    class Trap:
        secret = "s3cret"

        def __str__(self) -> str:
            return "shown"

        def __html__(self) -> str:
            return "<script>"

    template = Template("T", "s", "{{ ticket.trap }}{{ ticket.trap.secret }}", "{{ ticket.trap }}")
    rendered = render(template, {"ticket": {"trap": Trap()}})
    assert (rendered.text, rendered.html) == ("shown", "shown")


def test_the_rendered_size_is_limited() -> None:
    """A short template with a long value stops at 256 KiB."""
    template = Template("T", "s", "{{ ticket.quote }}" * 100)
    assert len(text(template.text, {"ticket": {"quote": "x" * 2000}})) == 200_000
    with pytest.raises(TemplateError, match="262144 octets"):
        render(template, {"ticket": {"quote": "ä" * 2000}})


@given(st.text(st.characters(codec=None), max_size=2000))
def test_a_subject_is_one_short_line(value: str) -> None:
    """No line break, control character or surrogate comes out, whatever the tokens hold."""
    subject = render(Template("T", "[{{ a.b }}]\n{{ a.b }}", ""), {"a": {"b": value}}).subject
    assert len(subject) <= 500
    assert subject == subject.strip()
    assert len(subject.splitlines()) == 1
    assert subject.encode()
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in subject)


@given(
    st.text(max_size=300),
    st.dictionaries(st.sampled_from(sorted(KNOWN_TOKENS)), st.text(max_size=50)),
)
def test_any_source_is_refused_or_rendered(source: str, values: dict[str, str]) -> None:
    """Any text raises nothing but TemplateError; a checked template renders."""
    template = Template("T", "{{ a.b }}", source, source)
    groups: dict[str, dict[str, str]] = {}
    for token, value in values.items():
        group, _, name = token.partition(".")
        groups.setdefault(group, {})[name] = value
    try:
        check(template)
    except TemplateError:
        return
    assert isinstance(render(template, groups), Rendered)


def test_every_built_in_template_is_in_order() -> None:
    """Both exist in five languages, transactional, with known tokens, number and quotation."""
    assert set(BUILT_IN) == {"Ticket received", "Ticket closed"}
    for name, languages in BUILT_IN.items():
        assert set(languages) == {"", "de", "fr", "es", "nl"}
        for template in languages.values():
            assert template.name == name
            assert template.transactional
            assert check(template) == ()
            rendered = render(template, TOKENS)
            assert rendered.unknown == ()
            assert rendered.subject.startswith("[#12.abcdefghijklmnop] ")
            assert rendered.subject.endswith(" A & B")
            assert " 12" in rendered.text
            assert "Ann,\n" in rendered.text
            assert rendered.text.endswith("\nExample Ltd\n")
            assert rendered.html is not None
            assert "$" not in rendered.subject + rendered.text + rendered.html
            assert (
                ("> Hello\n> <b>" in rendered.text)
                == ("&gt; &lt;b&gt;" in rendered.html)
                == (name == "Ticket received")
            )


def test_the_built_in_texts() -> None:
    """The English text is exact, with and without facts about the sender."""
    received = render(TICKET_RECEIVED, TOKENS)
    assert received.subject == "[#12.abcdefghijklmnop] Received: A & B"
    assert received.text == (
        "Hello Ann,\n\nWe received your message. Its ticket number is 12.\n\nYou wrote:\n\n> "
        "Hello\n> <b>\n\n"
        "Reply to this mail to add information.\n\nExample Ltd\n"
    )
    closed = render(TICKET_CLOSED, {"ticket": TOKENS["ticket"]})
    assert (
        closed.text
        == 'Hello,\n\nWe closed ticket 12, "A & B".\n\nReplying to this mail reopens it.\n'
    )
    assert "You wrote" not in render(TICKET_RECEIVED, {}).text


def test_the_answer_to_an_unknown_sender_quotes_nothing() -> None:
    """behaviour.md 5: fixed words and the reference, nothing of the mail."""
    expected = (
        "We received your message and will answer as soon as we can. Reference: "
        "#12.abcdefghijklmnop\n"
    )
    assert generic_acknowledgement("#12.abcdefghijklmnop") == Rendered(
        "We received your message", expected, None, ()
    )


def test_rendering_is_cheap_after_the_first_time() -> None:
    """A template is compiled once; then it costs far less than a millisecond."""
    render(TICKET_RECEIVED, TOKENS)
    misses = templates._compiled.cache_info().misses
    begun = process_time()
    for _ in range(500):
        render(TICKET_RECEIVED, TOKENS)
    assert (process_time() - begun) / 500 < 0.001
    assert templates._compiled.cache_info().misses == misses


def test_default_workflows_send_built_in_templates():
    """Default workflows and receipt caps use the names of the built-in templates."""
    assert {default_workflows.RECEIVED, default_workflows.CLOSED} == set(BUILT_IN)
    assert default_workflows.RECEIVED == automatic_mail.RECEIVED == TICKET_RECEIVED.name
