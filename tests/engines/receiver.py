"""
A web server of its own on loopback, in a thread: what it answers is told by each test, what it got is kept.

Invariant: it is a real aiohttp server on a real socket; `stop` closes its port and its connections, `start` opens the
same port again.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web


@dataclass(frozen=True)
class Request:
    """What arrived: the path, the headers, and the body after undoing gzip."""

    path: str
    headers: dict[str, str]
    body: bytes
    incoming: web.Request


Script = Callable[[Request], Awaitable[web.StreamResponse] | web.StreamResponse]


class Receiver:
    """`script` makes the answer to each request; without it, all is well."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.requests: list[Request] = []
        self.script: Script = lambda _request: web.Response(status=204)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None
        self._transports: set[asyncio.WriteTransport] = set()
        self._released = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen, where it does not."""
        self._wait(self._start())

    def stop(self) -> None:
        """Close the port and every connection."""
        self._wait(self._stop())

    def end(self) -> None:
        """Stop for good."""
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def hang(self, _request: Request) -> web.StreamResponse:
        """Say nothing until the server stops."""
        await self._released.wait()
        return web.Response(status=500)

    async def drip(self, request: Request) -> web.StreamResponse:
        """Begin to answer and send a byte now and then, until the server stops."""
        answer = web.StreamResponse(status=500)
        await answer.prepare(request.incoming)
        while not self._released.is_set():
            await answer.write(b".")
            await asyncio.sleep(0.05)
        return answer

    async def hang_up(self, _request: Request) -> web.StreamResponse:
        """Close the connection instead of answering, as a process that dies."""
        raise ConnectionResetError

    def _wait(self, work: Awaitable[None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _start(self) -> None:
        if self._runner is None:
            self._released = asyncio.Event()
            application = web.Application(client_max_size=1 << 30)
            application.router.add_route("*", "/{path:.*}", self._take)
            self._runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)
            await self._runner.setup()
            await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls).start()

    async def _stop(self) -> None:
        runner, self._runner = self._runner, None
        self._released.set()
        if runner is not None:
            await runner.cleanup()
        for transport in self._transports:
            transport.abort()
        self._transports.clear()
        await asyncio.sleep(0.01)  # for the loop to close their sockets

    async def _take(self, incoming: web.Request) -> web.StreamResponse:
        request = Request(incoming.path, dict(incoming.headers), await incoming.read(), incoming)
        self.requests.append(request)
        if incoming.transport is not None:
            self._transports.add(incoming.transport)
        try:
            answer = self.script(request)
            return answer if isinstance(answer, web.StreamResponse) else await answer
        except ConnectionResetError:
            if incoming.transport is not None:
                incoming.transport.abort()
            return web.Response()
