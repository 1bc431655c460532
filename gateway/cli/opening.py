"""What every command opens before it acts: configuration, clock, database, and only when asked for
the spool and the reading processes.

Heavy libraries are imported when they are needed, so that a command that only lists starts quickly.
What can go wrong comes out of :func:`run` as one sentence on stderr and the exit code that belongs
to it; nothing was changed then.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from zoneinfo import ZoneInfo

import typer

from config.load import load
from config.problems import ConfigError
from gateway.clock import Clock
from gateway.errors import TicketgateError, exit_code

if TYPE_CHECKING:
    from config.settings import Settings
    from gateway.agenda.worker import Agenda
    from gateway.compose.mime import File
    from gateway.compose.user_mail import MailIdentity
    from gateway.desk.correspondence import CorrespondenceDesk
    from gateway.desk.pipelines import AdminDesk
    from gateway.desk.tickets import TicketDesk
    from gateway.desk.workflows import WorkflowDesk
    from gateway.ingress.limits import Limits
    from gateway.intake.batch import Rules
    from gateway.intake.sandbox.pool import Sandbox
    from gateway.intake.worker import Intake
    from gateway.outbox.webhook import Webhooks
    from gateway.outbox.worker import Outbox
    from gateway.store.engine import Database
    from gateway.store.queues.mail_register import MailRegister
    from gateway.store.queues.spool import Spool

MOST_PROCESSES = 4  # interfaces.md 6, [workers] processes = 0
T = TypeVar("T")


@dataclass
class Installation:
    """An open installation. What is not needed by a command is never opened; everything opened is
    closed at the end.
    """

    settings: Settings
    clock: Clock
    database: Database
    _stack: AsyncExitStack
    _spool: Spool | None = field(default=None, init=False)
    _sandbox: Sandbox | None = field(default=None, init=False)

    @cached_property
    def zone(self) -> ZoneInfo:
        """The account's time zone: where "today" is (behaviour.md C19)."""
        return ZoneInfo(self.settings.account.time_zone)

    @cached_property
    def rules(self) -> Rules:
        """What the configuration says about mail."""
        from gateway.intake.batch import Rules

        return Rules(self.zone, frozenset(self.settings.auth_results.trusted))

    @cached_property
    def limits(self) -> Limits:
        """The figures of ``[limits]``; what is not set there is the ingress's own default."""
        from gateway.ingress.limits import Limits

        given = self.settings.limits
        return Limits(**{name: getattr(given, name) for name in type(given).model_fields})

    @cached_property
    def incoming(self) -> Path:
        """The folder that holds large mail while it is received."""
        folder = Path(self.settings.data.directory) / "incoming"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def desk(self, actor: str | None = None) -> TicketDesk:
        """What a person can do. ``actor`` is who acts, the built-in user where None (interfaces.md
        2.1).
        """
        from gateway.desk.tickets import TicketDesk
        from gateway.desk.transaction import BUILT_IN

        return TicketDesk(self.database, self.clock, self.zone, actor or BUILT_IN)

    @cached_property
    def house(self) -> MailIdentity:
        """What the configuration says about our mail."""
        from gateway.compose.user_mail import MailIdentity

        account, outbound = self.settings.account, self.settings.outbound
        return MailIdentity(
            self.zone,
            account.name,
            account.public_url,
            account.acknowledge_unverified,
            outbound.from_address,
        )

    def agenda(self) -> Agenda:
        """What is due."""
        from gateway.agenda.worker import Agenda

        async def attached(mail_id: int) -> tuple[File, ...]:
            from gateway.intake.attachments import files_of

            return await files_of(await self.register(), await self.sandbox(1), mail_id)

        self.start_log()
        return Agenda(
            self.database,
            self.clock,
            self.house,
            log_days=self.settings.data.action_log_days,
            files_of=attached,
        )

    def outbox(self) -> Outbox:
        """Mail on its way out."""
        from gateway.daemon.sending import open_outbox

        return open_outbox(self.settings, self.database, self.clock)

    def webhooks(self) -> Webhooks:
        """Calls of webhooks."""
        from gateway.outbox.webhook import Webhooks

        return Webhooks(self.database, self.clock, self.settings.webhooks)

    def correspondent(self, actor: str | None = None) -> CorrespondenceDesk:
        """What a person can send."""
        from gateway.desk.correspondence import CorrespondenceDesk
        from gateway.desk.transaction import BUILT_IN

        async def raw_of(mail_id: int) -> bytes:
            return await (await self.register()).raw(mail_id)

        return CorrespondenceDesk(
            self.database, self.clock, self.house, actor or BUILT_IN, raw_of=raw_of
        )

    def automator(
        self, actor: str | None = None, *, database: Database | None = None
    ) -> WorkflowDesk:
        """What an administrator can do with workflows; in ``database`` instead where a change is
        only rehearsed.
        """
        from gateway.desk.transaction import BUILT_IN
        from gateway.desk.workflows import WorkflowDesk

        return WorkflowDesk(database or self.database, self.clock, self.zone, actor or BUILT_IN)

    def admin(self, actor: str | None = None, *, database: Database | None = None) -> AdminDesk:
        """What an administrator can do; in ``database`` instead where a change is only rehearsed."""
        from gateway.desk.pipelines import AdminDesk
        from gateway.desk.transaction import BUILT_IN

        return AdminDesk(database or self.database, self.clock, self.zone, actor or BUILT_IN)

    def start_log(self) -> None:
        """Lines on stderr as ``[log]`` says. What only reads or changes rows logs nothing, and
        starts quicker without.
        """
        from gateway import log

        given = self.settings.log
        # A command prints its result itself; the line a mail that the daemon logs would only stand
        # between.
        level = "warning" if given.level == "info" else given.level
        log.configure(level=level, form=given.format, addresses=given.addresses, stream=sys.stderr)

    async def spool(self) -> Spool:
        """The store of mail on its way in. From here on there is something to be logged."""
        if self._spool is None:
            self.start_log()
            from gateway.store.queues.blobs import open_blobs
            from gateway.store.queues.spool import Spool

            self._spool = Spool(self.database, open_blobs(self.settings.blobs.url))
        return self._spool

    async def register(self) -> MailRegister:
        """The entries of all mail that ever came in, with the blobs of :meth:`spool`."""
        from gateway.store.queues.mail_register import MailRegister

        return MailRegister(self.database, (await self.spool()).blobs)

    async def sandbox(self, processes: int | None = None) -> Sandbox:
        """The processes that read mail, started at the first call; ``processes`` as ``[workers]``
        says where None.
        """
        if self._sandbox is None:
            from gateway.intake.sandbox.pool import Sandbox

            self._sandbox = Sandbox(
                processes
                or self.settings.workers.processes
                or min(MOST_PROCESSES, len(os.sched_getaffinity(0)))
            )
            self._stack.push_async_callback(self._sandbox.stop)
            await self._sandbox.start()
        return self._sandbox

    async def intake(self) -> Intake:
        """The way of a mail, for commands that process at once; one reading process is enough for
        them.
        """
        from gateway.intake.worker import Intake

        return Intake(
            self.database, await self.spool(), await self.sandbox(1), self.rules, self.clock
        )


