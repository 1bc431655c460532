"""What an act changed, in the shape that all acting commands print (interfaces.md 2.1). Nothing can
go wrong here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.daemon.assemble import Installation
    from gateway.desk.tickets import ActResult


async def acted(opened: Installation, outcome: ActResult) -> dict[str, Any]:
    """``{"ticket", "message", "changes"}``; where several tickets were changed ``ticket`` is None
    and ``tickets`` has them all.
    """
    from gateway.desk import views

    async with opened.database.read() as connection:
        shown = await views.some(connection, outcome.tickets)
    return {
        "ticket": shown[0] if len(shown) == 1 else None,
        "message": views.message(outcome.message) if outcome.message is not None else None,
        "changes": [views.event(each) for each in outcome.events],
    } | ({"tickets": shown} if len(shown) > 1 else {})
