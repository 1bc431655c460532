"""Which recipients are ours, as the database says now.

The addresses are kept in memory, since every RCPT asks. A channel that was added a moment ago is
found because an address that seems not to be ours is looked up again before it is refused, at most
a few times a second. What can go wrong: the database is away; then a recipient we know is still
accepted (accepting the mail will fail softly) and an unknown one gets "try again later" rather than
a false "no such user".
"""

from __future__ import annotations

import time

from gateway.ingress.smtp.addresses import Addresses, Verdict
from gateway.store.engine import Database
from gateway.store.setup.pipelines import load_channels

FRESH_SECONDS = 0.2


class ChannelDirectory:
    """The channels of a database as a :class:`gateway.ingress.smtp.addresses.Directory`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._addresses = Addresses()
        self._read_at = float("-inf")

    async def refresh(self) -> None:
        """Read the channels again; StoreUnavailable when that is not possible."""
        async with self._database.read() as connection:
            channels = await load_channels(connection)
        self._addresses.replace(channel.address for channel in channels)
        self._read_at = time.monotonic()

    async def lookup(self, address: str) -> Verdict:
        """See :class:`gateway.ingress.smtp.addresses.Directory`."""
        verdict = self._addresses.verdict(address)
        if verdict != "ours" and time.monotonic() - self._read_at > FRESH_SECONDS:
            await self.refresh()
            verdict = self._addresses.verdict(address)
        return verdict
