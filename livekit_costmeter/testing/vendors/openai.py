"""
OpenAI chat completions as a client sees them: server-sent events, tool calls, the usage chunk at the end.

Invariant: prompt tokens count when a request is accepted, completion tokens as they are generated, until the client's
leaving is noticed; the usage chunk says exactly what the ledger will. Reference:
https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from livekit_costmeter.records import Unit
from livekit_costmeter.testing.ledger import Ledger, Operation, settling
from livekit_costmeter.testing.script import ChatRequest, ChatScript, Fault, Reply
from livekit_costmeter.testing.vendors.service import Cues, Pace, Vendor, fault_cues, meet, refuse
from livekit_costmeter.testing.vendors.tokens import count_prompt, pieces


@dataclass(frozen=True, slots=True)
class _Step:
    """One generated token: a piece of text, a delta of a tool call, or hidden."""

    unit: Unit
    text: str = ""
    delta: Mapping[str, Any] | None = None


class OpenAIChat(Vendor):
    """Serves `POST /chat/completions` (streamed) and `GET /models`, below the base URL."""

    provider = "openai"

    def __init__(self, ledger: Ledger, script: ChatScript) -> None:
        super().__init__(ledger)
        self._script = script
        self._faults = fault_cues(script.faults)
        self._replies: Cues[Reply | str] | None = None if callable(script.replies) else Cues(script.replies)

    def routes(self, base: str) -> list[web.RouteDef]:
        """Return the routes below a base path."""
        return [
            web.post(f"{base}/chat/completions", self._complete),
            web.get(f"{base}/models", self._models),
            # The speech plugin warms its connection up with a request for the base URL itself.
            web.get(f"{base}/", self._models),
        ]

    async def _models(self, _request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": []})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if not body.get("stream"):
            return web.json_response({"error": {"message": "only stream=true is simulated"}}, status=400)
        fault = self._faults.next()
        operation = self.begin(request, component="llm", model=body["model"])
        if fault.status is not None:
            return refuse(operation, fault.status)
        with settling(operation):
            reply = self._reply(body)
            self._accept(operation, body, reply)
            await meet(fault)
            return await self._stream(request, operation, body, reply, fault)

    def _reply(self, body: Mapping[str, Any]) -> Reply:
        if self._replies is not None:
            reply = self._replies.next()
        else:
            assert callable(self._script.replies)
            reply = self._script.replies(ChatRequest(body["model"], body["messages"], body))
        return Reply(reply) if isinstance(reply, str) else reply

    def _accept(self, operation: Operation, body: Mapping[str, Any], reply: Reply) -> None:
        prompt = count_prompt(body["messages"], body.get("tools") or ())
        cached = min(reply.cached_tokens, prompt)
        operation.add(Unit.INPUT_TOKENS, prompt - cached)
        operation.add(Unit.CACHED_INPUT_TOKENS, cached)

    async def _stream(
        self, request: web.Request, operation: Operation, body: Mapping[str, Any], reply: Reply, fault: Fault
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "x-request-id": operation.id})
        await response.prepare(request)
        chunk = _chunk_of(operation, body)

        async def send(delta: Mapping[str, Any]) -> None:
            await response.write(_event(chunk, choices=[_choice(delta)]))

        await self._generate(operation, reply, fault, send)
        reason = "tool_calls" if reply.tool_calls else "stop"
        await response.write(_event(chunk, choices=[_choice({}, reason)]))
        wants_usage = (body.get("stream_options") or {}).get("include_usage")
        if wants_usage and self._script.report_usage:
            await response.write(_event(chunk, choices=[], usage=_usage(operation)))
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    async def _generate(
        self, operation: Operation, reply: Reply, fault: Fault, send: Callable[[Mapping[str, Any]], Awaitable[None]]
    ) -> None:
        """Count each token as it is generated, and send deltas of `tokens_per_chunk` text tokens."""
        pace = Pace(first_after=self._script.first_token_after, per_second=self._script.tokens_per_second)
        await send({"role": "assistant", "content": ""})
        waiting = ""
        for number, step in enumerate(_steps(reply)):
            await pace.reach(number)
            await meet(fault, number)
            operation.add(step.unit, 1)
            waiting += step.text
            if step.delta:
                await send(step.delta)
            if waiting and (number + 1) % self._script.tokens_per_chunk == 0:
                await send({"content": waiting})
                waiting = ""
        if waiting:
            await send({"content": waiting})


def _steps(reply: Reply) -> list[_Step]:
    steps = [_Step(Unit.REASONING_TOKENS)] * reply.reasoning_tokens
    steps += [_Step(Unit.OUTPUT_TOKENS, text=piece) for piece in pieces(reply.text)]
    for index, call in enumerate(reply.tool_calls):
        opening = {"name": call.name, "arguments": ""}
        head = {"index": index, "id": f"call_{index}_{call.name}", "type": "function", "function": opening}
        steps += [_Step(Unit.OUTPUT_TOKENS)] * (len(pieces(call.name)) - 1)
        steps.append(_Step(Unit.OUTPUT_TOKENS, delta={"tool_calls": [head]}))
        for piece in pieces(call.arguments):
            more = {"index": index, "function": {"arguments": piece}}
            steps.append(_Step(Unit.OUTPUT_TOKENS, delta={"tool_calls": [more]}))
    return steps


def _chunk_of(operation: Operation, body: Mapping[str, Any]) -> dict[str, Any]:
    tier = body.get("service_tier", "default")
    return {
        "id": operation.id,
        "object": "chat.completion.chunk",
        "created": 0,
        "model": body["model"],
        "service_tier": "default" if tier == "auto" else tier,
    }


def _choice(delta: Mapping[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": reason}


def _event(chunk: Mapping[str, Any], **fields: Any) -> bytes:
    return b"data: " + json.dumps({**chunk, **fields}).encode() + b"\n\n"


def _usage(operation: Operation) -> dict[str, Any]:
    counted = {unit: int(quantity) for unit, quantity in operation.quantities.items()}
    cached = counted.get(Unit.CACHED_INPUT_TOKENS, 0)
    reasoning = counted.get(Unit.REASONING_TOKENS, 0)
    prompt = counted.get(Unit.INPUT_TOKENS, 0) + cached
    completion = counted.get(Unit.OUTPUT_TOKENS, 0) + reasoning
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
