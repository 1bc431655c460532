"""Build the parts of the program from its settings, for the daemon and the command line.

Parts and their libraries are loaded when first used, so that simple commands start quickly.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from zoneinfo import ZoneInfo

from gateway.clock import Clock
from gateway.errors import Misconfigured

if TYPE_CHECKING:
    from config.settings import Settings
    from gateway.agenda.worker import Agenda
    from gateway.compose.mime import File
    from gateway.compose.route import MailIdentity
    from gateway.desk.channels import ChannelDesk
    from gateway.desk.correspondence import CorrespondenceDesk
    from gateway.desk.erasure import ErasureDesk
    from gateway.desk.held_mail import HeldMailDesk
    from gateway.desk.outbox import OutboxDesk
    from gateway.desk.people import PeopleDesk
    from gateway.desk.pipelines import PipelineDesk
    from gateway.desk.templates import TemplateDesk
    from gateway.desk.tickets import TicketDesk
    from gateway.desk.transaction import Actor
    from gateway.desk.workflows import WorkflowDesk
    from gateway.ingress.accept import Acceptor
    from gateway.ingress.connection_limits import Limits
    from gateway.intake.batch import Rules
    from gateway.intake.sandbox.pool import Sandbox
    from gateway.intake.worker import Intake
    from gateway.oauth.tokens import Tokens
    from gateway.outbox.submit import Smarthost
    from gateway.outbox.webhook import Webhooks
    from gateway.outbox.worker import Outbox
    from gateway.store.engine import Database
    from gateway.store.queues.mail_register import MailRegister
    from gateway.store.queues.spool import Spool

D = TypeVar("D", bound="Actor")
MAX_PROCESSES: Final = 4  # for reading mail, where [workers] processes is 0 (interfaces.md 6)


def _nothing() -> None:
    """Do nothing; this is the default for callbacks."""


@asynccontextmanager
async def open_installation(
    settings: Settings, environ: Mapping[str, str], start_log: Callable[[], None] = _nothing
) -> AsyncIterator[Installation]:
    """Open the clock and the database; close all parts at the end.

    A missing SQLite database is created.

    Raises the errors of :meth:`gateway.store.engine.Database.open`, and Misconfigured if the
    database is missing although the folder of blobs is not empty.
    """
    refuse_missing_database(settings)
    clock = Clock.from_environ(environ)

    from gateway.store.engine import Database
    from gateway.store.sql import nodes

    async with AsyncExitStack() as stack:
        database = await Database.open(settings.database.url, node=nodes.own())
        stack.push_async_callback(database.close)
        yield Installation(settings, clock, database, stack, start_log)


@dataclass
class Installation:
    """An open installation; ``start_log`` is called before the first part that writes log lines."""

    settings: Settings
    clock: Clock
    database: Database
    _stack: AsyncExitStack
    start_log: Callable[[], None] = _nothing
    _spool: Spool | None = field(default=None, init=False)
    _sandbox: Sandbox | None = field(default=None, init=False)

    # ---- settings

    @cached_property
    def zone(self) -> ZoneInfo:
        """The account's time zone; it decides at which instant a date begins (behaviour.md C19)."""
        return ZoneInfo(self.settings.account.time_zone)

    @cached_property
    def identity(self) -> MailIdentity:
        """Our name, addresses and time zone for the mail that we send."""
        from gateway.compose.route import MailIdentity

        account = self.settings.account
        return MailIdentity(
            zone=self.zone,
            name=account.name,
            public_url=account.public_url,
            acknowledge=account.acknowledge_unverified,
            from_address=self.settings.outbound.from_address,
        )

    @cached_property
    def rules(self) -> Rules:
        """The settings for processing incoming mail."""
        from gateway.intake.batch import Rules

        return Rules(
            self.zone,
            frozenset(self.settings.auth_results.trusted),
            join=self.settings.threads.join,
        )

    @cached_property
    def limits(self) -> Limits:
        """The limits on connections and mail, from ``[limits]``."""
        from gateway.ingress.connection_limits import Limits

        given = self.settings.limits
        return Limits(**{name: getattr(given, name) for name in type(given).model_fields})

    @cached_property
    def incoming(self) -> Path:
        """The folder for large mails while they are received; created if missing."""
        return private_folder(Path(self.settings.data.directory) / "incoming")

    # ---- mail in

    async def spool(self) -> Spool:
        """Return the spool."""
        if self._spool is None:
            self.start_log()
            from gateway.store.queues.blobs import open_blobs
            from gateway.store.queues.spool import Spool

            self._spool = Spool(self.database, open_blobs(self.settings.blobs.url))
        return self._spool

    async def register(self) -> MailRegister:
        """Return the register, which lists all mail ever received."""
        from gateway.store.queues.mail_register import MailRegister

        return MailRegister(self.database, (await self.spool()).blobs)

    async def sandbox(self, processes: int | None = None) -> Sandbox:
        """Return the processes that read mail, started by the first call.

        ``processes`` is the number that the first call starts; None takes it from ``[workers]``.
        """
        if self._sandbox is None:
            from gateway.intake.sandbox.pool import Sandbox

            configured = self.settings.workers.processes
            count = configured or min(MAX_PROCESSES, len(os.sched_getaffinity(0)))
            self._sandbox = Sandbox(processes or count)
            self._stack.push_async_callback(self._sandbox.stop)
            await self._sandbox.start(wait=False)  # nobody waits for what the first mail needs
        return self._sandbox

    async def acceptor(self, wake: Callable[[], None] = _nothing) -> Acceptor:
        """Return the object that stores incoming mail; it calls ``wake`` after each commit."""
        from gateway.ingress.accept import Acceptor

        return Acceptor(await self.spool(), self.limits, self.incoming, wake=wake)

    async def intake(
        self, processes: int | None = None, *, filed: Callable[[], None] = _nothing
    ) -> Intake:
        """Return the worker that turns mails of the spool into tickets.

        ``processes`` is as in :meth:`sandbox`; ``filed`` is called after each batch.
        """
        from gateway.intake.worker import Intake

        return Intake(
            self.database,
            await self.spool(),
            await self.sandbox(processes),
            self.rules,
            self.clock,
            filed=filed,
        )

    # ---- due work and mail out

    def agenda(self, woken: Callable[[], None] = _nothing) -> Agenda:
        """Return the worker for due runs, scheduled mail, failures and notifications.

        The worker calls ``woken`` when it has queued something for the outbox or the webhooks.
        """
        from gateway.agenda.worker import Agenda

        self.start_log()
        return Agenda(
            self.database,
            self.clock,
            self.identity,
            log_days=self.settings.data.action_log_days,
            woken=woken,
            files_of=self._files_of,
        )

    async def _files_of(self, mail_id: int) -> tuple[File, ...]:
        """Return the attachments of a mail; if no reading process runs yet, start one."""
        from gateway.intake.attachments import files_of

        return await files_of(await self.register(), await self.sandbox(1), mail_id)

    @cached_property
    def tokens(self) -> Tokens:
        """The OAuth tokens of this process."""
        from gateway.oauth.tokens import Tokens

        return Tokens(self.database, self.clock)

    def outbox(self) -> Outbox:
        """Return the worker that sends mail; ConfigError where the DKIM key cannot be used."""
        from gateway.outbox.signing import Signer
        from gateway.outbox.worker import Outbox

        if not self.settings.outbound.host:  # mail waits until a smarthost is configured
            return Outbox(self.database, None, None, self.clock)
        signer = Signer.of(self.settings.outbound)
        return Outbox(self.database, self._smarthost(), signer, self.clock)

    def _smarthost(self) -> Smarthost:
        """Return the smarthost that ``[outbound]`` names; it asks for OAuth tokens when needed."""
        from gateway.outbox.submit import Smarthost, SmarthostServer, TokenSource

        outbound = self.settings.outbound
        token: TokenSource | None = None
        client = next((each for each in self.settings.oauth if each.name == outbound.oauth), None)
        if client is not None:
            provider = client

            async def access_token(refused: str | None) -> str:
                return await self.tokens.access_token(provider, outbound.username, refused=refused)

            token = access_token
        server = SmarthostServer(
            host=outbound.host,
            port=outbound.port,
            tls=outbound.tls,
            tls_ca=outbound.tls_ca,
            username=outbound.username,
            password=outbound.password.get_secret_value(),
            token=token,
            hostname=self.settings.smtp.hostname or socket.gethostname() or "localhost",
        )
        return Smarthost(server)

    def webhooks(self) -> Webhooks:
        """Return the worker that calls webhooks."""
        from gateway.outbox.webhook import Webhooks

        return Webhooks(self.database, self.clock, self.settings.webhooks)

    # ---- acts of users: actor None is the built-in administrator (interfaces.md 2.1); callers give
    # a database where a change is only rehearsed

    def desk(self, actor: str | None = None) -> TicketDesk:
        """Return the desk for tickets."""
        from gateway.desk.tickets import TicketDesk

        return self._acting(TicketDesk, actor)

    def correspondent(self, actor: str | None = None) -> CorrespondenceDesk:
        """Return the desk for sending mail."""
        from gateway.desk.correspondence import CorrespondenceDesk
        from gateway.desk.transaction import actor_named

        return CorrespondenceDesk(
            self.database, self.clock, self.identity, actor_named(actor), raw_of=self._raw_of
        )

    async def _raw_of(self, mail_id: int) -> bytes:
        """Return the bytes of a mail in the spool."""
        return await (await self.register()).raw(mail_id)

    def _acting(self, desk: type[D], actor: str | None, database: Database | None = None) -> D:
        """Return a desk for a user, or for the built-in administrator.

        ``database`` is used in place of the installation's own, to try an act out and undo it.
        """
        from gateway.desk.transaction import actor_named

        return desk(database or self.database, self.clock, self.zone, actor_named(actor))

    def automator(
        self, actor: str | None = None, *, database: Database | None = None
    ) -> WorkflowDesk:
        """Return the desk for workflows."""
        from gateway.desk.workflows import WorkflowDesk

        return self._acting(WorkflowDesk, actor, database)

    def pipelines(
        self, actor: str | None = None, *, database: Database | None = None
    ) -> PipelineDesk:
        """Return the desk for pipelines and statuses."""
        from gateway.desk.pipelines import PipelineDesk

        return self._acting(PipelineDesk, actor, database)

    def channels(self, actor: str | None = None) -> ChannelDesk:
        """Return the desk for channels."""
        from gateway.desk.channels import ChannelDesk

        return self._acting(ChannelDesk, actor)

    def people(self, actor: str | None = None) -> PeopleDesk:
        """Return the desk for users and contacts."""
        from gateway.desk.people import PeopleDesk

        return self._acting(PeopleDesk, actor)

    def erasure(self, actor: str | None = None, *, database: Database | None = None) -> ErasureDesk:
        """Return the desk for erasing people."""
        from gateway.desk.erasure import ErasureDesk

        return self._acting(ErasureDesk, actor, database)

    def templates(self, actor: str | None = None) -> TemplateDesk:
        """Return the desk for templates."""
        from gateway.desk.templates import TemplateDesk

        return self._acting(TemplateDesk, actor)

    def deliveries(self, actor: str | None = None) -> OutboxDesk:
        """Return the desk for outgoing mail."""
        from gateway.desk.outbox import OutboxDesk

        return self._acting(OutboxDesk, actor)

    def held_mail(self, actor: str | None = None) -> HeldMailDesk:
        """Return the desk for held mail."""
        from gateway.desk.held_mail import HeldMailDesk

        return self._acting(HeldMailDesk, actor)


