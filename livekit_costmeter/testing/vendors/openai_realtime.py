"""
OpenAI realtime as a client sees it: a socket of events, a conversation, and a server that hears when the caller speaks.

Invariant: each response is an operation of its own, as is each transcription of an utterance; only audio that became
part of the conversation is billed, and silence between utterances is not. Reference:
https://platform.openai.com/docs/api-reference/realtime-server-events
"""

from __future__ import annotations

import base64
import itertools
import math
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from aiohttp import web

from livekit_costmeter.records import Unit, round_quantity
from livekit_costmeter.testing.ledger import Ledger, Operation, settling
from livekit_costmeter.testing.script import ListenScript, RealtimeScript, Reply
from livekit_costmeter.testing.vendors.hearing import Ear, Heard
from livekit_costmeter.testing.vendors.openai_audio import count_heard
from livekit_costmeter.testing.vendors.openai_realtime_conversation import Conversation, Item, UnknownItem
from livekit_costmeter.testing.vendors.openai_realtime_response import SAMPLE_RATE, Response, count_read
from livekit_costmeter.testing.vendors.service import Cues, Vendor, fault_cues, pcm_seconds
from livekit_costmeter.testing.vendors.wire import Wire


class OpenAIRealtime(Vendor):
    """Serves the `/realtime` socket below the base URL; all sessions share one script."""

    provider = "openai"

    def __init__(
        self, ledger: Ledger, script: RealtimeScript, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(ledger)
        self.script = script
        self.replies = Cues(script.replies)
        self.faults = fault_cues(script.faults)
        self.transcripts = Cues(script.transcripts)
        self.item_ids = (f"item_{number}" for number in itertools.count(1))
        self.event_ids = (f"event_{number}" for number in itertools.count(1))
        self._monotonic = monotonic

    def routes(self, base: str) -> list[web.RouteDef]:
        """Return the routes below a base path."""
        return [web.get(f"{base}/realtime", self._connect)]

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        model = request.query["model"]
        if self.script.bill == "tokens":
            self.payer(request)
            return await self._serve(request, model)
        with settling(self.begin(request, component="realtime", model=model)) as operation:
            opened_at = self._monotonic()
            try:
                return await self._serve(request, model)
            finally:
                operation.add(Unit.SESSION_SECONDS, round_quantity(Decimal(self._monotonic() - opened_at)))

    async def _serve(self, request: web.Request, model: str) -> web.StreamResponse:
        wire = Wire(request)
        await wire.open()
        session = _Session(self, request, wire, model)
        await session.greet()
        return await wire.listen(session.receive)


class _Session:
    """One socket: its settings, its conversation, what it hears, and the response under way."""

    def __init__(self, vendor: OpenAIRealtime, request: web.Request, wire: Wire, model: str) -> None:
        self._vendor, self._request, self._wire, self._model = vendor, request, wire, model
        listening = ListenScript(silence_after=vendor.script.silence_after)
        self._ear = Ear(listening, vendor.transcripts, sample_rate=SAMPLE_RATE)
        self._conversation = Conversation()
        self._buffered = Decimal(0)
        self._utterance = ""
        self._response: Response | None = None
        self._settings: dict[str, Any] = {
            "type": "realtime",
            "model": model,
            "output_modalities": ["audio"],
            "audio": {"input": {"turn_detection": {"type": "server_vad"}}},
        }

    async def greet(self) -> None:
        await self._tell("session.created", session=self._settings)

    async def receive(self, event: Mapping[str, Any]) -> None:
        match event["type"]:
            case "session.update":
                self._settings = _merged(self._settings, event["session"])
                await self._tell("session.updated", session=self._settings)
            case "input_audio_buffer.append":
                await self._hear(base64.b64decode(event["audio"]))
            case "input_audio_buffer.commit":
                await self._commit(event)
            case "input_audio_buffer.clear":
                self._buffered = Decimal(0)
                await self._tell("input_audio_buffer.cleared")
            case "response.create":
                await self._respond(event)
            case "response.cancel":
                await self._cancel(event)
            case kind if kind.startswith("conversation.item."):
                await self._edit(kind.rpartition(".")[2], event)
            case other:
                await self._refuse(event, "invalid_value", f"'{other}' is not simulated.")

    @property
    def _hearing(self) -> Mapping[str, Any] | None:
        """How turns are detected; `None` leaves them to the client."""
        detection: Mapping[str, Any] | None = self._settings["audio"]["input"].get("turn_detection")
        return detection

    async def _hear(self, pcm: bytes) -> None:
        self._buffered += pcm_seconds(len(pcm), SAMPLE_RATE)
        for heard in self._ear.hear(pcm) if self._hearing is not None else ():
            if heard.event == "started":
                await self._speech_started(heard)
            elif heard.event == "final":
                await self._speech_stopped(heard)

    async def _speech_started(self, heard: Heard) -> None:
        self._utterance = next(self._vendor.item_ids)
        place = {"audio_start_ms": round(heard.start * 1000), "item_id": self._utterance}
        await self._tell("input_audio_buffer.speech_started", **place)
        if self._response is not None and self._wants("interrupt_response"):
            await self._response.cancel("turn_detected")

    async def _speech_stopped(self, heard: Heard) -> None:
        place = {"audio_end_ms": round(heard.end * 1000), "item_id": self._utterance}
        await self._tell("input_audio_buffer.speech_stopped", **place)
        await self._keep(self._utterance, _seconds(heard), heard.text)
        if self._wants("create_response"):
            await self._respond({})

    def _wants(self, option: str) -> bool:
        return self._hearing is not None and self._hearing.get(option) is not False

    async def _commit(self, event: Mapping[str, Any]) -> None:
        """Take what was heard so far as an utterance, because the client says that it is one."""
        if self._hearing is not None:
            finished = self._ear.finish()
            for heard in finished:
                await self._keep(self._utterance, _seconds(heard), heard.text)
            if finished:
                return
        elif self._buffered:
            await self._keep(next(self._vendor.item_ids), self._buffered, self._vendor.transcripts.next())
            return
        await self._refuse(event, "input_audio_buffer_commit_empty", "The buffer has no audio.")

    async def _keep(self, id: str, seconds: Decimal, transcript: str) -> None:
        """Put an utterance into the conversation, and transcribe it if the client wants that."""
        self._buffered = Decimal(0)
        said = {"type": "input_audio", "transcript": None}
        wire = {"id": id, "type": "message", "role": "user", "status": "completed", "content": [said]}
        item = Item(wire, math.ceil(seconds * self._vendor.script.heard_tokens_per_second))
        previous = self._conversation.add(item)
        await self._tell("input_audio_buffer.committed", item_id=id, previous_item_id=previous)
        await self._tell("conversation.item.added", item=wire, previous_item_id=previous)
        transcription = self._settings["audio"]["input"].get("transcription")
        if transcription is not None and self._vendor.script.transcribe:
            usage = self._transcribe(transcription, seconds, transcript)
            done = "conversation.item.input_audio_transcription.completed"
            await self._tell(done, item_id=id, content_index=0, transcript=transcript, **usage)

    def _transcribe(self, settings: Mapping[str, Any], seconds: Decimal, transcript: str) -> dict[str, Any]:
        model = settings["model"]
        with settling(self._vendor.begin(self._request, component="stt", model=model)) as operation:
            operation.add(Unit.AUDIO_SECONDS, seconds)
            if model == "whisper-1":
                usage = {"type": "duration", "seconds": float(seconds)}
            else:
                usage = count_heard(operation, settings.get("prompt") or "", transcript)
        return {"usage": usage} if self._vendor.script.report_usage else {}

    async def _respond(self, event: Mapping[str, Any]) -> None:
        if self._response is not None and self._response.under_way:
            code = "conversation_already_has_active_response"
            await self._refuse(event, code, "The conversation has an active response.")
            return
        asked = event.get("response") or {}
        operation = self._vendor.begin(self._request, component="realtime", model=self._model)
        aloud = "audio" in (asked.get("output_modalities") or self._settings["output_modalities"])
        self._response = Response(
            operation,
            self._vendor.script,
            self._conversation,
            self._tell,
            aloud=aloud,
            metadata=asked.get("metadata"),
        )
        fault = self._vendor.faults.next()
        if fault.status is not None:
            await self._response.fail(fault.status)
            return
        reply = self._vendor.replies.next()
        reply = Reply(reply) if isinstance(reply, str) else reply
        self._read(operation, asked, reply)
        await self._response.start(self._wire, reply, fault)

    def _read(self, operation: Operation, asked: Mapping[str, Any], reply: Reply) -> None:
        instructions = asked.get("instructions") or self._settings.get("instructions") or ""
        tools = asked.get("tools") or self._settings.get("tools") or ()
        text, audio = self._conversation.read(instructions, tools)
        count_read(operation, text=text, audio=audio, cached=reply.cached_tokens)

    async def _cancel(self, event: Mapping[str, Any]) -> None:
        asked = event.get("response_id")
        response = self._response
        if response is None or not response.under_way or asked not in (None, response.id):
            await self._refuse(event, "response_cancel_not_active", "Cancellation failed: no active response found")
            return
        await response.cancel("client_cancelled")

    async def _edit(self, action: str, event: Mapping[str, Any]) -> None:
        try:
            match action:
                case "create":
                    await self._create(event)
                case "delete":
                    self._conversation.delete(event["item_id"])
                    await self._tell("conversation.item.deleted", item_id=event["item_id"])
                case "truncate":
                    heard = Decimal(event["audio_end_ms"]) / 1000
                    tokens = math.ceil(heard * self._vendor.script.spoken_tokens_per_second)
                    self._conversation.truncate(event["item_id"], tokens)
                    told = {name: event[name] for name in ("item_id", "content_index", "audio_end_ms")}
                    await self._tell("conversation.item.truncated", **told)
                case other:
                    await self._refuse(event, "invalid_value", f"'conversation.item.{other}' is not simulated.")
        except UnknownItem as unknown:
            await self._refuse(event, f"item_{action}_invalid_item_id", f"The item '{unknown}' does not exist.")

    async def _create(self, event: Mapping[str, Any]) -> None:
        wire = {"id": next(self._vendor.item_ids), **event["item"], "status": "completed"}
        if {part["type"] for part in wire.get("content", ())} - {"input_text", "output_text"}:
            await self._refuse(event, "invalid_value", "Only items of text can be created in the simulation.")
        elif self._conversation.has(wire["id"]):
            await self._refuse(event, "item_create_duplicate_item_id", f"The item '{wire['id']}' exists already.")
        else:
            previous = self._conversation.add(Item(wire), after=event.get("previous_item_id"))
            await self._tell("conversation.item.added", item=wire, previous_item_id=previous)

    async def _refuse(self, event: Mapping[str, Any], code: str, message: str) -> None:
        error = {"type": "invalid_request_error", "code": code, "message": message, "param": None}
        await self._tell("error", error={**error, "event_id": event.get("event_id")})

    async def _tell(self, type: str, **fields: Any) -> None:
        await self._wire.send({"type": type, "event_id": next(self._vendor.event_ids), **fields})


def _seconds(heard: Heard) -> Decimal:
    return round_quantity(Decimal(heard.end) - Decimal(heard.start))


def _merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with changes applied, group by group; `None` is a value."""
    return {
        **settings,
        **{
            name: _merged(settings[name], value)
            if isinstance(value, Mapping) and isinstance(settings.get(name), Mapping)
            else value
            for name, value in changes.items()
        },
    }
