"""A reader and a watcher of mailboxes on a real store, set up for tests."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

import sqlalchemy as sa

from gateway.clock import Clock
from gateway.ingress.accept import Acceptor
from gateway.ingress.connection_limits import Limits
from gateway.ingress.imap.account import ImapAccount
from gateway.ingress.imap.commands import ImapSession
from gateway.ingress.imap.connection import Timeouts
from gateway.ingress.imap.fetch import FetchFailures
from gateway.ingress.imap.reader import MailboxReader
from gateway.ingress.imap.watcher import Intervals, Watcher
from gateway.oauth.tokens import Tokens
from gateway.store.imap.mailboxes import Mailboxes
from gateway.store.queues.blobs import open_blobs
from gateway.store.queues.mail_register import MailRegister
from gateway.store.queues.spool import Spool
from gateway.store.schema import tables
from tests.conftest import START
from tests.servers.dovecot import PASSWORD

USER = "desk@example.org"
QUICK = Intervals(
    lease=15,
    look=0.05,
    idle=5,
    poll=0.1,
    first_pause=0.01,
    last_pause=0.05,
    refused=60,
    goodbye=0.5,
    timeouts=Timeouts(connect=5, silence=2.0, command=20, goodbye=0.3),
)


def account_of(port, after="keep", move_to="", **more):
    """Return the configuration of the mailbox on a port of this machine."""
    plain = {
        "name": "desk",
        "host": "127.0.0.1",
        "tls": False,
        "tls_ca": "",
        "username": USER,
        "password": PASSWORD,
        "client": None,
    }
    return ImapAccount(
        **(
            plain
            | {
                "port": port,
                "folder": "INBOX",
                "channel": "support@localhost",
                "after": after,
                "move_to": move_to,
            }
            | more
        )
    )


def on(server, **settings):
    """Return the account of the test's user on a server."""
    return account_of(server.port, username=server.user, **settings)


class World:
    """A store, with the reader and watcher of a mailbox."""

    def __init__(self, database, folder):
        self.database = database
        self.clock = Clock(START)
        self.spool = Spool(database, open_blobs(f"file://{folder}/blobs"))
        self.register = MailRegister(database, self.spool.blobs)
        (folder / "incoming").mkdir(exist_ok=True)
        self.room = 1 << 40
        self.accept = Acceptor(
            self.spool,
            Limits(),
            folder / "incoming",
            wake=lambda: None,
            free_space=lambda _: self.room,
        )
        self.boxes = Mailboxes(database)
        self.tokens = Tokens(database, self.clock)
        self.fetch_failures = FetchFailures()

    async def raws(self):
        """Return every stored mail, in order."""
        async with self.database.read() as connection:
            ids = (
                (await connection.execute(sa.select(tables.mail.c.id).order_by(tables.mail.c.id)))
                .scalars()
                .all()
            )
        return [await self.register.raw(mail_id) for mail_id in ids]

    async def stored(self, number):
        """Return whether so many mails are stored at least; faster than reading them all."""
        async with self.database.read() as connection:
            return (
                await connection.execute(sa.select(sa.func.count()).select_from(tables.mail))
            ).scalar_one() >= number

    async def box(self):
        return await self.boxes.get("desk")

    @asynccontextmanager
    async def reader(self, account):
        """Return a reader that has opened the folder."""
        await self.boxes.register([(account.name, account.place)])
        held = await self.boxes.claim([account.name], 15, self.clock.now())
        session = await ImapSession.open(account.server(), QUICK.timeouts)
        try:
            await account.sign_in(session, self.tokens)
            reader = MailboxReader(
                account,
                session,
                held[account.name],
                self.accept,
                self.boxes,
                self.clock,
                self.fetch_failures,
            )
            await reader.open()
            yield reader
        finally:
            await session.close()

    async def read(self, account):
        """Read the mailbox once, completely."""
        async with self.reader(account) as reader:
            assert await reader.catch_up(asyncio.Event())

    @asynccontextmanager
    async def watched(self, account, rhythm=QUICK):
        """Run the watcher during the block."""
        stop = asyncio.Event()
        watcher = Watcher([account], self.accept, self.boxes, self.tokens, self.clock, rhythm)
        running = asyncio.create_task(watcher.run(stop))
        try:
            yield watcher
        finally:
            stop.set()
            async with asyncio.timeout(30):
                await running

    async def until(self, condition, seconds=20):
        """Wait until an awaited condition holds; it is polled whenever the loop is free."""
        async with asyncio.timeout(seconds):
            while not await condition():
                await asyncio.to_thread(lambda: None)

    async def holds(self, raws):
        """Wait until exactly these mails are stored."""
        wanted = Counter(raws)

        async def there():
            return len(await self.raws()) >= len(raws)

        await self.until(there)
        assert Counter(await self.raws()) == wanted