def act_as_owner(settings: Settings) -> None:
    """Become the owner of the data if root started us; see :mod:`gateway.store.owner`.

    Call this before any thread or file is made. Raises Misconfigured if the system refuses.
    """
    if os.geteuid() != 0:
        return
    from gateway.store.engine import file_of, parsed
    from gateway.store.owner import become_owner
    from gateway.store.queues.blob_files import FileBlobs
    from gateway.store.queues.blobs import open_blobs

    database, blobs = file_of(parsed(settings.database.url)), open_blobs(settings.blobs.url)
    places = [Path(settings.data.directory)]
    places += [database] if database is not None else []
    places += [blobs.folder] if isinstance(blobs, FileBlobs) else []
    become_owner(places)


def refuse_missing_database(settings: Settings) -> None:
    """Raise Misconfigured if the database is missing, but its folder of blobs is not empty."""
    from gateway.store.engine import file_of, parsed

    path = file_of(parsed(settings.database.url))
    if path is None or (path.exists() and path.stat().st_size):
        return
    from gateway.store.queues.blob_files import FileBlobs
    from gateway.store.queues.blobs import open_blobs

    blobs = open_blobs(settings.blobs.url)
    if isinstance(blobs, FileBlobs) and next(blobs.folder.glob("??/*"), None) is not None:
        raise Misconfigured(
            f"there is no database at {path}, but {blobs.folder} holds large mails of an earlier "
            "database: put that database back, or move the folder away to begin without tickets"
        )


async def refuse_missing_blobs(spool: Spool) -> None:
    """Raise Misconfigured if some mails have blobs, but the folder of blobs is missing."""
    from gateway.store.queues.blob_files import FileBlobs
    from gateway.store.queues.raw_places import lost_blobs

    if await lost_blobs(spool.database, spool.blobs) and isinstance(spool.blobs, FileBlobs):
        raise Misconfigured(
            f"large mails are missing: there is no folder {spool.blobs.folder}; mount it or put it "
            "back, or create it empty to go on without those mails"
        )


def private_folder(path: Path) -> Path:
    """Return a folder, created if missing, that only this user of the system may read.

    Raises UnusablePath where it cannot be created or written to.
    """
    from gateway.store.sql.errors import placed

    with placed(path, "the folder"):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    return path
