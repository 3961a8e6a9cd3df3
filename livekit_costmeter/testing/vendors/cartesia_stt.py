"""
Cartesia's recognition as a client sees it: `/stt/turns/websocket` (ink-2) and `/stt/websocket` (ink-whisper).

Invariant: each dialect says only what the audio and the script imply. Reference:
https://docs.cartesia.ai/api-reference/stt/turns/websocket and https://docs.cartesia.ai/api-reference/stt/stt
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from livekit_costmeter.testing.vendors.hearing import Ear, Heard
from livekit_costmeter.testing.vendors.listening import Messages, Recogniser

_REQUEST_ID = "cartesia-request"


class CartesiaRecognition(Recogniser):
    """Serves both recognition sockets below a base path."""

    provider = "cartesia"

    def routes(self, base: str) -> list[web.RouteDef]:
        """Return the routes below a base path."""
        return [
            web.get(f"{base}/stt/turns/websocket", self._turns),
            web.get(f"{base}/stt/websocket", self._transcripts_only),
        ]

    async def _turns(self, request: web.Request) -> web.StreamResponse:
        return await self._live(request, _Ink2())

    async def _transcripts_only(self, request: web.Request) -> web.StreamResponse:
        return await self._live(request, _InkWhisper())

    async def _live(self, request: web.Request, dialect: _Ink2 | _InkWhisper) -> web.StreamResponse:
        query = request.query
        if query.get("encoding") != "pcm_s16le":
            return web.json_response({"message": "only encoding=pcm_s16le is simulated"}, status=400)
        ear = self.ear(sample_rate=int(query["sample_rate"]))
        return await self.listen(request, model=query["model"], ear=ear, dialect=dialect)


class _Ink2:
    """Turns: `turn.start`, `turn.update`, `turn.end`, each with the turn's text so far."""

    def greet(self) -> Messages:
        return ({"type": "connected", "request_id": _REQUEST_ID},)

    def tell(self, heard: Heard) -> Messages:
        kind = {"started": "turn.start", "interim": "turn.update", "final": "turn.end"}[heard.event]
        return ({"type": kind, "transcript": heard.text, "request_id": _REQUEST_ID},)

    def answer(self, command: str, ear: Ear) -> Messages:
        return [said for heard in ear.finish() for said in self.tell(heard)] if self.ends(command) else ()

    def ends(self, command: str) -> bool:
        return command == "close"


class _InkWhisper:
    """Transcripts without turns; `finalize` and `close` come as bare words."""

    def greet(self) -> Messages:
        return ()

    def tell(self, heard: Heard) -> Messages:
        return () if heard.event == "started" else (_transcript(heard),)

    def answer(self, command: str, ear: Ear) -> Messages:
        acknowledgement = {"type": "done" if self.ends(command) else "flush_done", "request_id": _REQUEST_ID}
        return [*(_transcript(heard) for heard in ear.finish()), acknowledgement]

    def ends(self, command: str) -> bool:
        return command == "close"


def _transcript(heard: Heard) -> dict[str, Any]:
    return {
        "type": "transcript",
        "is_final": heard.event == "final",
        "request_id": _REQUEST_ID,
        "text": heard.text,
        "duration": heard.end - heard.start,
        "words": heard.words(),
    }
