"""``ticketgate template ...``: the words of mails that nobody types (interfaces.md 2.4;
behaviour.md 3.3).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.letter import html_of, words
from gateway.cli.opening import explained, run
from gateway.cli.output import AsJson, emit, emit_done, facts, paragraph, table
from gateway.cli.words import HIGHEST, switch
from gateway.daemon.assemble import Installation
from gateway.errors import Refused, UsageError

if TYPE_CHECKING:
    from gateway.store.setup.templates import StoredTemplate

app = typer.Typer(help="The words of mails that nobody types.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME")]
Language = Annotated[
    str,
    typer.Option(
        "--language",
        metavar="LANG",
        help="Like de or pt-br. Default: the words for everybody else.",
    ),
]


@app.command("list")
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """Lists all templates."""

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


@app.command("set")
def set_(
    context: typer.Context,
    name: Name,
    subject: Annotated[str | None, typer.Option("--subject", metavar="S")] = None,
    text: Annotated[
        str | None, typer.Option("--text", metavar="T", help="- reads it from stdin.")
    ] = None,
    text_file: Annotated[Path | None, typer.Option("--text-file", metavar="F")] = None,
    html_file: Annotated[Path | None, typer.Option("--html-file", metavar="F")] = None,
    transactional: Annotated[
        str | None,
        typer.Option(
            "--transactional", metavar="on|off", help="On: needs no consent to marketing."
        ),
    ] = None,
    language: Language = "",
    as_json: AsJson = False,
) -> None:
    """Makes a template, or changes it; tells which tokens it uses that nobody knows."""
    with explained():
        if text is not None and text_file is not None:
            raise UsageError("--text and --text-file exclude each other")
        given = words(text) if text is not None else html_of(text_file)
        is_transactional = switch("--transactional", transactional)
        html = html_of(html_file)

    async def act(opened: Installation) -> tuple[StoredTemplate, tuple[str, ...]]:
        return await opened.templates().put_template(
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
        print(f"ticketgate: nobody knows {{{{ {each} }}}}: it will be empty", file=sys.stderr)


@app.command()
def show(
    context: typer.Context,
    name: Name,
    ticket: Annotated[
        int | None,
        typer.Option("--ticket", metavar="N", max=HIGHEST, help="Rendered for this ticket."),
    ] = None,
    language: Language = "",
    as_json: AsJson = False,
) -> None:
    """Shows a template, or the mail it makes of a ticket."""

    async def act(opened: Installation) -> dict[str, Any]:
        from gateway.agenda.dry_run import preview
        from gateway.compose import template_catalogue

        async with opened.database.read() as connection:
            known = await template_catalogue.load(connection)
        template = known.get(name.strip().casefold())
        if template is None:
            raise Refused(
                f"there is no template {name!r}: there are "
                f"{', '.join(each.name for each in known.values())}"
            )
        if ticket is None:
            return _described(template, language.lower())
        rendered = await preview(
            opened.database,
            opened.clock,
            opened.identity,
            template,
            ticket,
            language.lower() or None,
        )
        return {
            "name": template.name,
            "subject": rendered.subject,
            "text": rendered.text,
            "html": rendered.html,
            "unknown": list(rendered.unknown),
        }

    shown = run(context, act)
    if as_json:
        emit(shown)
    else:
        print(paragraph(f"Subject: {shown['subject']}\n\n{shown['text']}"))
        for each in shown.get("unknown", ()):
            print(f"ticketgate: {{{{ {each} }}}} has no value for this ticket", file=sys.stderr)


@app.command()
def delete(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Removes a template that is not built in and that no workflow uses."""
    run(context, lambda opened: opened.templates().delete_template(name))
    if as_json:
        emit_done({"deleted": name})
    else:
        print("deleted")


def _described(template: StoredTemplate, language: str = "") -> dict[str, Any]:
    if language and language not in template.words:
        raise Refused(f"template {template.name} has no words in {language}")
    said = template.words[language] if language in template.words else template.best(None)
    return {
        "name": template.name,
        "transactional": template.transactional,
        "builtin": template.builtin,
        "languages": [each or "(general)" for each in sorted(template.words)],
        "subject": said.subject,
        "text": said.text,
        "html": said.html,
    }
