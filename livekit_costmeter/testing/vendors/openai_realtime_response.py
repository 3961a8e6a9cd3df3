"""
One response of a realtime session: speech and function calls, told as they are generated.

Invariant: what was read counts when the response is asked for, what is spoken before it is sent; a response always
ends with `response.done`, unless its connection is gone, and the usage there is what the ledger will say.
"""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from livekit_costmeter.records import Unit
from livekit_costmeter.testing.audio import tone
from livekit_costmeter.testing.ledger import Operation, settling
from livekit_costmeter.testing.script import Fault, RealtimeScript, Reply, ToolCall
from livekit_costmeter.testing.vendors.openai_realtime_conversation import Conversation, Item
from livekit_costmeter.testing.vendors.service import Pace, meet
from livekit_costmeter.testing.vendors.tokens import count, pieces
from livekit_costmeter.testing.vendors.wire import Wire

SAMPLE_RATE = 24_000


class Response:
    """Speaks one reply. `aloud=False` writes it instead, at the same pace and without audio tokens."""

    def __init__(
        self,
        operation: Operation,
        script: RealtimeScript,
        conversation: Conversation,
        tell: Callable[..., Awaitable[None]],
        *,
        aloud: bool,
        metadata: Mapping[str, Any] | None,
    ) -> None:
        self._operation = operation
        self._script = script
        self._conversation = conversation
        self._send = tell
        self._aloud = aloud
        self._metadata = metadata
        self._created = False
        self._output: list[dict[str, Any]] = []
        self._speaking: Item | None = None
        self._cancelled_by: str | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def id(self) -> str:
        """The response's id, which is its operation's."""
        return self._operation.id

    @property
    def under_way(self) -> bool:
        """Whether it has not ended."""
        return self._task is not None and not self._task.done()

    async def start(self, wire: Wire, reply: Reply, fault: Fault) -> None:
        """Begin to generate, beside the session's listening."""
        self._task = await wire.start(self._run(reply, fault))

    async def cancel(self, reason: str) -> None:
        """Stop generating, and return when the client has been told."""
        if self._task is not None and self.under_way:
            self._cancelled_by = reason
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def fail(self, status: int) -> None:
        """Refuse the response; nothing was done, and nothing is billed."""
        self._operation.close("failed")
        error = {"type": "server_error", "code": str(status), "message": "refused by the script"}
        await self._end("failed", {"type": "failed", "error": error})

    async def _run(self, reply: Reply, fault: Fault) -> None:
        try:
            with settling(self._operation):
                await asyncio.sleep(self._script.created_after)
                await meet(fault)
                await self._open()
                self._operation.add(Unit.OUTPUT_TOKENS, reply.reasoning_tokens)
                if reply.text:
                    await self._speak(reply.text, fault)
                for call in reply.tool_calls:
                    await self._call(call)
                await self._end("completed")
        except asyncio.CancelledError:
            if self._cancelled_by is None:
                raise
            await self._end("cancelled", {"type": "cancelled", "reason": self._cancelled_by})

    async def _open(self) -> None:
        self._created = True
        await self._tell("response.created", response=self._response("in_progress"))

    async def _end(self, status: str, details: Mapping[str, Any] | None = None) -> None:
        if not self._created:
            await self._open()
        if self._speaking is not None:
            await self._finish_speaking("incomplete")
        usage = usage_of(self._operation) if self._script.report_usage else None
        await self._tell("response.done", response=self._response(status, status_details=details, usage=usage))

    async def _speak(self, text: str, fault: Fault) -> None:
        part = {"type": "output_audio", "transcript": ""} if self._aloud else {"type": "output_text", "text": ""}
        item = Item({"type": "message", "role": "assistant", "content": [part]})
        self._speaking = item
        await self._begin(item)
        await self._tell("response.content_part.added", **self._place(item), part=_announced(part))
        tokens, total = pieces(text), max(1, round(len(text) / self._script.characters_per_second * SAMPLE_RATE))
        pace = Pace(first_after=self._script.first_audio_after, per_second=self._script.realtime_factor)
        chunk, told = round(self._script.chunk_seconds * SAMPLE_RATE), 0
        for start in range(0, total, chunk):
            await pace.reach(start / SAMPLE_RATE)
            await meet(fault, start / SAMPLE_RATE)
            end = min(start + chunk, total)
            due = math.ceil(len(tokens) * end / total)
            await self._write(item, tokens[told:due])
            told = due
            if self._aloud:
                await self._sound(item, start, end)
        await self._finish_speaking("completed")

    async def _write(self, item: Item, tokens: Sequence[str]) -> None:
        self._operation.add(Unit.OUTPUT_TOKENS, len(tokens))
        text = "".join(tokens)
        item.wire["content"][0]["transcript" if self._aloud else "text"] += text
        if text:
            await self._tell(f"{self._stream}.delta", **self._place(item), delta=text)

    async def _sound(self, item: Item, start: int, end: int) -> None:
        tokens = self._spoken(end) - self._spoken(start)
        self._operation.add(Unit.OUTPUT_AUDIO_TOKENS, tokens)
        item.audio_tokens += tokens
        audio = base64.b64encode(tone(end - start, SAMPLE_RATE, start=start)).decode()
        await self._tell("response.output_audio.delta", **self._place(item), delta=audio)

    def _spoken(self, samples: int) -> int:
        return math.ceil(Decimal(samples * self._script.spoken_tokens_per_second) / SAMPLE_RATE)

    async def _finish_speaking(self, status: str) -> None:
        assert self._speaking is not None
        item, self._speaking = self._speaking, None
        part = item.wire["content"][0]
        if self._aloud:
            await self._tell("response.output_audio.done", **self._place(item))
        text = "transcript" if self._aloud else "text"
        await self._tell(f"{self._stream}.done", **self._place(item), **{text: part[text]})
        await self._tell("response.content_part.done", **self._place(item), part=_announced(part))
        await self._finish(item, status)

    async def _call(self, call: ToolCall) -> None:
        name = {"call_id": f"call_{len(self._output)}_{self.id}", "name": call.name}
        item = Item({"type": "function_call", **name, "arguments": ""})
        await self._begin(item)
        self._operation.add(Unit.OUTPUT_TOKENS, count(call.name) + count(call.arguments))
        item.wire["arguments"] = call.arguments
        place = {"item_id": item.id, "output_index": len(self._output) - 1}
        await self._tell("response.function_call_arguments.done", **place, **name, arguments=call.arguments)
        await self._finish(item, "completed")

    async def _begin(self, item: Item) -> None:
        item.wire |= {"id": f"item_{len(self._output)}_{self.id}", "status": "in_progress"}
        self._output.append(item.wire)
        previous = self._conversation.add(item)
        await self._tell("response.output_item.added", item=item.wire, output_index=len(self._output) - 1)
        await self._tell("conversation.item.added", item=item.wire, previous_item_id=previous)

    async def _finish(self, item: Item, status: str) -> None:
        item.wire["status"] = status
        await self._tell("response.output_item.done", item=item.wire, output_index=len(self._output) - 1)

    async def _tell(self, type: str, **fields: Any) -> None:
        await self._send(type, response_id=self.id, **fields)

    @property
    def _stream(self) -> str:
        return "response.output_audio_transcript" if self._aloud else "response.output_text"

    def _place(self, item: Item) -> dict[str, Any]:
        return {"item_id": item.id, "output_index": len(self._output) - 1, "content_index": 0}

    def _response(self, status: str, **fields: Any) -> dict[str, Any]:
        head = {"id": self.id, "object": "realtime.response", "status": status, "metadata": self._metadata}
        return {**head, "output": self._output, **fields}


