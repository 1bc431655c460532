"""Write automatic mail: templates to contacts, and notifications to users and our own addresses.

Its headers ask other machines not to answer. Raises
:class:`gateway.compose.templates.TemplateError` if a template cannot be rendered, and Invalid if an
address cannot be written in a header.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from core.mail import reply_text, reply_tokens
from core.model.message import Address
from core.model.outgoing_mail import Outgoing
from core.model.ticket import Contact, Ticket, User
from gateway.compose.builtin_templates import generic_acknowledgement
from gateway.compose.mime import MimeMail
from gateway.compose.route import MailContent, MailWriter, Route, outgoing_of
from gateway.compose.templates import Rendered, Template, render
from gateway.store.setup.templates import StoredTemplate, Words
from gateway.store.tickets.heard import HeardMail


class AutomaticMail:
    """Writes automatic mails for the tickets of a unit of work."""

    def __init__(self, writer: MailWriter) -> None:
        self.writer = writer
        self.unit = writer.unit
        self.now = writer.now

    def automatic(
        self,
        ticket: Ticket,
        route: Route,
        contact: Contact,
        template: StoredTemplate,
        key: str,
        *,
        only_generic: bool,
    ) -> Outgoing:
        """Return a template's mail to a contact, in their language (behaviour.md 3.3).

        ``key`` identifies the occasion, so that the mail is never sent twice. ``only_generic`` asks
        for the acknowledgement that repeats nothing of the contact's mail.
        """
        rendered = (
            generic_acknowledgement(
                reply_tokens.tag(self.writer.key, self.writer.shown_as(ticket, route.thread).number)
            )
            if only_generic
            else self.rendered(ticket, route, contact, template)
        )
        to = (Address(reply_text.one_line(contact.name), contact.address),)
        content = MailContent(to, (), rendered.subject, rendered.text, rendered.html)
        mail = self.writer.mime_mail(ticket.number, route, content, "auto-replied")
        return replace(
            outgoing_of(mail, "auto_generated", route),
            automatic=True,
            template=template.name,
            key=key,
        )

    def rendered(
        self, ticket: Ticket, route: Route, contact: Contact | None, template: StoredTemplate
    ) -> Rendered:
        """Return a template filled in for a ticket, in the contact's language."""
        words = template.best(contact.language if contact is not None else None)
        source = Template(
            template.name, words.subject, words.text, words.html, template.transactional
        )
        return render(source, self.tokens(ticket, route, contact))

    def notice(
        self,
        number: int,
        to: Address,
        words: Words,
        key: str | None,
        *,
        user: User | None,
        what: str,
        thread: int | None = None,
    ) -> Outgoing:
        """Return a notification about a ticket, to a user or to another address of ours.

        The reply address names the ``thread`` that the notice is about. It also names the user,
        so that an answer counts as the user's (E19). ``key`` identifies the occasion, and
        ``what`` is recorded as the mail's template.
        """
        return replace(
            outgoing_of(self._notice(number, to, words, user, thread), "auto_generated"),
            to=(to,),
            automatic=True,
            template=what,
            key=key,
        )

    def _notice(
        self, number: int, to: Address, words: Words, user: User | None, thread: int | None
    ) -> MimeMail:
        """Return a notification that belongs to no thread, as a mail still to be encoded."""
        writer, channel = self.writer, self.writer.channel_of(None)
        sender = writer.identity.from_address or channel.address
        if user is not None:
            reply_to = reply_tokens.relay_address(
                writer.key, channel.address, number, user.id, thread
            )
        else:
            reply_to = reply_tokens.reply_address(writer.key, channel.address, number, thread)
        return MimeMail(
            sender=Address(reply_text.one_line(writer.identity.name), sender),
            to=(Address(reply_text.one_line(to.name), to.address),),
            cc=(),
            subject=writer.subject(number, words.subject),
            text=words.text,
            html=words.html,
            message_id=writer.message_id(0, sender),
            date=self.now,
            in_reply_to=None,
            references=(),
            reply_to=reply_to,
            automatic="auto-generated",
            loop_mark=channel.address,
        )

    def tokens(
        self, ticket: Ticket, route: Route | None, contact: Contact | None
    ) -> dict[str, dict[str, Any]]:
        """Return all template tokens as {group: {token: value}} (behaviour.md 3.3)."""
        writer, desk = self.writer, self.unit.desk
        if route is not None:
            channel, heard = route.channel, route.heard
        else:
            channel, heard = writer.channel_of(writer.origin(ticket)), None
        shown = writer.shown_as(ticket, route.thread if route is not None else None)
        pipeline = desk.pipelines[ticket.pipeline_id]
        owner = next((user for user in desk.users.values() if user.id == ticket.owner_id), None)
        name = contact.name if contact is not None else ""
        created = ticket.created_at.astimezone(writer.identity.zone)
        return {
            "ticket": {
                "id": shown.number,
                "number": shown.number,
                "tag": reply_tokens.tag(writer.key, shown.number),
                "subject": shown.subject,
                "status": pipeline.status(ticket.status_id).name,
                "url": self.url(ticket.number),
                "created": created.strftime("%Y-%m-%d %H:%M"),
                "priority": ticket.priority,
                "quote": _quoted(heard, contact),
            },
            "contact": {
                "first_name": name.split()[0] if name.split() else None,
                "name": name or None,
                "email": contact.address if contact is not None else None,
            },
            "owner": {
                "name": owner.name if owner is not None else None,
                "email": owner.address if owner is not None else None,
            },
            "pipeline": {"name": pipeline.name},
            "channel": {"name": channel.name or None, "address": channel.address},
            "company": {"name": writer.identity.name},
        }

    def url(self, number: int) -> str:
        """Return the URL of a ticket's page (interfaces.md 2.4)."""
        return f"{self.writer.identity.public_url.rstrip('/')}/t/{number}"


def _quoted(heard: HeardMail | None, contact: Contact | None) -> str | None:
    """Return the first lines of a mail; None if its author never wrote to the contact."""
    if heard is None or (contact is not None and contact.address not in heard.readers):
        return None
    return reply_text.opening_lines(heard.words)
