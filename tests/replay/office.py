"""A test desk that also sends: a world with agenda, outbox and a real SMTP server.

People act through :class:`CorrespondenceDesk` and :class:`WorkflowDesk`. :meth:`Office.run` does
everything that is due. Mail that arrived at the server is read as customers get it
(:class:`Received`) and answered with :func:`answer`.
"""

from __future__ import annotations

import email.parser
import email.policy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from functools import partial
from typing import Any

from aiosmtpd.controller import Controller

from core.model.workflow import Enrolment
from gateway.agenda.worker import Agenda, Ran
from gateway.compose.route import MailIdentity
from gateway.desk.correspondence import CorrespondenceDesk, MailDraft
from gateway.desk.outbox import OutboxDesk
from gateway.desk.templates import TemplateDesk
from gateway.desk.transaction import BUILT_IN
from gateway.desk.workflows import WorkflowDesk, WorkflowPlan
from gateway.intake.attachments import files_of
from gateway.outbox.submit import Smarthost, SmarthostServer
from gateway.outbox.worker import AttemptResult, Outbox
from gateway.store.queues.outbox import Deliveries
from gateway.store.setup import desk_config, workflow_history
from tests.conftest import open_port
from tests.replay.world import ZONE, World


@dataclass(frozen=True)
class Received:
    """A mail as its recipient got it."""

    sender: str
    to: tuple[str, ...]
    raw: bytes

    @property
    def mail(self) -> EmailMessage:
        """Return the parsed mail."""
        parser = email.parser.BytesParser(EmailMessage, policy=email.policy.default)
        return parser.parsebytes(self.raw)

    @property
    def text(self) -> str:
        """Return the text that a person reads."""
        return self.mail.get_body(("plain",)).get_content().replace("\r\n", "\n")


