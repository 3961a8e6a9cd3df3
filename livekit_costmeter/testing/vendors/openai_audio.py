"""
OpenAI speech and transcription as a client sees them.

Invariant: a request is counted in what its model is sold by: `tts-1` in characters, `gpt-4o-mini-tts` in text and
audio tokens, `whisper-1` in seconds, the other transcribers in audio and text tokens; the length of the audio stands
beside it. Audio tokens follow a fixed rule, 20 a second out and 10 a second in. Reference:
https://platform.openai.com/docs/api-reference/audio
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from aiohttp import web

from livekit_costmeter.records import Unit
from livekit_costmeter.testing.audio import MP3_RATE, Mp3Encoder, wav_header, wav_seconds
from livekit_costmeter.testing.ledger import Ledger, Operation, settling
from livekit_costmeter.testing.script import ListenScript, VoiceScript
from livekit_costmeter.testing.vendors.service import Cues, Vendor, fault_cues, meet, refuse
from livekit_costmeter.testing.vendors.tokens import count
from livekit_costmeter.testing.vendors.voice import Voice

_SPOKEN_TOKENS_PER_SECOND = 20
_HEARD_TOKENS_PER_SECOND = 10
_SOLD_BY_CHARACTER = frozenset({"tts-1", "tts-1-hd"})
_CONTENT_TYPES = {"mp3": "audio/mpeg", "wav": "audio/wav", "pcm": "audio/pcm"}


class OpenAIAudio(Vendor):
    """Serves `POST /audio/speech` (mp3, wav, pcm) and `POST /audio/transcriptions` (WAV) below the base URL."""

    provider = "openai"

    def __init__(self, ledger: Ledger, speech: VoiceScript, transcription: ListenScript) -> None:
        super().__init__(ledger)
        self._voice = speech
        self._speech_faults = fault_cues(speech.faults)
        self._transcription_faults = fault_cues(transcription.faults)
        self._transcripts = Cues(transcription.transcripts)

    def routes(self, base: str) -> list[web.RouteDef]:
        """Return the routes below a base path."""
        return [
            web.post(f"{base}/audio/speech", self._speak),
            web.post(f"{base}/audio/transcriptions", self._transcribe),
        ]

    async def _speak(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if body.get("response_format", "mp3") not in _CONTENT_TYPES:
            return web.json_response({"error": {"message": "only mp3, wav and pcm are simulated"}}, status=400)
        fault = self._speech_faults.next()
        operation = self.begin(request, component="tts", model=body["model"])
        if fault.status is not None:
            return refuse(operation, fault.status)
        with settling(operation):
            _accept(operation, body)
            await meet(fault)
            voice = Voice(self._voice, operation, fault, sample_rate=MP3_RATE)
            try:
                return await _stream(request, body, voice, operation.id)
            finally:
                if body["model"] not in _SOLD_BY_CHARACTER:
                    operation.add(Unit.OUTPUT_AUDIO_TOKENS, _spoken_tokens(voice))

    async def _transcribe(self, request: web.Request) -> web.Response:
        form = await request.post()
        model = str(form["model"])
        fault = self._transcription_faults.next()
        operation = self.begin(request, component="stt", model=model)
        if fault.status is not None:
            return refuse(operation, fault.status)
        with settling(operation):
            file = form["file"]
            assert isinstance(file, web.FileField)
            seconds = wav_seconds(file.file.read())
            operation.add(Unit.AUDIO_SECONDS, seconds)
            await meet(fault, seconds)
            text = self._transcripts.next()
            if model == "whisper-1":
                usage = {"type": "duration", "seconds": float(seconds)}
                return web.json_response(
                    {"text": text, "language": "english", "duration": float(seconds), "usage": usage}
                )
            return web.json_response({"text": text, "usage": count_heard(operation, str(form.get("prompt", "")), text)})


def _accept(operation: Operation, body: Mapping[str, Any]) -> None:
    if body["model"] in _SOLD_BY_CHARACTER:
        operation.add(Unit.CHARACTERS, len(body["input"]))
    else:
        operation.add(Unit.INPUT_TOKENS, _prompt_tokens(body))


def _prompt_tokens(body: Mapping[str, Any]) -> int:
    return count(body["input"]) + count(body.get("instructions") or "")


def _spoken_tokens(voice: Voice) -> int:
    return math.ceil(voice.seconds * _SPOKEN_TOKENS_PER_SECOND)


async def _stream(request: web.Request, body: Mapping[str, Any], voice: Voice, id: str) -> web.StreamResponse:
    as_events = body.get("stream_format") == "sse"
    content_type = "text/event-stream" if as_events else _CONTENT_TYPES[body.get("response_format", "mp3")]
    response = web.StreamResponse(headers={"Content-Type": content_type, "x-request-id": id})
    await response.prepare(request)
    encode = _encoder(body, voice)

    async def send(pcm: bytes) -> None:
        audio = encode(pcm)
        await response.write(_event("delta", audio=base64.b64encode(audio).decode()) if as_events else audio)

    await voice.speak(body["input"], send)
    if as_events:
        spent = {"input_tokens": _prompt_tokens(body), "output_tokens": _spoken_tokens(voice)}
        await response.write(_event("done", usage={**spent, "total_tokens": sum(spent.values())}))
    await response.write_eof()
    return response


def _encoder(body: Mapping[str, Any], voice: Voice) -> Callable[[bytes], bytes]:
    """Return what turns PCM into the response format, called once per chunk and in order."""
    match body.get("response_format", "mp3"):
        case "mp3":
            return Mp3Encoder().encode
        case "wav":
            header = [wav_header(voice.samples_of(body["input"]), MP3_RATE)]
            return lambda pcm: (header.pop() if header else b"") + pcm
        case _:
            return bytes


def _event(kind: str, **fields: Any) -> bytes:
    return b"data: " + json.dumps({"type": f"speech.audio.{kind}", **fields}).encode() + b"\n\n"


def count_heard(operation: Operation, prompt: str, text: str) -> dict[str, Any]:
    """Count what a transcriber sold by tokens heard and wrote, and return it as its usage."""
    seconds = operation.quantities.get(Unit.AUDIO_SECONDS, Decimal(0))
    heard, read, written = math.ceil(seconds * _HEARD_TOKENS_PER_SECOND), count(prompt), count(text)
    operation.add(Unit.INPUT_AUDIO_TOKENS, heard)
    operation.add(Unit.INPUT_TOKENS, read)
    operation.add(Unit.OUTPUT_TOKENS, written)
    return {
        "type": "tokens",
        "input_tokens": heard + read,
        "input_token_details": {"audio_tokens": heard, "text_tokens": read},
        "output_tokens": written,
        "total_tokens": heard + read + written,
    }
