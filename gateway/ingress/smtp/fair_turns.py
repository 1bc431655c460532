"""Turns for work that costs noticeable time, so that many sessions that all have much to do leave
the event loop free in between.

Reading 256 KiB of a mail takes about half a millisecond; two hundred sessions that got so much at
once would stop everything else for 0.1 s. What can go wrong: nothing waits for ever, since turns
are given in order, again and again, as long as somebody waits.
"""

from __future__ import annotations

import asyncio
from collections import deque

_MOST = 12  # pieces of work in one pass of the event loop


class FairTurns:
    """Lets at most so many callers go on in each pass of the event loop, in the order in which they
    asked.
    """

    def __init__(self) -> None:
        """Everybody may go on at first."""
        self._left = _MOST
        self._counting = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Returns at once as long as few have asked in this pass, otherwise in a later one."""
        loop = asyncio.get_running_loop()
        if not self._counting:
            self._counting = True
            loop.call_soon(self._next_pass)
        if self._left > 0 and not self._waiting:
            self._left -= 1
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _next_pass(self) -> None:
        self._left = _MOST
        while self._waiting and self._left > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._left -= 1
        self._counting = self._left < _MOST
        if self._counting:
            asyncio.get_running_loop().call_soon(self._next_pass)
