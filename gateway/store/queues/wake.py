"""Wake-ups tell workers that there is work, so that they need not poll often.

A wake-up may get lost; the work then waits for the next poll.

Within a process a wake-up is an event; between daemons on one PostgreSQL database it is a NOTIFY.
Daemons on one SQLite file only poll.
"""

from __future__ import annotations

import asyncio

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.store.engine import Database
from gateway.store.sql.errors import translated

CHANNEL = "ticketgate"
PROBE_SECONDS = 60.0


class Wake:
    """The wake-ups of one process, by topic (such as "mail")."""

    __slots__ = ("_topics",)

    def __init__(self) -> None:
        self._topics: dict[str, asyncio.Event] = {}

    def notify(self, topic: str) -> None:
        """Wake the tasks waiting for a topic; if none waits, the next :meth:`wait` ends at once."""
        self._topics.setdefault(topic, asyncio.Event()).set()

    async def wait(self, topic: str, timeout: float) -> bool:  # noqa: ASYNC109
        """Wait up to ``timeout`` seconds for a wake-up and return whether there was one."""
        event = self._topics.setdefault(topic, asyncio.Event())
        try:
            async with asyncio.timeout(timeout):
                await event.wait()
        except TimeoutError:
            return False
        event.clear()
        return True

    async def wait_or_stop(self, stop: asyncio.Event, topic: str, seconds: float) -> None:
        """Wait until ``stop`` is set, the topic gets a wake-up, or ``seconds`` have passed."""
        tasks = [asyncio.ensure_future(each) for each in (stop.wait(), self.wait(topic, seconds))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def listen(self, database: Database) -> None:
        """Pass on wake-ups from other daemons until cancelled; on SQLite, return at once.

        Raises ``StoreUnavailable`` when the connection is lost; the supervisor then calls this
        again.
        """
        if database.dialect == "sqlite":
            return
        with translated():
            url = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
            connection = await asyncpg.connect(
                url,
                timeout=10,
                server_settings={"application_name": f"ticketgate {database.node} listen"[:63]},
            )
            try:
                await connection.add_listener(
                    CHANNEL, lambda _connection, _pid, _channel, topic: self.notify(str(topic))
                )
                for topic in list(self._topics):
                    self.notify(topic)  # may have been missed before
                while True:
                    await asyncio.sleep(PROBE_SECONDS)
                    await connection.execute("SELECT 1")
            finally:
                await connection.close(timeout=2)


async def tell_others(connection: AsyncConnection, topic: str) -> None:
    """Wake the other daemons once this transaction has committed (PostgreSQL only)."""
    if connection.dialect.name == "postgresql":
        await connection.exec_driver_sql("SELECT pg_notify($1, $2)", (CHANNEL, topic))
