"""
What the loopback providers do not serve: realtime, responses, Deepgram voices, LiveKit's gateway, and a provider that
refuses every request and quotes it, key and all.
"""

from __future__ import annotations

import base64
import itertools
import json

from aiohttp import WSMsgType, web

PCM = bytes(4800)
_USAGE = {
    "input_tokens": 12,
    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 1},
    "total_tokens": 17,
}
_REALTIME_USAGE = {
    "total_tokens": 30,
    "input_tokens": 20,
    "output_tokens": 10,
    "input_token_details": {"text_tokens": 5, "audio_tokens": 15, "cached_tokens": 0},
    "output_token_details": {"text_tokens": 4, "audio_tokens": 6},
}


async def responses(request):
    """Answer one request of the Responses API as server-sent events."""
    response = {"id": "resp_1", "object": "response", "model": "gpt-4o-mini", "output": [], "usage": _USAGE}
    events = [
        {"type": "response.created", "response": {**response, "usage": None}},
        {"type": "response.output_text.delta", "delta": "Hello.", "item_id": "i", "output_index": 0},
        {"type": "response.completed", "response": response},
    ]
    stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await stream.prepare(request)
    for number, event in enumerate(events):
        line = json.dumps({"sequence_number": number, **event})
        await stream.write(f"event: {event['type']}\ndata: {line}\n\n".encode())
    return stream


async def realtime(request):
    """Open a realtime session and answer each request for a response at once."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_json({"type": "session.created", "event_id": "e0", "session": {"id": "sess_1"}})
    numbers = itertools.count(1)
    async for message in socket:
        event = json.loads(message.data)
        if event["type"] == "response.create":
            number = next(numbers)
            response = {
                "id": f"resp_{number}",
                "object": "realtime.response",
                "status": "completed",
                "metadata": event.get("response", {}).get("metadata"),
                "output": [],
            }
            await socket.send_json({"type": "response.created", "event_id": f"c{number}", "response": response})
            done = {**response, "usage": _REALTIME_USAGE}
            await socket.send_json({"type": "response.done", "event_id": f"d{number}", "response": done})
    return socket


async def speak(_request):
    """Answer Deepgram's batch synthesis."""
    return web.Response(body=PCM, content_type="audio/pcm")


async def speak_live(request):
    """Answer Deepgram's streaming synthesis: audio for each flush."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        kind = json.loads(message.data)["type"]
        if kind == "Flush":
            await socket.send_bytes(PCM)
            await socket.send_json({"type": "Flushed"})
        elif kind == "Close":
            await socket.close()
    return socket


async def gateway_tts(request):
    """Answer the gateway's synthesis: audio and the end for each flush."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        kind = json.loads(message.data)["type"]
        if kind == "session.create":
            await socket.send_json({"type": "session.created", "session_id": "gateway-1"})
        elif kind == "session.flush":
            audio = base64.b64encode(PCM).decode()
            await socket.send_json({"type": "output_audio", "session_id": "gateway-1", "audio": audio})
            await socket.send_json({"type": "done", "session_id": "gateway-1"})
    return socket


async def gateway_stt(request):
    """Answer the gateway's recognition: one transcript when the audio ends."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        kind = json.loads(message.data)["type"]
        if kind == "session.create":
            await socket.send_json({"type": "session.created"})
        elif kind == "session.finalize":
            final = {
                "transcript": "Hello.",
                "start": 0,
                "duration": 0.5,
                "confidence": 1,
                "words": [],
                "language": "en",
            }
            await socket.send_json({"type": "final_transcript", **final})
            await socket.send_json({"type": "session.closed"})
    return socket


async def refuse(request):
    """Refuse with everything that the request carried in message, body and headers."""
    quoted = "; ".join(f"{name}: {value}" for name, value in request.headers.items())
    message = f"Incorrect API key provided: {quoted} at {request.url}"
    body = {"error": {"message": message, "type": "invalid_request_error", "code": "invalid_api_key"}}
    return web.Response(status=401, reason=message, text=json.dumps(body), content_type="application/json")


async def refuse_realtime(request):
    """Accept the connection and refuse in an event that quotes the request."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    message = f"Incorrect API key provided: {request.headers.get('Authorization')}"
    error = {"type": "invalid_request_error", "code": "invalid_api_key", "message": message}
    await socket.send_json({"type": "error", "event_id": "e0", "error": error})
    async for received in socket:
        if received.type is WSMsgType.CLOSE:
            break
    return socket


async def start():
    """Listen on a free port; return the runner and the root address."""
    app = web.Application()
    app.add_routes(
        [
            web.post("/v1/responses", responses),
            web.get("/v1/realtime", realtime),
            web.post("/v1/speak", speak),
            web.get("/v1/speak", speak_live),
            web.get("/v1/tts", gateway_tts),
            web.get("/v1/stt", gateway_stt),
            web.get("/refuse/realtime", refuse_realtime),
            web.route("*", "/refuse{tail:.*}", refuse),
        ]
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"
