"""The built-in templates *Ticket received* and *Ticket closed*, and the generic acknowledgement.

To change their wording for all installations, edit this module. Templates that an administrator
edits are stored and replace these, language by language
(:mod:`gateway.compose.template_catalogue`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from string import Template as Frame
from types import MappingProxyType
from typing import Final

from gateway.compose.templates import Rendered, Template
from gateway.store.setup.default_workflows import CLOSED, RECEIVED


def generic_acknowledgement(tag: str) -> Rendered:
    """Return the answer to an unverified sender; it quotes nothing of the mail (behaviour.md 5)."""
    text = f"We received your message and will answer as soon as we can. Reference: {tag}\n"
    return Rendered("We received your message", text, None, ())


_TEXT: Final = Frame("""\
$greeting{% if contact.first_name %} {{ contact.first_name }}{% endif %},

$sentence

$quotation$next_step
{% if company.name %}
{{ company.name }}
{% endif %}""")
_TEXT_QUOTATION: Final = Frame("""\
{% if ticket.quote %}$above_quotation

{{ ticket.quote }}

{% endif %}""")
_HTML: Final = Frame("""\
<p>$greeting{% if contact.first_name %} {{ contact.first_name }}{% endif %},</p>
<p>$sentence</p>
$quotation<p>$next_step</p>
{% if company.name %}<p>{{ company.name }}</p>
{% endif %}""")
_HTML_QUOTATION: Final = Frame("""\
{% if ticket.quote %}<p>$above_quotation</p>
<pre style="white-space: pre-wrap; font-family: inherit">{{ ticket.quote }}</pre>
{% endif %}""")


@dataclass(frozen=True, slots=True, kw_only=True)
class _BuiltInWords:
    """The wording of one mail in one language.

    ``subject`` goes between the tag and the ticket's subject. ``above_quotation`` introduces the
    contact's own words; without it they are not quoted.
    """

    subject: str
    greeting: str
    sentence: str
    above_quotation: str | None = None
    next_step: str

    def template(self, name: str) -> Template:
        """Return these words as a template with text and HTML."""
        subject = f"[{{{{ ticket.tag }}}}] {self.subject} {{{{ ticket.subject }}}}"
        text = self._framed(_TEXT, _TEXT_QUOTATION)
        html = self._framed(_HTML, _HTML_QUOTATION)
        return Template(name, subject, text, html, transactional=True)

    def _framed(self, frame: Frame, quotation: Frame) -> str:
        """Fill the frame with these words; include ``quotation`` if ``above_quotation`` is set."""
        above = self.above_quotation
        quoted = quotation.substitute(above_quotation=above) if above is not None else ""
        return frame.substitute(asdict(self), quotation=quoted)


# By language; "" is English, for contacts whose language is not listed.
_RECEIVED_WORDS: Final = {
    "": _BuiltInWords(
        subject="Received:",
        greeting="Hello",
        sentence="We received your message. Its ticket number is {{ ticket.id }}.",
        above_quotation="You wrote:",
        next_step="Reply to this mail to add information.",
    ),
    "de": _BuiltInWords(
        subject="Eingegangen:",
        greeting="Hallo",
        sentence="wir haben Ihre Nachricht erhalten. Ihre Ticketnummer ist {{ ticket.id }}.",
        above_quotation="Sie schrieben:",
        next_step="Antworten Sie auf diese E-Mail, um etwas zu ergänzen.",
    ),
    "fr": _BuiltInWords(
        subject="Reçu\u00a0:",
        greeting="Bonjour",
        sentence=(
            "Nous avons bien reçu votre message. Il porte le numéro de ticket {{ ticket.id }}."
        ),
        above_quotation="Vous avez écrit\u00a0:",
        next_step="Répondez à cet e-mail pour ajouter des informations.",
    ),
    "es": _BuiltInWords(
        subject="Recibido:",
        greeting="Hola",
        sentence="Hemos recibido su mensaje. Su número de ticket es {{ ticket.id }}.",
        above_quotation="Usted escribió:",
        next_step="Responda a este correo para añadir información.",
    ),
    "nl": _BuiltInWords(
        subject="Ontvangen:",
        greeting="Hallo",
        sentence="We hebben uw bericht ontvangen. Uw ticketnummer is {{ ticket.id }}.",
        above_quotation="U schreef:",
        next_step="Beantwoord deze e-mail om informatie toe te voegen.",
    ),
}
_CLOSED_WORDS: Final = {
    "": _BuiltInWords(
        subject="Closed:",
        greeting="Hello",
        sentence='We closed ticket {{ ticket.id }}, "{{ ticket.subject }}".',
        next_step="Replying to this mail reopens it.",
    ),
    "de": _BuiltInWords(
        subject="Geschlossen:",
        greeting="Hallo",
        sentence="wir haben das Ticket {{ ticket.id }}, „{{ ticket.subject }}“, geschlossen.",
        next_step="Wenn Sie auf diese E-Mail antworten, öffnen Sie es wieder.",
    ),
    "fr": _BuiltInWords(
        subject="Clos\u00a0:",
        greeting="Bonjour",
        sentence=("Nous avons clos le ticket {{ ticket.id }}, «\u00a0{{ ticket.subject }}\u00a0»."),
        next_step="Si vous répondez à cet e-mail, il sera rouvert.",
    ),
    "es": _BuiltInWords(
        subject="Cerrado:",
        greeting="Hola",
        sentence="Hemos cerrado el ticket {{ ticket.id }}, «{{ ticket.subject }}».",
        next_step="Si responde a este correo, se vuelve a abrir.",
    ),
    "nl": _BuiltInWords(
        subject="Gesloten:",
        greeting="Hallo",
        sentence='We hebben ticket {{ ticket.id }}, "{{ ticket.subject }}", gesloten.',
        next_step="Als u deze e-mail beantwoordt, gaat het weer open.",
    ),
}


def _templates(name: str, words: Mapping[str, _BuiltInWords]) -> Mapping[str, Template]:
    return MappingProxyType({language: each.template(name) for language, each in words.items()})


# By name, then by language.
BUILT_IN: Final[Mapping[str, Mapping[str, Template]]] = MappingProxyType(
    {RECEIVED: _templates(RECEIVED, _RECEIVED_WORDS), CLOSED: _templates(CLOSED, _CLOSED_WORDS)}
)
TICKET_RECEIVED: Final = BUILT_IN[RECEIVED][""]
TICKET_CLOSED: Final = BUILT_IN[CLOSED][""]