def named_file(context: typer.Context) -> Path | None:
    """The configuration file that ``--config`` before the sub-command named."""
    named = context.find_root().params.get("config")
    return Path(named) if named is not None else None


@asynccontextmanager
async def opened(config_path: Path | None) -> AsyncIterator[Installation]:
    """Configuration, clock and database, ready; an absent embedded database is made (interfaces.md
    2.1).

    Raises ConfigError, or what :meth:`gateway.store.engine.Database.open` raises.
    """
    settings = load(config_path, os.environ).settings
    clock = Clock.from_environ(os.environ)

    from gateway.store.engine import Database
    from gateway.store.sql import nodes

    async with AsyncExitStack() as stack:
        database = await Database.open(settings.database.url, node=nodes.own())
        stack.push_async_callback(database.close)
        yield Installation(settings, clock, database, stack)


def run(context: typer.Context, act: Callable[[Installation], Awaitable[T]]) -> T:
    """Open, act, close. Errors of ours become their sentence on stderr and ``typer.Exit`` with
    their code.
    """

    async def whole() -> T:
        async with opened(named_file(context)) as installation:
            return await act(installation)

    with explained():
        return asyncio.run(whole())


@contextmanager
def explained() -> Iterator[None]:
    """A block whose errors of ours end the command with one sentence on stderr and the exit code of
    the error; others pass.
    """
    try:
        yield
    except TicketgateError as error:
        print(f"ticketgate: {error.message}", file=sys.stderr)
        raise typer.Exit(exit_code(error)) from None
    except ConfigError as error:
        from gateway.cli.config import problems_text

        print(problems_text(error), file=sys.stderr)
        raise typer.Exit(os.EX_CONFIG) from None
