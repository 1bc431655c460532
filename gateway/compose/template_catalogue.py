"""All templates there are: those that people made, and the built-in ones in every language, as far
as nobody edited them.

What is built in is not stored until somebody changes it, so a newer release brings better words to
everybody who did not. Nothing here can fail.
"""

from __future__ import annotations

from gateway.compose.templates import BUILT_IN
from gateway.store.setup import templates
from gateway.store.setup.templates import StoredTemplate, Words
from gateway.store.tickets.unit_of_work import Connection


async def load(connection: Connection) -> dict[str, StoredTemplate]:
    """Every template by folded name."""
    found = await templates.load(connection)
    for name, languages in BUILT_IN.items():
        words = {
            language: Words(each.subject, each.text, each.html)
            for language, each in languages.items()
        }
        own = found.get(name.casefold())
        transactional = own.transactional if own is not None else True
        merged = {**words, **(own.words if own is not None else {})}
        found[name.casefold()] = StoredTemplate(
            own.id if own is not None else 0, name, transactional, True, merged
        )
    return dict(sorted(found.items()))
