"""
OpenAI responses as a client sees them: server-sent events, or the same events over a socket, one response at a time.

Invariant: the ledger counts as the chat endpoint does, and a conversation that the vendor remembers
(`previous_response_id`) is read again, and billed again, in full. The usage that arrives with `response.completed` is
what the ledger will say. Reference: https://platform.openai.com/docs/api-reference/responses-streaming and
https://platform.openai.com/docs/guides/websocket-mode
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from livekit_costmeter.records import Unit
from livekit_costmeter.testing.ledger import Ledger, Operation, settling
from livekit_costmeter.testing.script import ChatScript, Fault
from livekit_costmeter.testing.vendors.openai import OpenAIChat
from livekit_costmeter.testing.vendors.service import client_key, meet, refuse
from livekit_costmeter.testing.vendors.wire import Wire

_Send = Callable[[Mapping[str, Any]], Awaitable[None]]
_Items = list[Mapping[str, Any]]


class OpenAIResponses(OpenAIChat):
    """Serves `POST /responses` (streamed) and its websocket mode below the base URL.

    The plugin opens its socket on the base URL it was given, so that one answers too.
    """

    def __init__(self, ledger: Ledger, script: ChatScript) -> None:
        super().__init__(ledger, script)
        self._remembered: dict[str, _Items] = {}

    def routes(self, base: str) -> list[web.RouteDef]:
        """Return the routes below a base path."""
        return [
            web.post(f"{base}/responses", self._stream_response),
            web.get(f"{base}/responses", self._open_socket),
            web.get(base, self._open_socket),
        ]

    async def _stream_response(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if not body.get("stream"):
            return web.json_response({"error": {"message": "only stream=true is simulated"}}, status=400)
        if (problem := self.problem(body)) is not None:
            return web.json_response({"error": problem}, status=400)
        operation, fault = self.accept(request, body)
        if fault.status is not None:
            return refuse(operation, fault.status)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "x-request-id": operation.id})

        async def send(event: Mapping[str, Any]) -> None:
            if not response.prepared:
                await response.prepare(request)
            await response.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())

        await self.respond(operation, body, fault, send)
        await response.write_eof()
        return response

    async def _open_socket(self, request: web.Request) -> web.StreamResponse:
        client_key(request)
        wire = Wire(request)
        await wire.open()
        return await wire.listen(_Exchange(self, request, wire).receive)

    def problem(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Say why a request cannot be answered: it continues what is not remembered."""
        previous = body.get("previous_response_id")
        if previous is None or previous in self._remembered:
            return None
        return _error("previous_response_not_found", f"Previous response with id '{previous}' not found.")

    def accept(self, request: web.Request, body: Mapping[str, Any]) -> tuple[Operation, Fault]:
        """Open the operation of a request, with what will go wrong with it."""
        fault = self._faults.next()
        operation = self.begin(request, component="llm", model=body["model"], id=f"resp_{next(self._ids)}")
        return operation, fault

    async def respond(self, operation: Operation, body: Mapping[str, Any], fault: Fault, send: _Send) -> None:
        """Generate one response and settle its operation.

        Raises:
            Dropped: The script breaks the connection here.
        """
        with settling(operation):
            items = self._conversation(body)
            asked = {**body, "messages": [*_instructions(body), *items]}
            reply = self._reply(asked)
            self._accept(operation, asked, reply)
            await meet(fault)
            answer = _Answer(operation, body, send)
            await answer.tell("response.created", response=answer.response("in_progress"))
            await self._generate(operation, reply, fault, answer.take)
            await answer.close_item()
            if body.get("store") is not False:
                self._remembered[operation.id] = [*items, *answer.as_input()]
            usage = _usage(operation) if self._script.report_usage else None
            await answer.tell("response.completed", response=answer.response("completed", usage=usage))

    def _conversation(self, body: Mapping[str, Any]) -> _Items:
        said = body.get("input", "")
        items = [{"role": "user", "content": said}] if isinstance(said, str) else said
        return [*self._remembered.get(body.get("previous_response_id", ""), ()), *items]


class _Exchange:
    """One socket: a response at a time, and a client that may take its request back.

    The published protocol knows no `response.cancel`; a client that sends one is taken at its word.
    """

    def __init__(self, vendor: OpenAIResponses, request: web.Request, wire: Wire) -> None:
        self._vendor = vendor
        self._request = request
        self._wire = wire
        self._under_way: asyncio.Task[None] | None = None

    async def receive(self, event: Mapping[str, Any]) -> None:
        match event["type"]:
            case "response.cancel":
                await self._cancel()
            case "response.create" if self._under_way is not None and not self._under_way.done():
                await self._refuse(400, _error("concurrent_response", "A response is being generated already."))
            case "response.create":
                await self._create({name: value for name, value in event.items() if name != "type"})
            case other:
                await self._refuse(400, _error("invalid_event", f"'{other}' is not simulated."))

    async def _create(self, body: Mapping[str, Any]) -> None:
        if (problem := self._vendor.problem(body)) is not None:
            await self._refuse(400, problem)
            return
        operation, fault = self._vendor.accept(self._request, body)
        if fault.status is not None:
            operation.close("failed")
            await self._refuse(fault.status, _error(str(fault.status), "refused by the script"))
            return
        self._under_way = await self._wire.start(self._vendor.respond(operation, body, fault, self._wire.send))

    async def _cancel(self) -> None:
        if self._under_way is None or self._under_way.done():
            return
        self._under_way.cancel()
        await asyncio.gather(self._under_way, return_exceptions=True)
        await self._refuse(499, _error("response_cancelled", "The client has cancelled the response."))

    async def _refuse(self, status: int, error: Mapping[str, Any]) -> None:
        await self._wire.send({"type": "error", "status": status, "error": error})


