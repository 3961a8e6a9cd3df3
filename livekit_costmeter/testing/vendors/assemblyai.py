"""
AssemblyAI's streaming recognition as a client sees it: `/v3/ws`, from `Begin` over `Turn` to `Termination`.

Invariant: it says only what the audio and the script imply. The session costs for as long as its socket is open, with
or without audio: `connection_seconds` is what is billed, `audio_seconds` what was heard. Reference:
https://www.assemblyai.com/docs/streaming/message-sequence
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiohttp import web

from livekit_costmeter.testing.vendors.hearing import Ear, Heard
from livekit_costmeter.testing.vendors.listening import Messages, Recogniser

_SESSION_ID = "assemblyai-session"
_CONFIDENCE = 0.99
_FORMATTING = str.maketrans("", "", ".,?!")


class AssemblyAI(Recogniser):
    """Serves `/v3/ws` below a base path."""

    provider = "assemblyai"

    def routes(self, base: str) -> list[web.RouteDef]:
        """Return the routes below a base path."""
        return [web.get(f"{base}/v3/ws", self._session)]

    async def _session(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        if query.get("encoding", "pcm_s16le") != "pcm_s16le":
            return web.json_response({"error": "only encoding=pcm_s16le is simulated"}, status=400)
        model = query["speech_model"]
        if model.startswith("universal-streaming"):
            forms = (False, True) if query.get("format_turns") == "true" else (False,)
            dialect = _Session(self._monotonic, announces=False, forms=forms)
        else:
            dialect = _Session(self._monotonic, announces=True, forms=(True,))
        ear = self.ear(sample_rate=int(query["sample_rate"]))
        return await self.listen(request, model=model, ear=ear, dialect=dialect)


class _Session:
    """One session. The Universal-3 models announce speech and format a turn at once, Universal-Streaming afterwards.

    `forms` tells which messages end a turn: unformatted (`False`), formatted (`True`).
    """

    def __init__(self, monotonic: Callable[[], float], *, announces: bool, forms: Sequence[bool]) -> None:
        self._monotonic = monotonic
        self._announces = announces
        self._forms = forms
        self._began_at = 0.0
        self._turns = 0

    def greet(self) -> Messages:
        self._began_at = self._monotonic()
        return ({"type": "Begin", "id": _SESSION_ID, "expires_at": 0},)

    def tell(self, heard: Heard) -> Messages:
        if heard.event == "started":
            speech = {"type": "SpeechStarted", "timestamp": _milliseconds(heard.start), "confidence": _CONFIDENCE}
            return (speech,) if self._announces else ()
        if heard.event == "interim":
            return (self._turn(heard, formatted=self._forms[0]),)
        turn = [self._turn(heard, formatted=formatted) for formatted in self._forms]
        self._turns += 1
        return turn

    def answer(self, command: str, ear: Ear) -> Messages:
        if command != "ForceEndpoint" and not self.ends(command):
            return ()
        said = [message for heard in ear.finish() for message in self.tell(heard)]
        return [*said, self._termination(ear)] if self.ends(command) else said

    def ends(self, command: str) -> bool:
        return command == "Terminate"

    def _termination(self, ear: Ear) -> dict[str, Any]:
        lasted = round(self._monotonic() - self._began_at, 3)
        return {
            "type": "Termination",
            "audio_duration_seconds": float(ear.seconds),
            "session_duration_seconds": lasted,
        }

    def _turn(self, heard: Heard, *, formatted: bool) -> dict[str, Any]:
        final = heard.event == "final"
        text = heard.text if formatted else heard.text.translate(_FORMATTING).lower()
        return {
            "type": "Turn",
            "turn_order": self._turns,
            "turn_is_formatted": final and formatted,
            "end_of_turn": final,
            "end_of_turn_confidence": 1.0 if final else 0.0,
            "transcript": text,
            "utterance": text if final else "",
            "words": [_word(word, text, final=final) for word, text in zip(heard.words(), text.split(), strict=True)],
        }


def _word(word: Mapping[str, Any], text: str, *, final: bool) -> dict[str, Any]:
    times = {"start": _milliseconds(word["start"]), "end": _milliseconds(word["end"])}
    return {"text": text, **times, "confidence": _CONFIDENCE, "word_is_final": final}


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
