"""
One client's websocket as a simulated vendor holds it: JSON both ways, and work that goes on while the client talks.

Invariant: no work outlives its client. When the socket ends, however it ends, everything started on it is cancelled
and awaited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from aiohttp import WSMsgType, web

from livekit_costmeter.testing.ledger import Dropped


class Wire:
    """A socket that listens while it works.

    Example:
        ```python
        wire = Wire(request)
        await wire.open()
        return await wire.listen(on_message)
        ```
    """

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._socket = web.WebSocketResponse()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Answer the upgrade request."""
        await self._socket.prepare(self._request)

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send one message.

        Raises:
            ConnectionError: The client is gone.
        """
        await self._socket.send_json(message)

    async def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run work beside listening; if it is `Dropped`, the connection breaks."""
        task = asyncio.create_task(self._supervise(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A task that is cancelled before its first step never runs, not even what it would do when cancelled.
        await asyncio.sleep(0)
        return task

    async def listen(self, receive: Callable[[Mapping[str, Any]], Awaitable[None]]) -> web.WebSocketResponse:
        """Hand over each message of the client until the socket ends; return what the request is answered with."""
        try:
            async for message in self._socket:
                if message.type is WSMsgType.TEXT:
                    await receive(message.json())
        finally:
            await self._abandon()
        return self._socket

    async def _supervise(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Dropped:
            if self._request.transport is not None:
                self._request.transport.close()
        except ConnectionError:
            return  # the client left in the middle of a message; the work has noted it

    async def _abandon(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
