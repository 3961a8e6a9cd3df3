"""
Anthropic messages as a client sees them: server-sent events, content blocks, and counts at both ends of the stream.

Invariant: prompt tokens count when a request is accepted, completion tokens as they are generated, until the client's
leaving is noticed. `message_start` tells the prompt and the first token, `message_delta` the total so far: adding the
two counts the first token twice. Reference: https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from livekit_costmeter.records import Unit
from livekit_costmeter.testing.ledger import Ledger, Operation, settling
from livekit_costmeter.testing.script import ChatRequest, ChatScript, Fault, Reply
from livekit_costmeter.testing.vendors.service import Cues, Pace, Vendor, fault_cues, meet, refuse
from livekit_costmeter.testing.vendors.tokens import count_prompt, pieces


@dataclass(frozen=True, slots=True)
class _Block:
    """A content block: tokens generated before it opens, then deltas, each with the tokens that it took."""

    content: Mapping[str, Any]
    unit: Unit
    deltas: Sequence[tuple[int, Mapping[str, Any]]]
    tokens_before: int = 0

    @property
    def tokens(self) -> int:
        return self.tokens_before + sum(tokens for tokens, _ in self.deltas)


class Anthropic(Vendor):
    """Serves `POST /v1/messages` (streamed) and `GET /v1/models`, below the base URL."""

    provider = "anthropic"

    def __init__(self, ledger: Ledger, script: ChatScript) -> None:
        super().__init__(ledger)
        self._script = script
        self._faults = fault_cues(script.faults)
        self._replies: Cues[Reply | str] | None = None if callable(script.replies) else Cues(script.replies)

    def routes(self, base: str) -> list[web.RouteDef]:
        """Return the routes below a base path."""
        return [web.post(f"{base}/v1/messages", self._answer), web.get(f"{base}/v1/models", self._models)]

    async def _models(self, _request: web.Request) -> web.Response:
        return web.json_response({"data": [], "has_more": False, "first_id": None, "last_id": None})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if not body.get("stream"):
            return web.json_response({"error": {"message": "only stream=true is simulated"}}, status=400)
        fault = self._faults.next()
        operation = self.begin(request, component="llm", model=body["model"])
        if fault.status is not None:
            return refuse(operation, fault.status)
        with settling(operation):
            reply = self._reply(body)
            _accept(operation, body, reply)
            await meet(fault)
            return await self._stream(request, operation, reply, fault)

    def _reply(self, body: Mapping[str, Any]) -> Reply:
        if self._replies is not None:
            reply = self._replies.next()
        else:
            assert callable(self._script.replies)
            reply = self._script.replies(ChatRequest(body["model"], body["messages"], body))
        return Reply(reply) if isinstance(reply, str) else reply

    async def _stream(
        self, request: web.Request, operation: Operation, reply: Reply, fault: Fault
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "request-id": operation.id})
        await response.prepare(request)
        pace = Pace(first_after=self._script.first_token_after, per_second=self._script.tokens_per_second)
        blocks = list(_blocks(reply, per_delta=self._script.tokens_per_chunk))
        units = [block.unit for block in blocks for _ in range(block.tokens)]
        generated = 0
        for due, event in _events(operation, blocks):
            while generated < due:
                await pace.reach(generated)
                await meet(fault, generated)
                operation.add(units[generated], 1)
                generated += 1
            await response.write(_sse(event))
        if self._script.report_usage:
            await response.write(_sse(_ending(operation, reply)))
        await response.write(_sse({"type": "message_stop"}))
        await response.write_eof()
        return response


def _accept(operation: Operation, body: Mapping[str, Any], reply: Reply) -> None:
    """Count the prompt; what is read from the cache and what is written to it are disjoint parts of it."""
    system = [{"role": "system", "content": body["system"]}] if body.get("system") else []  # text, or blocks of it
    prompt = count_prompt(_unmarked([*system, *body["messages"]]), _unmarked(body.get("tools") or []))
    cached = min(reply.cached_tokens, prompt)
    written = min(reply.cache_write_tokens, prompt - cached)
    operation.add(Unit.INPUT_TOKENS, prompt - cached - written)
    operation.add(Unit.CACHED_INPUT_TOKENS, cached)
    operation.add(Unit.CACHE_WRITE_TOKENS, written)


def _unmarked(parts: list[Any]) -> Any:
    """Leave out where the cache may cut, and what frames a block of text: both cost nothing."""
    return json.loads(json.dumps(parts), object_hook=_text_alone)


def _text_alone(part: dict[str, Any]) -> Any:
    if part.get("type") == "text":
        return part["text"]
    kept = {name: value for name, value in part.items() if name != "cache_control"}
    content = kept.get("content")
    if isinstance(content, list) and all(isinstance(block, str) for block in content):
        kept["content"] = "".join(content)
    return kept


def _blocks(reply: Reply, *, per_delta: int) -> Iterator[_Block]:
    if reply.reasoning_tokens:
        signature = {"type": "signature_delta", "signature": "hidden"}
        content = {"type": "thinking", "thinking": "", "signature": ""}
        yield _Block(content, Unit.REASONING_TOKENS, [(reply.reasoning_tokens, signature)])
    if text := pieces(reply.text):
        groups = [text[start : start + per_delta] for start in range(0, len(text), per_delta)]
        deltas = [(len(group), {"type": "text_delta", "text": "".join(group)}) for group in groups]
        yield _Block({"type": "text", "text": ""}, Unit.OUTPUT_TOKENS, deltas)
    for index, call in enumerate(reply.tool_calls):
        opening = {"type": "tool_use", "id": f"toolu_{index}_{call.name}", "name": call.name, "input": {}}
        arguments = [(1, {"type": "input_json_delta", "partial_json": piece}) for piece in pieces(call.arguments)]
        yield _Block(opening, Unit.OUTPUT_TOKENS, arguments, tokens_before=len(pieces(call.name)))


def _events(operation: Operation, blocks: Sequence[_Block]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield what is sent up to the end of the last block, each with the tokens generated by then."""
    first = min(1, sum(block.tokens for block in blocks))
    yield first, {"type": "message_start", "message": _opening(operation, first)}
    due = 0
    for index, block in enumerate(blocks):
        due += block.tokens_before
        yield due, {"type": "content_block_start", "index": index, "content_block": block.content}
        for tokens, delta in block.deltas:
            due += tokens
            yield due, {"type": "content_block_delta", "index": index, "delta": delta}
        yield due, {"type": "content_block_stop", "index": index}


def _opening(operation: Operation, first: int) -> dict[str, Any]:
    usage = {
        "input_tokens": _counted(operation, Unit.INPUT_TOKENS),
        "cache_read_input_tokens": _counted(operation, Unit.CACHED_INPUT_TOKENS),
        "cache_creation_input_tokens": _counted(operation, Unit.CACHE_WRITE_TOKENS),
        "output_tokens": first,
        "service_tier": "standard",
    }
    head = {"id": operation.id, "type": "message", "role": "assistant", "model": operation.model}
    return {**head, "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}


def _ending(operation: Operation, reply: Reply) -> dict[str, Any]:
    reasoned = _counted(operation, Unit.REASONING_TOKENS)
    usage: dict[str, Any] = {"output_tokens": _counted(operation, Unit.OUTPUT_TOKENS) + reasoned}
    if reasoned:
        usage["output_tokens_details"] = {"thinking_tokens": reasoned}
    reason = "tool_use" if reply.tool_calls else "end_turn"
    return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}


def _counted(operation: Operation, unit: Unit) -> int:
    return int(operation.quantities.get(unit, 0))


def _sse(event: Mapping[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
