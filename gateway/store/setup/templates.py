"""Read, change and delete templates of automatic mail, with their text in each language.

The rule that no built-in template is deleted is in ``core.rules.structure``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store.schema import tables

TEMPLATE, TEXT = tables.template, tables.template_text
SELECT_TEMPLATES = sa.select(
    TEMPLATE.c.id, TEMPLATE.c.name, TEMPLATE.c.transactional, TEMPLATE.c.builtin
).order_by(TEMPLATE.c.name)


@dataclass(frozen=True, slots=True)
class Words:
    """The subject and text of a template in one language."""

    subject: str
    text: str
    html: str | None = None


@dataclass(frozen=True, slots=True)
class StoredTemplate:
    """A template. ``words`` maps languages to texts; the key "" is for all other languages."""

    id: int
    name: str
    transactional: bool
    builtin: bool
    words: Mapping[str, Words] = field(default_factory=dict)

    def best(self, language: str | None) -> Words:
        """Return the text for a language like ``de-AT``.

        If there is none, return the text for ``de``, or else the text for all other languages.
        """
        wanted = (language or "").lower().replace("_", "-")
        for each in (wanted, wanted.partition("-")[0], ""):
            if each in self.words:
                return self.words[each]
        return Words("", "")


async def load(connection: AsyncConnection) -> dict[str, StoredTemplate]:
    """Return all templates, keyed by casefolded name."""
    words: dict[int, dict[str, Words]] = {}
    for row in await connection.execute(sa.select(TEXT)):
        words.setdefault(row.template_id, {})[row.language] = Words(row.subject, row.text, row.html)
    stored = [StoredTemplate(*row) for row in await connection.execute(SELECT_TEMPLATES)]
    return {each.name.casefold(): replace(each, words=words.get(each.id, {})) for each in stored}


async def put(
    connection: AsyncConnection,
    name: str,
    words: Mapping[str, Words],
    *,
    transactional: bool | None = None,
    builtin: bool = False,
) -> None:
    """Add a template, or replace its texts by ``words``.

    If ``transactional`` is None, an existing template keeps its value.
    """
    known = (await load(connection)).get(name.casefold())
    if known is None:
        values = {"name": name, "transactional": bool(transactional), "builtin": builtin}
        row = sa.insert(TEMPLATE).values(values).returning(TEMPLATE.c.id)
        number: int = (await connection.execute(row)).scalar_one()
    else:
        number = known.id
        if transactional is not None:
            own = sa.update(TEMPLATE).where(TEMPLATE.c.id == number)
            await connection.execute(own.values(transactional=transactional))
    for language, each in words.items():
        await _write_text(connection, number, language, each)


async def _write_text(
    connection: AsyncConnection, template_id: int, language: str, words: Words
) -> None:
    """Replace the text of a template in one language."""
    own = sa.and_(TEXT.c.template_id == template_id, TEXT.c.language == language)
    await connection.execute(sa.delete(TEXT).where(own))
    row = {
        "template_id": template_id,
        "language": language,
        "subject": words.subject,
        "text": words.text,
        "html": words.html,
    }
    await connection.execute(sa.insert(TEXT).values(row))


async def rename(connection: AsyncConnection, template: StoredTemplate, name: str) -> None:
    """Give a template another name; its texts stay."""
    own = sa.update(TEMPLATE).where(TEMPLATE.c.id == template.id)
    await connection.execute(own.values(name=name))


async def delete(connection: AsyncConnection, template: StoredTemplate) -> None:
    """Delete a template with its text in every language."""
    await connection.execute(sa.delete(TEXT).where(TEXT.c.template_id == template.id))
    await connection.execute(sa.delete(TEMPLATE).where(TEMPLATE.c.id == template.id))
