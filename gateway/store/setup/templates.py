"""Templates of mails and their words in each language, as rows; what is built in can be edited and
never deleted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import Refused
from gateway.store.schema import tables
from gateway.validation import refuse_breaks

TEMPLATE, TEXT = tables.template, tables.template_text


@dataclass(frozen=True, slots=True)
class Words:
    """A template in one language."""

    subject: str
    text: str
    html: str | None = None


@dataclass(frozen=True, slots=True)
class StoredTemplate:
    """A template; ``words`` by language, "" being the one that every template has."""

    id: int
    name: str
    transactional: bool
    builtin: bool
    words: Mapping[str, Words] = field(default_factory=dict)

    def best(self, language: str | None) -> Words:
        """The words for somebody of this language (``de-AT`` falls back to ``de``, then to the
        general ones).
        """
        wanted = (language or "").lower().replace("_", "-")
        for each in (wanted, wanted.partition("-")[0], ""):
            if each in self.words:
                return self.words[each]
        return Words("", "")


async def load(connection: AsyncConnection) -> dict[str, StoredTemplate]:
    """All templates by folded name."""
    words: dict[int, dict[str, Words]] = {}
    for row in await connection.execute(sa.select(TEXT)):
        words.setdefault(row.template_id, {})[row.language] = Words(row.subject, row.text, row.html)
    rows = await connection.execute(sa.select(TEMPLATE).order_by(TEMPLATE.c.name))
    return {
        row.name.casefold(): StoredTemplate(
            row.id, row.name, row.transactional, row.builtin, words.get(row.id, {})
        )
        for row in rows
    }


async def put(
    connection: AsyncConnection,
    name: str,
    words: Mapping[str, Words],
    *,
    transactional: bool | None = None,
    builtin: bool = False,
) -> StoredTemplate:
    """Make a template, or change it: the words of the languages given, and whether it is
    transactional. ``builtin`` ones may be edited only.
    """
    refuse_breaks("name", name)
    refuse_breaks("subject", *(each.subject for each in words.values()))
    known = (await load(connection)).get(name.casefold())
    if known is None:
        values: dict[str, Any] = {
            "name": name,
            "transactional": bool(transactional),
            "builtin": builtin,
        }
        number: int = (
            await connection.execute(sa.insert(TEMPLATE).values(values).returning(TEMPLATE.c.id))
        ).scalar_one()
    else:
        number = known.id
        if transactional is not None:
            await connection.execute(
                sa.update(TEMPLATE)
                .where(TEMPLATE.c.id == number)
                .values(transactional=transactional)
            )
    for language, each in words.items():
        await connection.execute(
            sa.delete(TEXT).where(TEXT.c.template_id == number, TEXT.c.language == language)
        )
        row = {
            "template_id": number,
            "language": language,
            "subject": each.subject,
            "text": each.text,
            "html": each.html,
        }
        await connection.execute(sa.insert(TEXT).values(row))
    return (await load(connection))[name.casefold()]


async def delete(connection: AsyncConnection, template: StoredTemplate) -> None:
    """Remove a template that is not built in; who calls has seen that no workflow uses it."""
    if template.builtin:
        raise Refused(f"the template {template.name!r} is built in: it can be edited, not deleted")
    await connection.execute(sa.delete(TEXT).where(TEXT.c.template_id == template.id))
    await connection.execute(sa.delete(TEMPLATE).where(TEMPLATE.c.id == template.id))
