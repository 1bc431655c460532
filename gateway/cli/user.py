"""``ticketgate user ...``: agents and their addresses (interfaces.md 2.2). A password comes by
stdin, never on the command line.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from core.model.ticket import User
from gateway.cli.opening import explained, run
from gateway.cli.output import AsJson, emit, emit_done, table
from gateway.cli.words import one_of, switch
from gateway.daemon.assemble import Installation
from gateway.errors import UsageError

app = typer.Typer(help="Agents.", no_args_is_help=True)

Address = Annotated[str, typer.Argument(metavar="ADDRESS")]
ROLES = ("admin", "automation", "agent", "reader")
Also = Annotated[
    list[str] | None,
    typer.Option("--also", metavar="ADDR", help="Another address of the same person."),
]
RoleOption = Annotated[str | None, typer.Option("--role", metavar="|".join(ROLES))]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the first line of stdin.")
]


@app.command("list")
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """Lists all users."""

    async def act(opened: Installation) -> list[dict[str, Any]]:
        from gateway.store.setup import users

        async with opened.database.read() as connection:
            return [await _described(connection, each) for each in await users.load(connection)]

    shown = run(context, act)
    if as_json:
        emit({"users": shown})
    else:
        _table(shown)


@app.command()
def add(
    context: typer.Context,
    address: Address,
    name: Annotated[str, typer.Option("--name")],
    also: Also = None,
    role: RoleOption = None,
    password_stdin: PasswordStdin = False,
    as_json: AsJson = False,
) -> None:
    """Makes a user; the addresses given here count as verified."""
    with explained():
        chosen: Any = one_of("--role", role, ROLES) or "agent"
        stored = _password() if password_stdin else None

    async def act(opened: Installation) -> dict[str, Any]:
        user = await opened.people().add_user(name, [address, *(also or ())], chosen, stored)
        async with opened.database.read() as connection:
            return await _described(connection, user)

    _show(run(context, act), as_json=as_json)


@app.command("set")
def set_(
    context: typer.Context,
    address: Address,
    name: Annotated[str | None, typer.Option("--name")] = None,
    also: Also = None,
    role: RoleOption = None,
    active: Annotated[
        str | None,
        typer.Option(
            "--active", metavar="on|off", help="Off: may not act; mail from him is no user's."
        ),
    ] = None,
    password_stdin: PasswordStdin = False,
    signature: Annotated[
        str | None,
        typer.Option("--signature", metavar="T", help="Below what he writes; empty takes it away."),
    ] = None,
    notify: Annotated[
        list[str] | None,
        typer.Option(
            "--notify", metavar="WHAT=on|off", help="Of new, reply, failure; may be repeated."
        ),
    ] = None,
    digest: Annotated[
        str | None, typer.Option("--digest", metavar="off|hourly|daily", help="Off: told at once.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Sets a user's name, role, password, signature and what he is told, adds addresses, or takes
    his rights away.
    """
    with explained():
        told = _told(notify or [], digest)
        given = {
            "name": name,
            "role": one_of("--role", role, ROLES),
            "active": switch("--active", active),
            "password_hash": _password() if password_stdin else None,
        }
        values = {key: value for key, value in given.items() if value is not None}
        if signature is not None:
            values["signature"] = signature or None
        if not values and not also and not told:
            raise UsageError("say what is to be set")

    async def act(opened: Installation) -> dict[str, Any]:
        if told:
            from gateway.store.setup import users

            async with opened.database.read() as connection:
                values["notify"] = {**((await users.at(connection, address)).notify or {}), **told}
        user = await opened.people().set_user(address, also or (), **values)
        async with opened.database.read() as connection:
            return await _described(connection, user)

    _show(run(context, act), as_json=as_json)


def _told(notify: list[str], digest: str | None) -> dict[str, Any]:
    """What he is to be told of; UsageError for other words."""
    found: dict[str, Any] = {}
    for each in notify:
        what, _, state = each.partition("=")
        found[one_of("--notify", what, ("new", "reply", "failure"))] = switch("--notify", state)
    if digest is not None:
        found["digest"] = one_of("--digest", digest, ("off", "hourly", "daily"))
    return found


def _password() -> str:
    from gateway.desk.passwords import hashed

    return hashed(sys.stdin.readline().rstrip("\r\n"))


async def _described(connection: Any, user: User) -> dict[str, Any]:
    from gateway.store.setup import users

    first = await users.sign_in_address(connection, user.id)
    return {
        "name": user.name,
        "address": first,
        "addresses": [first, *sorted(user.addresses - {first})],
        "role": user.role,
        "active": user.active,
        "signature": user.signature,
        "notify": {
            "new": user.wants("new"),
            "reply": user.wants("reply"),
            "failure": user.wants("failure"),
            "digest": (user.notify or {}).get("digest", "off"),
        },
        "password": await users.password_hash(connection, user.id) is not None,
    }


def _show(shown: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        emit_done({"user": shown})
    else:
        _table([shown])


def _table(shown: list[dict[str, Any]]) -> None:
    table(
        ("Address", "Name", "Role", "Active", "Also"),
        (
            (
                each["address"],
                each["name"],
                each["role"],
                "yes" if each["active"] else "no",
                ", ".join(each["addresses"][1:]),
            )
            for each in shown
        ),
    )
