"""``ticketgate contact ...``: people outside, and which mail they may get (interfaces.md 2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.group import App
from gateway.cli.mail_options import (
    Attach,
    HtmlFile,
    RequiredSubject,
    Text,
    files_of,
    html_of,
    send,
    text_of,
)
from gateway.cli.opening import run
from gateway.cli.option_values import HIGHEST, ON_OFF, As, AsJson, Yes, switch
from gateway.cli.output import (
    agree,
    columns,
    count,
    emit,
    emit_done,
    facts,
    refuse_unasked,
    say,
    table,
)
from gateway.cli.usage_errors import options_checked
from gateway.daemon.assemble import Installation
from gateway.errors import UsageError

if TYPE_CHECKING:
    from core.model.ticket import Contact
    from gateway.desk.erasure import Erasure
    from gateway.store.queues.blobs import Blobs

app = App("List, change and erase contacts: the people outside.")

Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="The address of the contact.")]


LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        metavar="N",
        min=1,
        max=HIGHEST,
        help="List only the first N contacts. Default: all.",
    ),
]


@app.command("list")
def list_(context: typer.Context, limit: LimitOption = None, as_json: AsJson = False) -> None:
    """List contacts, sorted by address."""

    async def act(opened: Installation) -> list[dict[str, Any]]:
        from gateway.store.tickets import contacts

        async with opened.database.read() as connection:
            return [_described(each) for each in await contacts.listing(connection, limit)]

    shown = run(context, act)
    if as_json:
        emit({"contacts": shown})
    else:
        table(
            ("Address", "Name", "Blocked", "Marketing", "Automated"),
            (
                (
                    each["address"],
                    each["name"],
                    _yes(each["blocked"]),
                    _yes(each["marketing"]),
                    _yes(each["automated"]),
                )
                for each in shown
            ),
        )


@app.command()
def show(context: typer.Context, address: Address, as_json: AsJson = False) -> None:
    """Show a contact and the tickets they requested."""
    shown = run(context, lambda opened: _with_tickets(opened, address))
    if as_json:
        emit(shown)
        return
    tickets = shown.pop("tickets")
    _show(shown)
    columns(tickets, Number="number", Status="status", Subject="subject")


async def _with_tickets(opened: Installation, address: str) -> dict[str, Any]:
    """Return the document of a contact, with the tickets that they requested."""
    from gateway.desk import views
    from gateway.desk.people import contact_at
    from gateway.store.tickets import tickets

    async with opened.database.read() as connection:
        contact = await contact_at(connection, address)
        numbers = await tickets.requested_by(connection, contact.id)
        return _described(contact) | {"tickets": await views.some(connection, numbers)}


def _show(shown: dict[str, Any]) -> None:
    facts(
        (name.capitalize(), _yes(value) if isinstance(value, bool) else value)
        for name, value in shown.items()
    )


@app.command("mail")
def mail_(
    context: typer.Context,
    address: Address,
    subject: RequiredSubject,
    text: Text,
    html_file: HtmlFile = None,
    attach: Attach = None,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Send a contact a mail that belongs to no ticket. No ticket changes."""
    with options_checked(context):
        from gateway.desk.correspondence import MailDraft

        mail = MailDraft(text_of(text), html_of(html_file), files_of(attach), subject=subject)
    send(context, lambda person: person.write_to(address, mail), as_user, as_json=as_json)


MarketingOption = Annotated[
    str | None,
    typer.Option(
        "--marketing",
        metavar=ON_OFF,
        help="Whether the contact may get mail from templates that are not transactional.",
    ),
]
BlockOption = Annotated[
    str | None,
    typer.Option("--block", metavar=ON_OFF, help="Whether mail from the contact is quarantined."),
]
LanguageOption = Annotated[
    str | None,
    typer.Option(
        "--language",
        metavar="LANGUAGE|none",
        help="The language of automatic mail to the contact, like de; the word none removes it.",
    ),
]


@app.command("set")
def set_(
    context: typer.Context,
    address: Address,
    marketing: MarketingOption = None,
    block: BlockOption = None,
    language: LanguageOption = None,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Change a contact: language, blocking and marketing mail."""
    with options_checked(context):
        given = {
            "marketing_ok": switch("--marketing", marketing),
            "blocked": switch("--block", block),
        }
        values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if language is not None:
            values["language"] = None if language == "none" else language.lower()
        if not values:
            raise UsageError("nothing to set: give an option")
    contact = run(context, lambda opened: opened.people(as_user).set_contact(address, **values))
    if as_json:
        emit_done({"contact": _described(contact)})
    else:
        _show(_described(contact))


@app.command()
def erase(
    context: typer.Context,
    address: Address,
    yes: Yes = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count the data that would be erased.")
    ] = False,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Erase a person: their mail, conversations and address. This cannot be undone."""

    async def act(opened: Installation) -> dict[str, Any]:
        if not yes:
            shown = await _rehearse(opened, address, as_user)
            if not as_json:
                facts((name.replace("_", " ").capitalize(), value) for name, value in shown.items())
            if not agree("Erase all this? It cannot be undone.", yes=yes, dry_run=dry_run):
                return shown | {"erased": False}
        return await _erase(opened, address, as_user)

    with options_checked(context):
        refuse_unasked(yes=yes, dry_run=dry_run)
    shown = run(context, act)
    if as_json:
        emit_done(shown)
    elif shown["erased"]:
        _show_erased(shown)


def _blobs(opened: Installation) -> Blobs:
    from gateway.store.queues.blobs import open_blobs

    return open_blobs(opened.settings.blobs.url)


async def _rehearse(opened: Installation, address: str, actor: str | None) -> dict[str, Any]:
    """Return how much data would be erased, without erasing it."""
    from gateway.store.upkeep.rehearsal import rehearsal

    async with rehearsal(opened.database) as rehearsed:
        desk = opened.erasure(actor, database=rehearsed)
        return _erasure(await desk.erase_contact(address, _blobs(opened)))


async def _erase(opened: Installation, address: str, actor: str | None) -> dict[str, Any]:
    """Erase a person; return how much data was erased."""
    desk, blobs = opened.erasure(actor), _blobs(opened)
    try:
        done = await desk.erase_contact(address, blobs)
    finally:  # a crash of an earlier erasure may have left blobs of a person no longer known
        swept = await desk.sweep(blobs)
    return _erasure(done) | {"blobs": swept.blobs, "clean": swept.clean, "erased": True}


def _show_erased(shown: dict[str, Any]) -> None:
    messages, mails = shown["removed_messages"], shown["removed_mails"]
    say(f"erased {count(messages, 'message')} and {count(mails, 'mail')}")
    if not shown["clean"]:
        say(
            "another process was reading: the write-ahead log still holds old pages "
            "until the daemon's next checkpoint"
        )


def _erasure(done: Erasure) -> dict[str, Any]:
    removed = done.removed
    return {
        "tickets": list(done.tickets),
        "shared_tickets": list(done.shared),
        "removed_messages": removed.messages,
        "removed_mails": removed.mails,
        "removed_raw": removed.raw,
        "changed_messages": removed.changed_messages,
        "changed_mails": removed.changed_mails,
        "changed_events": removed.changed_events,
    }


def _described(contact: Contact) -> dict[str, Any]:
    return {
        "address": contact.address,
        "name": contact.name,
        "blocked": contact.blocked,
        "marketing": contact.marketing_ok,
        "automated": contact.automated,
        "proven": contact.proven,
        "bounced_at": contact.bounced_at,
        "language": contact.language,
    }


def _yes(value: bool) -> str:
    return "yes" if value else ""
