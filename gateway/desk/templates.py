"""Changes of templates of automatic mail (behaviour.md 3.3)."""

from __future__ import annotations

from core.rules import structure
from core.rules.rights import Right
from gateway.compose import template_catalogue
from gateway.compose.templates import Template, check
from gateway.desk.names import write_name
from gateway.desk.transaction import Actor, enforce
from gateway.errors import Invalid, NotFound
from gateway.store.setup import references, templates
from gateway.store.setup.templates import StoredTemplate, Words
from gateway.validation import refuse_breaks, refuse_unnamed


class TemplateDesk(Actor):
    """Add, change and delete templates."""

    async def put_template(
        self,
        name: str,
        language: str,
        subject: str | None,
        text: str | None,
        html: str | None,
        *,
        transactional: bool | None,
    ) -> tuple[StoredTemplate, tuple[str, ...]]:
        """Add or change a template; return it and its unknown tokens.

        An argument that is None changes nothing. Exception: a new text without new HTML removes the
        old HTML, which would say something else.
        """
        async with self.acting(Right.EDIT_TEMPLATES) as act:
            connection, key = act.unit.connection, name.strip().casefold()
            known = (await template_catalogue.load(connection)).get(key)
            if known is None and (not name.strip() or subject is None or text is None):
                raise NotFound(f"no template {name!r}: to add it, give a subject and a text")
            given = (subject, text, html, transactional)
            if known is not None and all(value is None for value in given):
                raise Invalid("nothing to set: give at least one value")
            old = known.best(language) if known is not None else Words("", "")
            new = _edited(old, subject, text, html)
            unknown = check(Template(name, new.subject, new.text, new.html))
            refuse_unnamed("a template", "name", name.strip())
            refuse_breaks("subject", new.subject)
            if known is not None and transactional is None:
                transactional = known.transactional
            await templates.put(
                connection,
                known.name if known is not None else name.strip(),
                {language: new} if new != old or known is None else {},
                transactional=transactional,
                builtin=known is not None and known.builtin,
            )
            return (await template_catalogue.load(connection))[key], unknown

    async def rename_template(self, old: str, new: str) -> StoredTemplate:
        """Rename a template that is not built in; the workflows that send it follow."""
        async with self.acting(Right.EDIT_TEMPLATES) as act:
            catalogue, wanted = await template_catalogue.load(act.connection), new.strip()
            if (found := catalogue.get(old.strip().casefold())) is None:
                raise NotFound(f"no template {old!r}")
            refuse_unnamed("a template", "name", wanted)
            others = [each.name for each in catalogue.values() if each is not found]
            enforce(
                structure.refuse_template_name(found.name, wanted, others, builtin=found.builtin)
            )
            await templates.rename(act.connection, found, wanted)
            await write_name(
                act,
                lambda use, _: use.names("template", found.name),
                wanted,
                f"template {found.name} is {wanted} now",
            )
            return (await template_catalogue.load(act.connection))[wanted.casefold()]

    async def delete_template(self, name: str) -> None:
        """Delete a template that is not built in and that no workflow sends."""
        async with self.acting(Right.EDIT_TEMPLATES) as act:
            catalogue = await template_catalogue.load(act.unit.connection)
            found = catalogue.get(name.strip().casefold())
            if found is None:
                raise NotFound(f"no template {name!r}")
            sent = await references.using(
                act.connection,
                act.unit.desk.pipelines,
                lambda use, _: use.names("template", found.name),
            )
            enforce(
                structure.refuse_template_deletion(
                    found.name, builtin=found.builtin, senders=sent.actions
                )
            )
            await templates.delete(act.unit.connection, found)


def _edited(old: Words, subject: str | None, text: str | None, html: str | None) -> Words:
    """Return the words of a template after an edit; an argument that is None changes nothing."""
    kept = None if text is not None else old.html
    return Words(
        old.subject if subject is None else subject,
        old.text if text is None else text,
        kept if html is None else html,
    )
