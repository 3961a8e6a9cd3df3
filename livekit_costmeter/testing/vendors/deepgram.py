"""
Deepgram's recognition as a client sees it.

The live sockets of nova (`/v1/listen`) and flux (`/v2/listen`), and recorded files.

Invariant: each dialect says only what the audio and the script imply; `KeepAlive` costs nothing. Reference:
https://developers.deepgram.com/reference/speech-to-text/listen-streaming and
https://developers.deepgram.com/docs/flux/quickstart
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from livekit_costmeter.records import Unit
from livekit_costmeter.testing.audio import wav_seconds
from livekit_costmeter.testing.ledger import settling
from livekit_costmeter.testing.vendors.hearing import Ear, Heard
from livekit_costmeter.testing.vendors.listening import Messages, Recogniser
from livekit_costmeter.testing.vendors.service import meet, refuse

_REQUEST_ID = "deepgram-request"
_CONFIDENCE = 0.99


class Deepgram(Recogniser):
    """Serves `/v1/listen` (live and recorded) and `/v2/listen` below a base path."""

    provider = "deepgram"

    def routes(self, base: str) -> list[web.RouteDef]:
        """Return the routes below a base path."""
        return [
            web.get(f"{base}/v1/listen", self._nova),
            web.get(f"{base}/v2/listen", self._flux),
            web.post(f"{base}/v1/listen", self._recorded),
        ]

    async def _nova(self, request: web.Request) -> web.StreamResponse:
        return await self._live(request, _Nova())

    async def _flux(self, request: web.Request) -> web.StreamResponse:
        return await self._live(request, _Flux())

    async def _live(self, request: web.Request, dialect: _Nova | _Flux) -> web.StreamResponse:
        query = request.query
        if query.get("encoding") != "linear16":
            return web.json_response({"err_msg": "only encoding=linear16 is simulated"}, status=400)
        ear = self.ear(sample_rate=int(query["sample_rate"]), channels=int(query.get("channels", 1)))
        return await self.listen(request, model=query["model"], ear=ear, dialect=dialect)

    async def _recorded(self, request: web.Request) -> web.Response:
        fault = self._faults.next()
        operation = self.begin(request, component="stt", model=request.query["model"])
        if fault.status is not None:
            return refuse(operation, fault.status)
        with settling(operation):
            seconds = wav_seconds(await request.read())
            operation.add(Unit.AUDIO_SECONDS, seconds)
            await meet(fault, seconds)
            heard = Heard("final", self._transcripts.next(), 0.0, float(seconds))
            channel = {"alternatives": [_alternative(heard)]}
            metadata = {"request_id": operation.id, "duration": float(seconds), "channels": 1}
            return web.json_response({"metadata": metadata, "results": {"channels": [channel]}})


class _Nova:
    def greet(self) -> Messages:
        return ()

    def tell(self, heard: Heard) -> Messages:
        if heard.event == "started":
            return ({"type": "SpeechStarted", "channel": [0], "timestamp": heard.start},)
        return (_results(heard),)

    def answer(self, command: str, ear: Ear) -> Messages:
        if command == "Finalize":
            return [{**_results(heard), "from_finalize": True} for heard in ear.finish()]
        if command == "CloseStream":
            metadata = {"type": "Metadata", "request_id": _REQUEST_ID, "duration": float(ear.seconds), "channels": 1}
            return [*(_results(heard) for heard in ear.finish()), metadata]
        return ()

    def ends(self, command: str) -> bool:
        return command == "CloseStream"


class _Flux:
    def greet(self) -> Messages:
        return ({"type": "Connected", "request_id": _REQUEST_ID, "sequence_id": 0},)

    def tell(self, heard: Heard) -> Messages:
        return (_turn_info(heard),)

    def answer(self, command: str, ear: Ear) -> Messages:
        if command == "Configure":
            return ({"type": "ConfigureSuccess", "request_id": _REQUEST_ID},)
        return [_turn_info(heard) for heard in ear.finish()] if self.ends(command) else ()

    def ends(self, command: str) -> bool:
        return command == "CloseStream"


def _alternative(heard: Heard) -> dict[str, Any]:
    return {"transcript": heard.text, "confidence": _CONFIDENCE, "words": heard.words()}


def _results(heard: Heard) -> dict[str, Any]:
    final = heard.event == "final"
    return {
        "type": "Results",
        "channel_index": [0, 1],
        "start": heard.start,
        "duration": heard.end - heard.start,
        "is_final": final,
        "speech_final": final,
        "channel": {"alternatives": [_alternative(heard)]},
        "metadata": {"request_id": _REQUEST_ID},
    }


def _turn_info(heard: Heard) -> dict[str, Any]:
    return {
        "type": "TurnInfo",
        "request_id": _REQUEST_ID,
        "event": {"started": "StartOfTurn", "interim": "Update", "final": "EndOfTurn"}[heard.event],
        "audio_window_start": heard.start,
        "audio_window_end": heard.end,
        "transcript": heard.text,
        "words": heard.words(),
    }