def _announced(part: Mapping[str, Any]) -> dict[str, Any]:
    """Return a content part as its own events name it, which is not how items do."""
    return {**part, "type": part["type"].removeprefix("output_")}


def count_read(operation: Operation, *, text: int, audio: int, cached: int) -> None:
    """Count what a response reads; the text of a conversation is cached before its audio."""
    cached_text = min(cached, text)
    cached_audio = min(cached - cached_text, audio)
    operation.add(Unit.INPUT_TOKENS, text - cached_text)
    operation.add(Unit.CACHED_INPUT_TOKENS, cached_text)
    operation.add(Unit.INPUT_AUDIO_TOKENS, audio - cached_audio)
    operation.add(Unit.CACHED_INPUT_AUDIO_TOKENS, cached_audio)


def usage_of(operation: Operation) -> dict[str, Any]:
    """Return an operation as the wire's usage, whose totals include each other."""
    counted = {unit: int(operation.quantities.get(unit, 0)) for unit in Unit}
    cached = {"text_tokens": counted[Unit.CACHED_INPUT_TOKENS], "audio_tokens": counted[Unit.CACHED_INPUT_AUDIO_TOKENS]}
    text = counted[Unit.INPUT_TOKENS] + cached["text_tokens"]
    audio = counted[Unit.INPUT_AUDIO_TOKENS] + cached["audio_tokens"]
    written = {"text_tokens": counted[Unit.OUTPUT_TOKENS], "audio_tokens": counted[Unit.OUTPUT_AUDIO_TOKENS]}
    details = {"text_tokens": text, "audio_tokens": audio, "image_tokens": 0, "cached_tokens": sum(cached.values())}
    return {
        "total_tokens": text + audio + sum(written.values()),
        "input_tokens": text + audio,
        "output_tokens": sum(written.values()),
        "input_token_details": {**details, "cached_tokens_details": {**cached, "image_tokens": 0}},
        "output_token_details": written,
    }
