"""``ticketgate template ...``: texts of automatic mail (interfaces.md 2.4; behaviour.md 3.3)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.group import App
from gateway.cli.mail_options import html_of, text_of
from gateway.cli.opening import run
from gateway.cli.option_values import HIGHEST, ON_OFF, As, AsJson, switch
from gateway.cli.output import emit, emit_done, facts, paragraph, say, table
from gateway.cli.usage_errors import options_checked
from gateway.daemon.assemble import Installation
from gateway.errors import NotFound, UsageError

if TYPE_CHECKING:
    from gateway.store.setup.templates import StoredTemplate

app = App("Edit the texts of automatic mail.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of the template.")]
Language = Annotated[
    str,
    typer.Option(
        "--language",
        metavar="LANGUAGE",
        help="The language, like de or pt-br. Default: the text for all other languages.",
    ),
]


@app.command("list")
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """List templates."""

    async def act(opened: Installation) -> list[dict[str, Any]]:
        from gateway.compose import template_catalogue

        async with opened.database.read() as connection:
            return [
                _described(each) for each in (await template_catalogue.load(connection)).values()
            ]

    rows = run(context, act)
    if as_json:
        emit({"templates": rows})
    else:
        shown = (
            (
                r["name"],
                "yes" if r["transactional"] else "no",
                ", ".join(r["languages"]),
                r["subject"],
            )
            for r in rows
        )
        table(("Name", "Transactional", "Languages", "Subject"), shown)


SubjectOption = Annotated[
    str | None, typer.Option("--subject", metavar="TEXT", help="The subject of the mail.")
]
TextOption = Annotated[
    str | None,
    typer.Option(
        "--text", metavar="TEXT", help="The text of the mail, or - to read the text from stdin."
    ),
]
TextFileOption = Annotated[
    Path | None,
    typer.Option("--text-file", metavar="FILE", help="A file with the text of the mail."),
]
HtmlFileOption = Annotated[
    Path | None, typer.Option("--html-file", metavar="FILE", help="A file with the text as HTML.")
]
TransactionalOption = Annotated[
    str | None,
    typer.Option(
        "--transactional",
        metavar=ON_OFF,
        help="Whether the mail also goes to contacts without consent to marketing.",
    ),
]


@app.command("set")
def set_(
    context: typer.Context,
    name: Name,
    subject: SubjectOption = None,
    text: TextOption = None,
    text_file: TextFileOption = None,
    html_file: HtmlFileOption = None,
    transactional: TransactionalOption = None,
    language: Language = "",
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Add or change a template, and print its unknown tokens. To add one, give subject and text."""
    with options_checked(context):
        if text is not None and text_file is not None:
            raise UsageError("--text and --text-file exclude each other")
        given = text_of(text) if text is not None else html_of(text_file)
        is_transactional = switch("--transactional", transactional)
        html = html_of(html_file)

    async def act(opened: Installation) -> tuple[StoredTemplate, tuple[str, ...]]:
        return await opened.templates(as_user).put_template(
            name, language.lower(), subject, given, html, transactional=is_transactional
        )

    template, unknown = run(context, act)
    if as_json:
        emit_done({"template": _described(template, language.lower()), "unknown": list(unknown)})
    else:
        facts(
            (key.capitalize(), value)
            for key, value in _described(template, language.lower()).items()
            if key not in ("text", "html")
        )
    for each in unknown:
        say(f"ticketgate: unknown token {{{{ {each} }}}}: it will be empty", error=True)


TicketOption = Annotated[
    int | None,
    typer.Option(
        "--ticket",
        metavar="N",
        max=HIGHEST,
        help="Show the mail that the template makes for this ticket.",
    ),
]


@app.command()
def show(
    context: typer.Context,
    name: Name,
    ticket: TicketOption = None,
    language: Language = "",
    as_json: AsJson = False,
) -> None:
    """Show a template. With --ticket, show the mail that it makes."""

    async def act(opened: Installation) -> dict[str, Any]:
        template = await _template(opened, name)
        if ticket is None:
            return _described(template, language.lower())
        return await _rendered(opened, template, ticket, language.lower() or None)

    shown = run(context, act)
    if as_json:
        emit(shown)
    else:
        say(paragraph(f"Subject: {shown['subject']}\n\n{shown['text']}"))
        for each in shown.get("unknown", ()):
            say(f"ticketgate: {{{{ {each} }}}} has no value for this ticket", error=True)


async def _template(opened: Installation, name: str) -> StoredTemplate:
    from gateway.compose import template_catalogue

    async with opened.database.read() as connection:
        known = await template_catalogue.load(connection)
    if (found := known.get(name.strip().casefold())) is None:
        names = ", ".join(each.name for each in known.values())
        raise NotFound(f"unknown template {name!r}: there are {names}")
    return found


async def _rendered(
    opened: Installation, template: StoredTemplate, ticket: int, language: str | None
) -> dict[str, Any]:
    """Return the mail that a template makes for a ticket."""
    from gateway.agenda.dry_run import preview

    made = await preview(opened.database, opened.clock, opened.identity, template, ticket, language)
    words = {"subject": made.subject, "text": made.text, "html": made.html}
    return {"name": template.name, **words, "unknown": list(made.unknown)}


@app.command()
def rename(
    context: typer.Context,
    old: Annotated[str, typer.Argument(metavar="OLD", help="The present name of the template.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The new name of the template.")],
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Rename a template that is not built in. The workflows that send it follow."""
    renamed = run(context, lambda opened: opened.templates(as_user).rename_template(old, new))
    if as_json:
        emit_done({"template": _described(renamed)})
    else:
        say("renamed")


@app.command()
def delete(context: typer.Context, name: Name, as_user: As = None, as_json: AsJson = False) -> None:
    """Delete a template, unless it is built in or a workflow uses it."""
    run(context, lambda opened: opened.templates(as_user).delete_template(name))
    if as_json:
        emit_done({"deleted": name})
    else:
        say("deleted")


def _described(template: StoredTemplate, language: str = "") -> dict[str, Any]:
    if language and language not in template.words:
        raise NotFound(f"template {template.name} has no text in language {language!r}")
    content = template.words[language] if language in template.words else template.best(None)
    return {
        "name": template.name,
        "transactional": template.transactional,
        "builtin": template.builtin,
        "languages": [each or "(general)" for each in sorted(template.words)],
        "subject": content.subject,
        "text": content.text,
        "html": content.html,
    }
