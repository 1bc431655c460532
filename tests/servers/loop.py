"""An event loop in a thread, for servers used by tests without a loop and other processes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any


class Loop:
    """Runs coroutines for callers in other threads until :meth:`close`."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Return the result of ``work``."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def call(self, function: Any, *arguments: Any) -> None:
        """Schedule a function in the loop."""
        self.loop.call_soon_threadsafe(function, *arguments)

    def close(self) -> None:
        """Cancel all tasks and end the thread."""
        self.run(self._cancel())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()

    async def _cancel(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(3):  # transports close asynchronously
            await asyncio.sleep(0)


class Gate:
    """A point where a server waits until the test opens it; ``reached`` is set on arrival."""

    def __init__(self, loop: Loop) -> None:
        self.reached = threading.Event()
        self._loop = loop
        self._opened = asyncio.Event()

    def open(self) -> None:
        """Let the dialog go on, now and at every later visit."""
        self._loop.call(self._opened.set)

    async def passed(self) -> None:
        """Wait in the loop of the server."""
        self.reached.set()
        await self._opened.wait()
