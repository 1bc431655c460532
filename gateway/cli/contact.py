"""``ticketgate contact ...``: people outside, and what may be sent to them (interfaces.md 2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.letter import As, Attach, HtmlFile, Text, files_of, html_of, send, words
from gateway.cli.opening import explained, run
from gateway.cli.output import AsJson, agree, emit, emit_done, facts, refuse_unasked, table
from gateway.cli.words import switch
from gateway.daemon.assemble import Installation
from gateway.errors import UsageError

if TYPE_CHECKING:
    from core.model.ticket import Contact
    from gateway.desk.erasure import Erasure

app = typer.Typer(help="People outside.", no_args_is_help=True)

Address = Annotated[str, typer.Argument(metavar="ADDR")]


@app.command("list")
def list_(
    context: typer.Context,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Default: all.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Lists contacts by address."""

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
    """Shows a contact and the tickets he asked for."""

    async def act(opened: Installation) -> dict[str, Any]:
        from gateway.desk import views
        from gateway.desk.people import contact_at
        from gateway.store.tickets import tickets

        async with opened.database.read() as connection:
            contact = await contact_at(connection, address)
            numbers = await tickets.requested_by(connection, contact.id)
            return _described(contact) | {"tickets": await views.some(connection, numbers)}

    shown = run(context, act)
    if as_json:
        emit(shown)
        return
    facts(
        (name.capitalize(), _yes(value) if isinstance(value, bool) else value)
        for name, value in shown.items()
        if name != "tickets"
    )
    table(
        ("Number", "Status", "Subject"),
        ((each["number"], each["status"], each["subject"]) for each in shown["tickets"]),
    )


@app.command("mail")
def mail_(
    context: typer.Context,
    address: Address,
    subject: Annotated[str, typer.Option("--subject", metavar="S")],
    text: Text,
    html_file: HtmlFile = None,
    attach: Attach = None,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Writes to a contact from his own record; his tickets stay as they are."""
    with explained():
        from gateway.desk.correspondence import MailDraft

        mail = MailDraft(words(text), html_of(html_file), files_of(attach), subject=subject)
    send(context, lambda person: person.write_to(address, mail), as_user, as_json=as_json)


@app.command("set")
def set_(
    context: typer.Context,
    address: Address,
    marketing: Annotated[
        str | None,
        typer.Option(
            "--marketing",
            metavar="on|off",
            help="Whether other than transactional mail may go out.",
        ),
    ] = None,
    block: Annotated[
        str | None,
        typer.Option("--block", metavar="on|off", help="Whether his mail is quarantined."),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(
            "--language", metavar="LANG|none", help="Of automatic mail to him, like de or pt-br."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Sets what is known of a contact."""
    with explained():
        given = {
            "marketing_ok": switch("--marketing", marketing),
            "blocked": switch("--block", block),
        }
        values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if language is not None:
            values["language"] = None if language == "none" else language.lower()
        if not values:
            raise UsageError("say what is to be set")
    contact = run(context, lambda opened: opened.people().set_contact(address, **values))
    if as_json:
        emit_done({"contact": _described(contact)})
    else:
        facts(
            (name.capitalize(), _yes(value) if isinstance(value, bool) else value)
            for name, value in _described(contact).items()
        )


@app.command()
def erase(
    context: typer.Context,
    address: Address,
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Takes a person out of everything: his conversations, his mail, his address in those of
    others. It cannot be undone.
    """

    async def act(opened: Installation) -> dict[str, Any]:
        from gateway.store.queues.blobs import open_blobs
        from gateway.store.upkeep.rehearsal import rehearsal

        blobs = open_blobs(opened.settings.blobs.url)
        if not yes:
            async with rehearsal(opened.database) as rehearsed:
                shown = _erasure(
                    await opened.erasure(database=rehearsed).erase_contact(address, blobs)
                )
            if not as_json:
                facts((name.replace("_", " ").capitalize(), value) for name, value in shown.items())
            if not agree("Erase this for good?", yes=yes, dry_run=dry_run):
                return shown | {"erased": False}
        try:
            done = await opened.erasure().erase_contact(address, blobs)
        finally:  # also what a crash left of an earlier time, when he is not known any more
            swept = await opened.erasure().sweep(blobs)
        return _erasure(done) | {"blobs": swept.blobs, "clean": swept.clean, "erased": True}

    with explained():
        refuse_unasked(yes=yes, dry_run=dry_run)
    shown = run(context, act)
    if as_json:
        emit_done(shown)
    elif shown["erased"]:
        print(
            f"erased: {shown['removed_messages']} messages and {shown['removed_mails']} mails "
            "are gone"
        )
        if not shown["clean"]:
            print(
                "somebody was reading: the log beside the database still holds old pages until "
                "the daemon has folded it back"
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
