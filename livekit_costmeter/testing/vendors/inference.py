"""
LiveKit Inference as a client sees it: chat completions, and sockets for recognition and voices, at one gateway.

Invariant: what was used is filed under the API key that issued the token of a request; the token changes with every
request, and neither it nor the secret that signs it is kept. Models are named as the gateway names them, with their
maker in front. Reference: https://docs.livekit.io/agents/models/inference/
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from livekit_costmeter.records import Unit, round_quantity
from livekit_costmeter.testing.ledger import Dropped, Ledger, Operation, settling
from livekit_costmeter.testing.script import Fault, VoiceScript
from livekit_costmeter.testing.vendors.hearing import Ear, Heard
from livekit_costmeter.testing.vendors.listening import Recogniser
from livekit_costmeter.testing.vendors.openai import OpenAIChat
from livekit_costmeter.testing.vendors.service import Vendor, client_key, fault_cues, meet, refuse
from livekit_costmeter.testing.vendors.voice import Voice
from livekit_costmeter.testing.vendors.wire import Wire


class _Gateway(Vendor):
    provider = "livekit"

    def payer(self, request: web.Request) -> str:
        """Return the API key that issued the request's token; the signature is not checked.

        Raises:
            web.HTTPUnauthorized: The token is none of LiveKit's.
        """
        _, _, claims = client_key(request).partition(".")
        claims, _, _ = claims.partition(".")
        try:
            return str(json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["iss"])
        except (binascii.Error, UnicodeDecodeError, ValueError, KeyError, TypeError):
            raise web.HTTPUnauthorized(text="not an access token") from None


class GatewayChat(_Gateway, OpenAIChat):
    """Serves the chat completions of OpenAI's protocol for models of any maker."""


class GatewayRecognition(_Gateway, Recogniser):
    """Serves the recognition socket `/stt`."""

    def routes(self, base: str) -> list[web.RouteDef]:
        """Return the routes below a base path."""
        return [web.get(f"{base}/stt", self._connect)]

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        fault = self._faults.next()
        operation = self.begin(request, component="stt", model=request.query["model"])
        if fault.status is not None:
            return refuse(operation, fault.status)
        socket = web.WebSocketResponse()
        with settling(operation):
            await socket.prepare(request)
            opened_at = self._monotonic()
            hearing = _Hearing(self, operation.id, fault)
            try:
                await hearing.serve(socket)
            finally:
                operation.add(Unit.AUDIO_SECONDS, hearing.seconds)
                operation.add(Unit.CONNECTION_SECONDS, round_quantity(Decimal(self._monotonic() - opened_at)))
                # Older clients hang up without closing the session first.
                if hearing.closed or socket.close_code == WSCloseCode.OK:
                    operation.close()
            operation.close("aborted")
        return socket


class _Hearing:
    """One recognition session: audio comes as text, after a message that says at which rate."""

    def __init__(self, vendor: GatewayRecognition, id: str, fault: Fault) -> None:
        self._vendor, self._id, self._fault = vendor, id, fault
        self._ear: Ear | None = None
        # A client may hang up in the same breath in which it closes the session; that is no leaving.
        self.closed = False

    @property
    def seconds(self) -> Decimal:
        """How much audio was received."""
        return self._ear.seconds if self._ear else Decimal(0)

    async def serve(self, socket: web.WebSocketResponse) -> None:
        """Listen until the client closes the session or leaves."""
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                continue
            command = message.json()
            self.closed = command["type"] == "session.close"
            said = list(self._take(command))
            if self._fault.drop_after is not None and self.seconds >= self._fault.drop_after:
                raise Dropped
            for answer in () if self._fault.stall else said:
                await socket.send_json(answer)
            if self.closed:
                await socket.close()
                return

    def _take(self, command: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
        match command["type"]:
            case "session.create":
                self._ear = self._vendor.ear(sample_rate=int(command["settings"]["sample_rate"]))
                yield {"type": "session.created", "session_id": self._id}
            case "input_audio" if self._ear is not None:
                yield from map(self._tell, self._ear.hear(base64.b64decode(command["audio"])))
            case "session.finalize" | "session.close" as asked:
                yield from map(self._tell, self._ear.finish() if self._ear else ())
                yield {"type": "session.finalized" if asked == "session.finalize" else "session.closed"}

    def _tell(self, heard: Heard) -> Mapping[str, Any]:
        kind = {"started": "start_of_speech", "interim": "interim_transcript", "final": "final_transcript"}
        return {
            "type": kind[heard.event],
            "request_id": self._id,
            "session_id": self._id,
            "transcript": heard.text,
            "start": heard.start,
            "duration": heard.end - heard.start,
            "confidence": 0.99,
            "language": "en",
            "words": heard.words(),
        }


class GatewayVoices(_Gateway):
    """Serves the voice socket `/tts`, which says one text after the other."""

    def __init__(self, ledger: Ledger, script: VoiceScript) -> None:
        super().__init__(ledger)
        self.script = script
        self.faults = fault_cues(script.faults)

    def routes(self, base: str) -> list[web.RouteDef]:
        """Return the routes below a base path."""
        return [web.get(f"{base}/tts", self._connect)]

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        self.payer(request)
        wire = Wire(request)
        await wire.open()
        return await wire.listen(_Speaking(self, request, wire).receive)


class _Speaking:
    """One voice session: pieces of a text until it is flushed; each text is an operation."""

    def __init__(self, vendor: GatewayVoices, request: web.Request, wire: Wire) -> None:
        self._vendor, self._request, self._wire = vendor, request, wire
        self._sample_rate = 0
        self._operation: Operation | None = None
        self._texts: asyncio.Queue[str | None] = asyncio.Queue()
        self._refused = False

    async def receive(self, message: Mapping[str, Any]) -> None:
        """Take one message of the client."""
        match message["type"]:
            case "session.create":
                self._sample_rate = int(message["sample_rate"])
                await self._wire.send({"type": "session.created"})
            case "input_transcript" if not self._refused:
                await self._take(message["transcript"])
            case "session.flush":
                await self._flush()

    async def _take(self, text: str) -> None:
        if self._operation is not None:
            self._add(self._operation, text)
            return
        operation = self._vendor.begin(self._request, component="tts", model=self._request.query["model"])
        fault = self._vendor.faults.next()
        if fault.status is not None:
            operation.close("failed")
            self._refused = True
            await self._wire.send({"type": "error", "code": fault.status, "message": "refused by the script"})
            return
        self._operation, self._texts = operation, asyncio.Queue()
        self._add(operation, text)
        await self._wire.start(self._speak(operation, self._texts, fault))

    def _add(self, operation: Operation, text: str) -> None:
        operation.add(Unit.CHARACTERS, len(text))
        self._texts.put_nowait(text)

    async def _flush(self) -> None:
        if self._operation is not None:
            self._texts.put_nowait(None)
        elif not self._refused:
            await self._wire.send({"type": "done"})
        self._operation, self._refused = None, False

    async def _speak(self, operation: Operation, texts: asyncio.Queue[str | None], fault: Fault) -> None:
        voice = Voice(self._vendor.script, operation, fault, sample_rate=self._sample_rate)

        async def send(pcm: bytes) -> None:
            audio = base64.b64encode(pcm).decode()
            await self._wire.send({"type": "output_audio", "session_id": operation.id, "audio": audio})

        with settling(operation):
            await meet(fault)
            while (text := await texts.get()) is not None:
                await voice.speak(text, send)
            await self._wire.send({"type": "done", "session_id": operation.id})
