"""All templates of an installation: stored templates, and built-in ones that nobody edited.

A built-in template is stored only when somebody edits it, language by language. So a newer release
improves every text that nobody edited (docs/adr/0014).
"""

from __future__ import annotations

from gateway.compose.builtin_templates import BUILT_IN
from gateway.store.setup import templates
from gateway.store.setup.templates import StoredTemplate, Words
from gateway.store.tickets.unit_of_work import Connection


async def load(connection: Connection) -> dict[str, StoredTemplate]:
    """Return the templates, keyed by case-folded name.

    A built-in template that nobody edited has the id 0.
    """
    found = await templates.load(connection)
    for name, languages in BUILT_IN.items():
        builtin = {
            language: Words(each.subject, each.text, each.html)
            for language, each in languages.items()
        }
        stored = found.get(name.casefold())
        if stored is None:
            merged = StoredTemplate(0, name, transactional=True, builtin=True, words=builtin)
        else:
            words = {**builtin, **stored.words}
            merged = StoredTemplate(stored.id, name, stored.transactional, True, words)
        found[name.casefold()] = merged
    return dict(sorted(found.items()))