class _Answer:
    """One response on the wire: takes the deltas of a chat model and tells them as numbered events."""

    def __init__(self, operation: Operation, body: Mapping[str, Any], send: _Send) -> None:
        self._operation = operation
        self._body = body
        self._send = send
        self._numbers = itertools.count()
        self._output: list[dict[str, Any]] = []
        self._open: dict[str, Any] | None = None

    async def tell(self, type: str, **fields: Any) -> None:
        """Send an event."""
        await self._send({"type": type, "sequence_number": next(self._numbers), **fields})

    async def take(self, delta: Mapping[str, Any]) -> None:
        """Tell a delta of a chat model: a piece of text, the head of a tool call, or a piece of its arguments."""
        if delta.get("content"):
            await self._text(delta["content"])
        for call in delta.get("tool_calls", ()):
            if "id" in call:
                await self._call(call["id"], call["function"]["name"])
            else:
                await self._arguments(call["function"]["arguments"])

    async def close_item(self) -> None:
        """Tell that the item under way is complete, if there is one."""
        if self._open is None:
            return
        item, self._open = self._open, None
        item["status"] = "completed"
        if item["type"] == "message":
            (part,) = item["content"]
            await self.tell("response.output_text.done", **self._place(item), text=part["text"], logprobs=[])
            await self.tell("response.content_part.done", **self._place(item), part=part)
        else:
            done = {"item_id": item["id"], "name": item["name"], "arguments": item["arguments"]}
            await self.tell("response.function_call_arguments.done", **done, output_index=len(self._output) - 1)
        await self.tell("response.output_item.done", item=item, output_index=len(self._output) - 1)

    def response(self, status: str, *, usage: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the response object as it stands."""
        tier = self._body.get("service_tier", "default")
        return {
            "id": self._operation.id,
            "object": "response",
            "created_at": 0,
            "status": status,
            "model": self._body["model"],
            "output": self._output,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "service_tier": "default" if tier == "auto" else tier,
            "usage": usage,
        }

    def as_input(self) -> _Items:
        """Return what was said as a client would send it back, so that remembering costs what resending does."""
        messages = [item for item in self._output if item["type"] == "message"]
        calls = [item for item in self._output if item["type"] == "function_call"]
        sent: _Items = [{"role": "assistant", "content": item["content"][0]["text"]} for item in messages]
        return sent + [{name: call[name] for name in ("call_id", "type", "name", "arguments")} for call in calls]

    async def _text(self, text: str) -> None:
        if self._open is None or self._open["type"] != "message":
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            item: dict[str, Any] = {"type": "message", "role": "assistant", "content": []}
            await self._begin_item(f"msg_{len(self._output)}_{self._operation.id}", item)
            item["content"].append(part)
            await self.tell("response.content_part.added", **self._place(item), part=part)
        assert self._open is not None
        self._open["content"][0]["text"] += text
        await self.tell("response.output_text.delta", **self._place(self._open), delta=text, logprobs=[])

    async def _call(self, call_id: str, name: str) -> None:
        item = {"type": "function_call", "call_id": call_id, "name": name, "arguments": ""}
        await self._begin_item(f"fc_{len(self._output)}_{self._operation.id}", item)

    async def _arguments(self, text: str) -> None:
        assert self._open is not None
        self._open["arguments"] += text
        place = {"item_id": self._open["id"], "output_index": len(self._output) - 1}
        await self.tell("response.function_call_arguments.delta", **place, delta=text)

    async def _begin_item(self, id: str, item: dict[str, Any]) -> None:
        await self.close_item()
        item |= {"id": id, "status": "in_progress"}
        self._open = item
        self._output.append(item)
        await self.tell("response.output_item.added", item=item, output_index=len(self._output) - 1)

    def _place(self, item: Mapping[str, Any]) -> dict[str, Any]:
        return {"item_id": item["id"], "output_index": len(self._output) - 1, "content_index": 0}


def _instructions(body: Mapping[str, Any]) -> _Items:
    """Return the instructions as a message; they hold for one response and are not remembered."""
    return [{"role": "system", "content": body["instructions"]}] if body.get("instructions") else []


def _error(code: str, message: str) -> dict[str, Any]:
    return {"type": "invalid_request_error", "code": code, "message": message, "param": None}


def _usage(operation: Operation) -> dict[str, Any]:
    counted = {unit: int(quantity) for unit, quantity in operation.quantities.items()}
    cached = counted.get(Unit.CACHED_INPUT_TOKENS, 0)
    reasoning = counted.get(Unit.REASONING_TOKENS, 0)
    read = counted.get(Unit.INPUT_TOKENS, 0) + cached
    written = counted.get(Unit.OUTPUT_TOKENS, 0) + reasoning
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": read + written,
    }
