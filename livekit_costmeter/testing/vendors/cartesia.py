"""
Cartesia's voices as a client sees them: the multiplexed socket `/tts/websocket` and `POST /tts/bytes`.

Invariant: the characters of a context are exactly those received, trailing spaces included; audio counts as it is
generated, until the context ends, is cancelled, or its client is gone. Reference:
https://docs.cartesia.ai/api-reference/tts/websocket
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from typing import Any

from aiohttp import WSMsgType, web

from livekit_costmeter.records import Unit
from livekit_costmeter.testing.ledger import Dropped, Ledger, Operation, settling
from livekit_costmeter.testing.script import VoiceScript
from livekit_costmeter.testing.vendors.service import Vendor, client_key, fault_cues, meet, refuse
from livekit_costmeter.testing.vendors.voice import Voice


class Cartesia(Vendor):
    """Serves the voice socket and the bytes endpoint below a base path."""

    provider = "cartesia"

    def __init__(self, ledger: Ledger, script: VoiceScript) -> None:
        super().__init__(ledger)
        self.script = script
        self.faults = fault_cues(script.faults)

    def routes(self, base: str) -> list[web.RouteDef]:
        """Return the routes below a base path."""
        return [web.get(f"{base}/tts/websocket", self._socket), web.post(f"{base}/tts/bytes", self._bytes)]

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        client_key(request)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        contexts = _Contexts(self, request, socket)
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await contexts.receive(message.json())
        finally:
            await contexts.abandon()
        return socket

    async def _bytes(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        fault = self.faults.next()
        operation = self.begin(request, component="tts", model=body["model_id"])
        if fault.status is not None:
            return refuse(operation, fault.status)
        with settling(operation):
            operation.add(Unit.CHARACTERS, len(body["transcript"]))
            await meet(fault)
            response = web.StreamResponse(headers={"Content-Type": "audio/pcm"})
            await response.prepare(request)
            voice = Voice(self.script, operation, fault, sample_rate=body["output_format"]["sample_rate"])
            await voice.speak(body["transcript"], response.write)
            await response.write_eof()
        return response


class _Contexts:
    """The contexts of one socket: each is an operation with a task that speaks what it receives, in order."""

    def __init__(self, vendor: Cartesia, request: web.Request, socket: web.WebSocketResponse) -> None:
        self._vendor = vendor
        self._request = request
        self._socket = socket
        self._open: dict[str, _Context] = {}
        self._refused: set[str] = set()

    async def receive(self, message: Mapping[str, Any]) -> None:
        """Take one message of the client: text for a context, its end, a flush or a cancellation."""
        context_id = message["context_id"]
        context = self._open.get(context_id)
        if message.get("cancel"):
            if context is not None:
                context.task.cancel()
            return
        if context is None and context_id not in self._refused:
            context = await self._begin(context_id, message)
        if context is not None:
            context.receive(message)

    async def _begin(self, context_id: str, message: Mapping[str, Any]) -> _Context | None:
        operation = self._vendor.begin(self._request, component="tts", model=message["model_id"], id=context_id)
        fault = self._vendor.faults.next()
        if fault.status is not None:
            operation.close("failed")
            self._refused.add(context_id)
            # An error event is always marked done: https://docs.cartesia.ai/use-the-api/api-errors
            error = {"type": "error", "done": True, "status_code": fault.status, "title": "Refused by the script"}
            await self._socket.send_json({**error, "context_id": context_id})
            return None
        voice = Voice(self._vendor.script, operation, fault, sample_rate=message["output_format"]["sample_rate"])
        context = _Context(self._socket, operation, voice, timestamps=bool(message.get("add_timestamps")))
        context.task = asyncio.create_task(self._run(context), name=f"cartesia-{context_id}")
        self._open[context_id] = context
        return context

    async def _run(self, context: _Context) -> None:
        try:
            with settling(context.operation):
                await context.speak()
        except Dropped:
            if self._request.transport is not None:
                self._request.transport.close()
        except ConnectionError:
            return  # the client left in the middle of a chunk; the entry says aborted
        finally:
            self._open.pop(context.operation.id, None)

    async def abandon(self) -> None:
        """End what the client left behind."""
        tasks = [context.task for context in self._open.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Context:
    """One context: counts what it receives, says it, and reports done after the last text."""

    task: asyncio.Task[None]

    def __init__(self, socket: web.WebSocketResponse, operation: Operation, voice: Voice, *, timestamps: bool) -> None:
        self.operation = operation
        self._socket = socket
        self._voice = voice
        self._timestamps = timestamps
        self._received: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()

    def receive(self, message: Mapping[str, Any]) -> None:
        """Count the characters of a message and queue it to be spoken."""
        self.operation.add(Unit.CHARACTERS, len(message.get("transcript", "")))
        self._received.put_nowait(message)

    async def speak(self) -> None:
        """Say everything received, until a message does not announce more."""
        while True:
            message = await self._received.get()
            text = message.get("transcript", "")
            began = self._voice.seconds
            await self._voice.speak(text, self._chunk)
            if self._timestamps and text.strip():
                await self._send("timestamps", word_timestamps=_word_times(text, began, self._voice.seconds))
            if message.get("flush"):
                await self._send("flush_done", flush_done=True)
            if not message.get("continue", False):
                await self._send("done", done=True, status_code=200)
                return

    async def _chunk(self, pcm: bytes) -> None:
        await self._send("chunk", data=base64.b64encode(pcm).decode())

    async def _send(self, type: str, **fields: Any) -> None:
        head = {"type": type, "context_id": self.operation.id, "done": False, "status_code": 206}
        await self._socket.send_json({**head, **fields})


def _word_times(text: str, start: float, end: float) -> dict[str, list[Any]]:
    words = text.split()
    step = (end - start) / len(words)
    starts = [start + position * step for position in range(len(words))]
    return {"words": words, "start": starts, "end": [moment + step for moment in starts]}
