"""Tell from the database which recipients are ours.

Addresses are cached, since every RCPT asks. Before an address is refused, the database is asked
again, at most a few times a second, so new channels are found at once. While the database is away,
mail is refused at MAIL, so that no client sends a whole mail in vain. Unknown recipients then get
"try again later" instead of a false "no such user".
"""

from __future__ import annotations

import asyncio
import time

from gateway.errors import StoreUnavailable
from gateway.ingress.smtp.addresses import Addresses, Verdict
from gateway.store.engine import Database
from gateway.store.setup.pipelines import load_channels

FRESH_SECONDS = 0.2  # before an unknown address is looked up again
CHECK_SECONDS = 1.0  # for which an answer of the database, or its absence, is believed


class ChannelDirectory:
    """The channels of a database as a Directory."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._addresses = Addresses()
        self._read_at = float("-inf")
        self._away_at = float("-inf")
        self._checking = asyncio.Lock()

    async def refresh(self) -> None:
        """Read the channels again; StoreUnavailable if that is not possible."""
        async with self._database.read() as connection:
            channels = await load_channels(connection)
        self._addresses.replace(channel.address for channel in channels)
        self._read_at = time.monotonic()

    async def check(self) -> None:
        """Raise StoreUnavailable while the database does not answer.

        Sessions that call this at the same time share one query and its result, so none waits
        twice.
        """
        async with self._checking:
            if time.monotonic() - self._away_at < CHECK_SECONDS:
                raise StoreUnavailable("the database does not answer")
            if time.monotonic() - self._read_at < CHECK_SECONDS:
                return
            try:
                await self.refresh()
            except StoreUnavailable:
                self._away_at = time.monotonic()
                raise

    async def lookup(self, address: str) -> Verdict:
        """Return whether an address is ours, unknown in our domain, or foreign."""
        verdict = self._addresses.verdict(address)
        if verdict != "ours" and time.monotonic() - self._read_at > FRESH_SECONDS:
            await self.refresh()
            verdict = self._addresses.verdict(address)
        return verdict
