"""
ElevenLabs' voices as a client sees them: the socket of many contexts `multi-stream-input`, and `POST .../stream`.

Invariant: the characters of a context are exactly those received, the space that opens it included. Closing a context
stops no audio: what it holds is still spoken and then it is final; only a socket that closes ends it at once. A close
that no flush of its own precedes is early, as on an interruption, and its operation is left by the client. Reference:
https://elevenlabs.io/docs/api-reference/text-to-speech/v-1-text-to-speech-voice-id-multi-stream-input
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from livekit_costmeter.records import Unit
from livekit_costmeter.testing.audio import Mp3Encoder
from livekit_costmeter.testing.ledger import Ledger, Operation, settling
from livekit_costmeter.testing.script import VoiceScript
from livekit_costmeter.testing.vendors.service import Vendor, client_key, fault_cues, meet, refuse
from livekit_costmeter.testing.vendors.voice import Voice
from livekit_costmeter.testing.vendors.wire import Wire


@dataclass(frozen=True, slots=True)
class _Output:
    """The audio format that a client asked for."""

    container: str
    sample_rate: int

    @property
    def content_type(self) -> str:
        return "audio/mpeg" if self.container == "mp3" else "audio/pcm"

    def encoder(self) -> Callable[[bytes], bytes]:
        """Return what turns the PCM of one stretch of audio into the format, chunk by chunk."""
        return Mp3Encoder(self.sample_rate).encode if self.container == "mp3" else bytes


class ElevenLabs(Vendor):
    """Serves the voice socket and the stream endpoint below a base path."""

    provider = "elevenlabs"

    def __init__(self, ledger: Ledger, script: VoiceScript) -> None:
        super().__init__(ledger)
        self.script = script
        self.faults = fault_cues(script.faults)

    def routes(self, base: str) -> list[web.RouteDef]:
        """Return the routes below a base path."""
        voice = f"{base}/text-to-speech/{{voice_id}}"
        return [web.get(f"{voice}/multi-stream-input", self._socket), web.post(f"{voice}/stream", self._stream)]

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        client_key(request)
        output = _output(request)
        wire = Wire(request)
        await wire.open()
        return await wire.listen(_Contexts(self, request, wire, output).receive)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        output = _output(request)
        body = await request.json()
        fault = self.faults.next()
        operation = self.begin(request, component="tts", model=body["model_id"])
        if fault.status is not None:
            return refuse(operation, fault.status)
        with settling(operation):
            operation.add(Unit.CHARACTERS, len(body["text"]))
            await meet(fault)
            response = web.StreamResponse(headers={"Content-Type": output.content_type, "request-id": operation.id})
            await response.prepare(request)
            encode = output.encoder()
            voice = Voice(self.script, operation, fault, sample_rate=output.sample_rate)
            await voice.speak(body["text"], lambda pcm: response.write(encode(pcm)))
            await response.write_eof()
        return response


class _Contexts:
    """The contexts of one socket: each is an operation that speaks what it receives, in order."""

    def __init__(self, vendor: ElevenLabs, request: web.Request, wire: Wire, output: _Output) -> None:
        self._vendor = vendor
        self._request = request
        self._wire = wire
        self._output = output
        self._open: dict[str, _Context] = {}
        self._refused: set[str] = set()

    async def receive(self, message: Mapping[str, Any]) -> None:
        """Take one message of the client: text for a context, a flush, or its close."""
        context_id = message["context_id"]
        context = self._open.get(context_id)
        if context is None and context_id not in self._refused and not message.get("close_context"):
            context = await self._begin(context_id)
        if context is not None:
            context.receive(message)

    async def _begin(self, context_id: str) -> _Context | None:
        query = self._request.query
        operation = self._vendor.begin(self._request, component="tts", model=query["model_id"], id=context_id)
        fault = self._vendor.faults.next()
        if fault.status is not None:
            operation.close("failed")
            self._refused.add(context_id)
            error = {"error": "refused_by_script", "message": "Refused by the script", "code": fault.status}
            await self._wire.send({**error, "contextId": context_id})
            return None
        voice = Voice(self._vendor.script, operation, fault, sample_rate=self._output.sample_rate)
        aligned = query.get("sync_alignment") == "true"
        context = self._open[context_id] = _Context(self._wire, operation, voice, self._output, aligned=aligned)
        await self._wire.start(self._run(context))
        return context

    async def _run(self, context: _Context) -> None:
        try:
            with settling(context.operation):
                await context.speak()
        finally:
            del self._open[context.operation.id]


class _Context:
    """One context: counts what it receives and says it, until it is closed and all is said."""

    def __init__(self, wire: Wire, operation: Operation, voice: Voice, output: _Output, *, aligned: bool) -> None:
        self.operation = operation
        self._wire = wire
        self._voice = voice
        self._rate = output.sample_rate
        self._encode = output.encoder()
        self._aligned = aligned
        self._alignment: dict[str, Any] = {}
        self._received: asyncio.Queue[str | None] = asyncio.Queue()
        self._complete = self._closed_early = False

    def receive(self, message: Mapping[str, Any]) -> None:
        """Count the characters of a message and queue them to be spoken; a close lets what is queued be spoken."""
        if message.get("close_context"):
            self._closed_early = not self._complete
            self._received.put_nowait(None)
        elif text := message.get("text"):
            self.operation.add(Unit.CHARACTERS, len(text))
            self._received.put_nowait(text)
            self._complete = False
        elif message.get("flush"):
            self._complete = True

    async def speak(self) -> None:
        """Say everything received, until the context is closed."""
        while (text := await self._received.get()) is not None:
            self._alignment = self._align(text) if self._aligned else {}
            await self._voice.speak(text, self._chunk)
        await self._send(isFinal=True)
        if self._closed_early:
            self.operation.close("aborted")

    async def _chunk(self, pcm: bytes) -> None:
        alignment, self._alignment = self._alignment, {}
        await self._send(audio=base64.b64encode(self._encode(pcm)).decode(), **alignment)

    async def _send(self, **fields: Any) -> None:
        await self._wire.send({**fields, "contextId": self.operation.id})

    def _align(self, text: str) -> dict[str, Any]:
        """Spread the characters evenly over the audio that is about to be spoken, in milliseconds of the context."""
        start = self._voice.seconds
        step = self._voice.samples_of(text) / self._rate / len(text)
        times = {
            "chars": list(text),
            "charStartTimesMs": [round(1000 * (start + position * step)) for position in range(len(text))],
            "charDurationsMs": [round(1000 * step)] * len(text),
        }
        return {"alignment": times, "normalizedAlignment": times}


def _output(request: web.Request) -> _Output:
    """Read the audio format of a request.

    Raises:
        web.HTTPBadRequest: It is not one that is made from numbers.
    """
    name = request.query.get("output_format", "")
    container, _, rate = name.partition("_")
    if container == "pcm":
        return _Output("pcm", int(rate))
    if name == "mp3_22050_32":
        return _Output("mp3", 22_050)
    raise web.HTTPBadRequest(text="only output_format=mp3_22050_32 and pcm_* are simulated")
