"""The result of an act, in the form that all acting commands print (interfaces.md 2.1)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import typer

from gateway.cli.opening import run
from gateway.cli.output import say
from gateway.daemon.assemble import Installation

if TYPE_CHECKING:
    from gateway.desk.tickets import ActResult


async def acted(opened: Installation, outcome: ActResult) -> dict[str, Any]:
    """Return the result of an act as ``{"ticket", "message", "changes"}``.

    When several tickets changed, ``ticket`` is None and ``tickets`` lists them. If the user
    gave the number of a merged ticket, ``redirected`` has it with the surviving ticket.
    """
    from gateway.desk import views

    async with opened.database.read() as connection:
        shown = await views.some(connection, outcome.tickets)
    redirected = [{"number": old, "ticket": new} for old, new in outcome.redirected.items()]
    return {
        "ticket": shown[0] if len(shown) == 1 else None,
        "message": views.message(outcome.message) if outcome.message is not None else None,
        "changes": [views.event(each) for each in outcome.events],
        **({"tickets": shown} if len(shown) > 1 else {}),
        **({"redirected": redirected} if redirected else {}),
    }


def print_redirected(document: dict[str, Any]) -> None:
    """Print, for each given number of a merged ticket, the ticket that was changed instead."""
    for each in document.get("redirected", ()):
        old, new = each["number"], each["ticket"]
        say(f"ticket {old} was merged into ticket {new}: this concerns ticket {new}")


def run_act(
    context: typer.Context, act: Callable[[Installation], Awaitable[ActResult]]
) -> tuple[dict[str, Any], ActResult]:
    """Run an act; return the document for ``--json`` and the result itself."""

    async def whole(opened: Installation) -> tuple[dict[str, Any], ActResult]:
        outcome = await act(opened)
        return await acted(opened, outcome), outcome

    return run(context, whole)
