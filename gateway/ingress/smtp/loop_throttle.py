"""Limit expensive work per pass of the event loop, so that many busy sessions do not block it.

Reading 256 KiB of a mail takes about 0.5 ms; if 200 sessions do so in one pass, everything else
waits for 0.1 s. Callers go on in the order in which they asked, so none waits forever.
"""

from __future__ import annotations

import asyncio
from collections import deque

_CALLERS_PER_PASS = 12


class LoopThrottle:
    """Lets only some callers go on in each pass of the event loop, in the order of their calls."""

    def __init__(self) -> None:
        """Start with nobody waiting, and with no caller counted in the current pass."""
        self._left = _CALLERS_PER_PASS
        self._counting = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Return at once, or in a later pass if too many callers went on in this one."""
        loop = asyncio.get_running_loop()
        if not self._counting:
            self._counting = True
            loop.call_soon(self._next_pass)
        if self._left > 0 and not self._waiting:
            self._left -= 1
            return
        future = loop.create_future()
        self._waiting.append(future)
        await future

    def _next_pass(self) -> None:
        self._left = _CALLERS_PER_PASS
        while self._waiting and self._left > 0:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                self._left -= 1
        self._counting = self._left < _CALLERS_PER_PASS
        if self._counting:
            asyncio.get_running_loop().call_soon(self._next_pass)
