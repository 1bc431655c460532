"""Mails that nobody typed: what a template says to a contact, and what users are told. All carry
the marks by which machines do not answer them.

What can go wrong: a template that cannot be rendered
(:class:`gateway.compose.templates.TemplateError`), an address that cannot stand in a header
(Refused).
"""

from __future__ import annotations

import secrets
from typing import Any

from core.mail import reply_text, reply_tokens
from core.model.message import Address
from core.model.outgoing_mail import Outgoing
from core.model.ticket import Contact, Ticket, User
from gateway.compose.mime import MimeMail, compose
from gateway.compose.templates import Rendered, Template, generic, render
from gateway.compose.user_mail import NONCE_BYTES, MailContent, Route, UserMail, keys_of, parents_of
from gateway.store.setup.templates import StoredTemplate, Words


class AutomaticMail(UserMail):
    """See the module."""

    def automatic(
        self,
        ticket: Ticket,
        way: Route,
        contact: Contact,
        template: StoredTemplate,
        key: str,
        *,
        only_generic: bool,
    ) -> Outgoing:
        """A template's mail to a contact, in his language, with every mark of an automatic mail
        (behaviour.md 3.3).
        """
        rendered = (
            generic(reply_tokens.tag(self.key, ticket.number))
            if only_generic
            else self.rendered(ticket, way, contact, template)
        )
        to = (Address(reply_text.one_line(contact.name), contact.address),)
        letter = self.letter(
            ticket.number,
            way,
            MailContent(to, (), rendered.subject, rendered.text, rendered.html),
            "auto-replied",
        )
        return Outgoing(
            message_id=letter.message_id,
            sender=letter.sender,
            to=to,
            cc=(),
            subject=rendered.subject,
            text=rendered.text,
            date=self.now,
            raw=compose(letter),
            recipients=keys_of(to),
            kind="auto_generated",
            thread=way.thread,
            fresh=way.fresh,
            parents=parents_of(letter),
            automatic=True,
            template=template.name,
            key=key,
        )

    def rendered(
        self, ticket: Ticket, way: Route, contact: Contact | None, template: StoredTemplate
    ) -> Rendered:
        """The words of a template for a ticket."""
        words = template.best(contact.language if contact is not None else None)
        made = Template(
            template.name, words.subject, words.text, words.html, template.transactional
        )
        return render(made, self.tokens(ticket, way, contact))

    def notice(
        self,
        number: int,
        to: Address,
        words: Words,
        key: str | None,
        *,
        user: User | None,
        what: str,
    ) -> Outgoing:
        """Something users or others inside are told; a user's answer to it is known as his (E19)."""
        channel = self.channel_of(None)
        sender = self.house.from_address or channel.address
        subject = reply_text.subject_of(words.subject, reply_tokens.tag(self.key, number), "")
        back = (
            reply_tokens.relay_address(self.key, channel.address, number, user.id)
            if user is not None
            else reply_tokens.reply_address(self.key, channel.address, number)
        )
        letter = MimeMail(
            sender=Address(reply_text.one_line(self.house.name), sender),
            to=(Address(reply_text.one_line(to.name), to.address),),
            cc=(),
            subject=subject,
            text=words.text,
            html=words.html,
            message_id=reply_tokens.message_id(
                self.key, secrets.token_hex(NONCE_BYTES), 0, sender.rpartition("@")[2]
            ),
            date=self.now,
            in_reply_to=None,
            references=(),
            reply_to=back,
            automatic="auto-generated",
            loop_mark=channel.address,
        )
        return Outgoing(
            message_id=letter.message_id,
            sender=letter.sender,
            to=(to,),
            cc=(),
            subject=subject,
            text=words.text,
            date=self.now,
            raw=compose(letter),
            recipients=keys_of((to,)),
            kind="auto_generated",
            automatic=True,
            template=what,
            key=key,
        )

    def tokens(
        self, ticket: Ticket, way: Route | None, contact: Contact | None
    ) -> dict[str, dict[str, Any]]:
        """What templates may name (behaviour.md 3.3)."""
        unit = self.unit
        pipeline = unit.desk.pipelines[ticket.pipeline_id]
        owner = next(
            (user for user in unit.desk.users.values() if user.id == ticket.owner_id), None
        )
        channel = way.channel if way is not None else self.channel_of(self.origin(ticket))
        heard = self.last_heard(way) if way is not None else None
        name = contact.name if contact is not None else ""
        return {
            "ticket": {
                "id": ticket.number,
                "number": ticket.number,
                "tag": reply_tokens.tag(self.key, ticket.number),
                "subject": ticket.subject,
                "status": pipeline.status(ticket.status_id).name,
                "url": self.url(ticket.number),
                "created": ticket.created_at.astimezone(self.house.zone).strftime("%Y-%m-%d %H:%M"),
                "priority": ticket.priority,
                "quote": reply_text.opening_lines(heard.reply_text or heard.text)
                if heard is not None
                else None,
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
            "company": {"name": self.house.name},
        }

    def url(self, number: int) -> str:
        """Where the ticket is seen (interfaces.md 2.4)."""
        return f"{self.house.public_url.rstrip('/')}/t/{number}"