@dataclass
class Sink:
    """An SMTP server with the mail it took and its answers to RCPT and to the end of DATA."""

    taken: list[Received] = field(default_factory=list)
    refuse: dict[str, str] = field(default_factory=dict)
    port: int = 0

    async def handle_RCPT(  # noqa: N802
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:  # the library's name
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        sender = "" if envelope.mail_from == "<>" else envelope.mail_from
        self.taken.append(Received(sender, tuple(envelope.rcpt_tos), envelope.content))
        return "250 2.0.0 Taken"


@contextmanager
def sinking() -> Iterator[Sink]:
    """Run a server on a free port."""
    sink = Sink()
    controller = Controller(sink, hostname="127.0.0.1", port=open_port())
    controller.start()
    try:
        sink.port = controller.server.sockets[0].getsockname()[1]
        yield sink
    finally:
        controller.stop()


class Office:
    """A desk that also sends: a world with agenda, outbox and an SMTP server for its mail."""

    def __init__(self, world: World, sink: Sink) -> None:
        self.world, self.sink, self.clock, self.database = world, sink, world.clock, world.database
        self.house = MailIdentity(ZONE, "Example Desk", "https://desk.example.net")
        self.agenda = Agenda(
            self.database,
            self.clock,
            self.house,
            files_of=partial(files_of, world.register, world.intake.sandbox),
        )
        self.outbox = Outbox(
            self.database,
            Smarthost(SmarthostServer("127.0.0.1", sink.port, "none")),
            None,
            self.clock,
        )

    def person(self, actor: str = BUILT_IN) -> CorrespondenceDesk:
        """Return the desk of a person who sends mail."""
        return CorrespondenceDesk(
            self.database, self.clock, self.house, actor, raw_of=self.world.register.raw
        )

    def editor(self, actor: str = BUILT_IN) -> WorkflowDesk:
        """Return the desk of a person who edits workflows."""
        return WorkflowDesk(self.database, self.clock, ZONE, actor)

    def templates(self, actor: str = BUILT_IN) -> TemplateDesk:
        """Return the desk of a person who edits templates."""
        return TemplateDesk(self.database, self.clock, ZONE, actor)

    def deliveries_desk(self, actor: str = BUILT_IN) -> OutboxDesk:
        """Return the desk of a person who manages outgoing deliveries."""
        return OutboxDesk(self.database, self.clock, ZONE, actor)

    async def reply(
        self, number: int, text: str = "We look into it.", actor: str = BUILT_IN, **given: Any
    ) -> Any:
        """Reply from the ticket as an agent."""
        return await self.person(actor).reply(number, MailDraft(text, **given))

    async def user(
        self,
        address: str = "agent@desk.example",
        name: str = "Bob Agent",
        role: Any = "agent",
        **settings: Any,
    ) -> Any:
        """Create an agent who gets no notifications unless ``settings`` say so."""
        from gateway.desk.people import PeopleDesk

        people = PeopleDesk(self.database, self.clock, ZONE, BUILT_IN)
        await people.add_user(name, [address], role)
        quiet = {"notify": {"new": False, "reply": False, "failure": False}}
        return await people.set_user(address, **{**quiet, **settings})

    async def workflow(
        self,
        status: str,
        actions: list[dict[str, Any]],
        *,
        pipeline: str = "Support",
        **settings: Any,
    ) -> None:
        """Store an enabled workflow of a status."""
        await self.editor().put(
            [WorkflowPlan(pipeline, status, actions, {"enabled": True, **settings})]
        )

    async def switch_on(self, status: str, pipeline: str = "Support") -> None:
        """Switch on the default workflow of a status."""
        await self.editor().set(pipeline, status, {"enabled": True})

    async def run(self) -> list[Ran | AttemptResult]:
        """Do what a daemon would do until nothing is due."""
        done: list[Ran | AttemptResult] = []
        while True:
            found = [*await self.agenda.run_due()], [*await self.outbox.run_due()]
            if not any(found):
                return done
            done += [*found[0], *found[1]]

    async def later(self, **time: float) -> list[Ran | AttemptResult]:
        """Let time pass, then run."""
        self.clock.set(self.clock.now() + timedelta(**time))
        return await self.run()

    async def mail(
        self, sender: str, subject: str = "Printer on fire", text: str = "It burns.", **headers: str
    ) -> dict[str, Any]:
        """Receive a mail from outside; headers are named with ``_`` for ``-``."""
        return await self.world.mail(letter(sender, self.clock.now(), subject, text, **headers))

    def received(self, address: str) -> list[Received]:
        """Return what arrived at an address, in order."""
        return [each for each in self.sink.taken if address in each.to]

    async def deliveries(self) -> list[dict[str, Any]]:
        """Return the deliveries as in ``outbox list --json``, oldest first."""
        return [asdict(each) for each in await Deliveries(self.database).listing()][::-1]

    async def status(self, number: int) -> str:
        """Return the status of a ticket."""
        return str((await self.world.ticket(number))["status"])

    async def runs(
        self, status: str, ticket: int | None = None, pipeline: str = "Support"
    ) -> list[tuple[str | None, str]]:
        """Return (action, outcome) of a workflow, oldest first."""
        async with self.database.read() as connection:
            found = await workflow_history.runs(
                connection,
                [await self._id(connection, pipeline, status)],
                workflow_history.Wanted(ticket),
            )
            return [(run.action, run.outcome) for run in found]

    async def enrolments(
        self, status: str, ticket: int | None = None, pipeline: str = "Support"
    ) -> list[Enrolment]:
        """Return every enrolment in a workflow, oldest first."""
        async with self.database.read() as connection:
            return await workflow_history.enrolments(
                connection, [await self._id(connection, pipeline, status)], ticket
            )

    async def _id(self, connection: Any, pipeline: str, status: str) -> int:
        desk = await desk_config.load_desk(connection)
        own = next(each for each in desk.pipelines.values() if each.name == pipeline)
        found = own.named(status)
        assert found is not None
        return desk.workflows[found.id].id


_numbers = iter(range(1, 1_000_000))


def letter(sender: str, date: datetime, subject: str, text: str, **headers: str) -> bytes:
    """Return a mail of a person, unless its headers say otherwise."""
    made = EmailMessage(policy=email.policy.SMTP)
    given = {
        "From": sender,
        "To": "support@localhost",
        "Subject": subject,
        "Date": email.utils.format_datetime(date.astimezone(UTC)),
    }
    given |= {
        "Message-ID": f"<out{next(_numbers)}@example.org>",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    for name, value in given.items():
        made[name] = value
    made.set_content(text)
    return made.as_bytes()


def answer(
    to: Received, text: str, date: datetime, sender: str | None = None, **headers: str
) -> bytes:
    """Return a reply to a received mail, as a usual mail program writes it."""
    mail = to.mail
    quoted = "\n".join(f"> {line}" for line in to.text.splitlines())
    references = f"{mail['References'] or ''} {mail['Message-ID']}".strip()
    return letter(
        sender or str(mail["To"]),
        date,
        f"Re: {str(mail['Subject']).removeprefix('Re: ')}",
        f"{text}\n\nOn some day somebody wrote:\n{quoted}\n",
        **{
            "To": str(mail["Reply-To"] or mail["From"]),
            "In-Reply-To": str(mail["Message-ID"]),
            "References": references,
            **headers,
        },
    )
