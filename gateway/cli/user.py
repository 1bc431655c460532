"""``ticketgate user ...``: users, their roles and addresses (interfaces.md 2.2).

A password is read from stdin, never from the command line.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from core.model.ticket import User
from gateway.cli.group import App
from gateway.cli.opening import run
from gateway.cli.option_values import ON_OFF, As, AsJson, one_of, switch
from gateway.cli.output import emit, emit_done, say, table, visible
from gateway.cli.usage_errors import options_checked
from gateway.daemon.assemble import Installation
from gateway.errors import UsageError

app = App("Manage users: the people inside.")

ROLES = ("admin", "automation", "agent", "reader")
NOTIFICATIONS = ("new", "reply", "failure")
Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="An address of the user.")]

Also = Annotated[
    list[str] | None,
    typer.Option("--also", metavar="ADDRESS", help="Another address of the user; may be repeated."),
]
RoleOption = Annotated[
    str | None,
    typer.Option(
        "--role",
        metavar="|".join(ROLES),
        help="What the user may do. Default for a new user: agent.",
    ),
]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the first line of stdin.")
]


@app.command("list")
def list_(context: typer.Context, as_json: AsJson = False) -> None:
    """List users."""

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
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="The name of the user.")],
    also: Also = None,
    role: RoleOption = None,
    password_stdin: PasswordStdin = False,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Add a user. The addresses given here count as verified."""
    with options_checked(context):
        chosen: Any = one_of("--role", role, ROLES) or "agent"
        stored = _password() if password_stdin else None

    async def act(opened: Installation) -> dict[str, Any]:
        user = await opened.people(as_user).add_user(name, [address, *(also or ())], chosen, stored)
        async with opened.database.read() as connection:
            return await _described(connection, user)

    _show(run(context, act), as_json=as_json)


NameOption = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="The name of the user.")
]
ActiveOption = Annotated[
    str | None,
    typer.Option(
        "--active",
        metavar=ON_OFF,
        help="Whether the user may act; if off, their mail counts as mail from outside.",
    ),
]
SignatureOption = Annotated[
    str | None,
    typer.Option(
        "--signature",
        metavar="TEXT",
        help="The signature below mail from the user; an empty text removes it.",
    ),
]
NotifyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--notify",
        metavar="new|reply|failure=on|off",
        help="Turn a kind of notification on or off, like reply=off; may be repeated.",
    ),
]
DigestOption = Annotated[
    str | None,
    typer.Option(
        "--digest",
        metavar="off|hourly|daily",
        help="How often to send collected notifications; off sends each notification at once.",
    ),
]


@app.command("set")
def set_(
    context: typer.Context,
    address: Address,
    name: NameOption = None,
    also: Also = None,
    role: RoleOption = None,
    active: ActiveOption = None,
    password_stdin: PasswordStdin = False,
    signature: SignatureOption = None,
    notify: NotifyOption = None,
    digest: DigestOption = None,
    as_user: As = None,
    as_json: AsJson = False,
) -> None:
    """Change a user, or add addresses. --active off locks the user out."""
    with options_checked(context):
        wanted = _notifications(notify or [], digest)
        given = {
            "name": name,
            "role": one_of("--role", role, ROLES),
            "active": switch("--active", active),
            "password_hash": _password() if password_stdin else None,
        }
        values = {key: value for key, value in given.items() if value is not None}
        if signature is not None:
            values["signature"] = signature or None
        if not values and not also and not wanted:
            raise UsageError("nothing to set: give an option")

    async def act(opened: Installation) -> tuple[dict[str, Any], tuple[str, ...]]:
        if wanted:
            values["notify"] = {**await _notify(opened, address), **wanted}
        from gateway.desk.names import naming_user

        user = await opened.people(as_user).set_user(address, also or (), **values)
        async with opened.database.read() as connection:
            left = () if user.active else await naming_user(connection, address)
            return await _described(connection, user), left

    shown, left = run(context, act)
    if as_json:
        emit_done({"user": shown, "still_named_by": list(left)})
        return
    _table([shown])
    for each in left:
        say(visible(f"still named by {each}"))


async def _notify(opened: Installation, address: str) -> dict[str, Any]:
    """Return the stored notification settings of a user."""
    from gateway.store.setup import users

    async with opened.database.read() as connection:
        return dict((await users.at(connection, address)).notify or {})


def _notifications(notify: list[str], digest: str | None) -> dict[str, Any]:
    """Return the notification settings that the options ask for; UsageError for an unknown word."""
    found: dict[str, Any] = {}
    for each in notify:
        what, _, state = each.partition("=")
        if what not in NOTIFICATIONS or state not in ("on", "off"):
            takes = f"{', '.join(NOTIFICATIONS[:-1])} or {NOTIFICATIONS[-1]}, each with =on or =off"
            raise UsageError(f"--notify must be {takes}, not {each!r}")
        found[what] = state == "on"
    chosen = one_of("--digest", digest, ("off", "hourly", "daily"))
    return found | ({"digest": chosen} if chosen is not None else {})


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
