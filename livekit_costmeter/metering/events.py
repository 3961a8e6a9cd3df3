"""
What LiveKit itself reports: from a metrics object and its emitter to a record.

Invariant: one record per object. What a stream's own meter counts better (audio pushed, characters on the wire) is
taken from there, and what a stream has reported is not reported again by the one around it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from livekit_costmeter.metering.hooks import internals
from livekit_costmeter.metering.hooks.marks import REPEATED, reporting, requesting
from livekit_costmeter.metering.operations.generations import GenerationMeter
from livekit_costmeter.metering.operations.realtime import RealtimeMeter
from livekit_costmeter.metering.operations.recognition import RecognitionMeter
from livekit_costmeter.metering.operations.speech import SpeechMeter
from livekit_costmeter.metering.readers import (
    Fields,
    read_decision,
    read_llm,
    read_realtime,
    read_requests,
    read_stt,
    read_tts,
    silent,
)

Append = Callable[[Any, str, Fields, Any], None]
"""(component, kind of component, fields of the record, metrics object)."""


class Events:
    """Reads every type of metrics object that LiveKit has."""

    def __init__(
        self,
        append: Append,
        generations: GenerationMeter,
        speech: SpeechMeter,
        recognition: RecognitionMeter,
        realtime: RealtimeMeter,
    ) -> None:
        self._append = append
        self._generations = generations
        self._speech = speech
        self._recognition = recognition
        self._realtime = realtime
        self.counts_streams = True
        """Whether streams are followed: their own windows count their audio then, and not what LiveKit says of it."""
        self._readers: dict[str, Callable[[Any, Any], None]] = {
            "llm_metrics": self._llm,
            "tts_metrics": self._tts,
            "stt_metrics": self._stt,
            "decision_metrics": self._decision,
            "interruption_metrics": self._requests("interruption"),
            "eot_inference_metrics": self._requests("turn_detection"),
        }

    def read(self, emitter: Any, event: Any) -> None:
        """Record a metrics object of a component, whatever its type; other objects are none of ours."""
        reader = self._readers.get(getattr(event, "type", ""))
        if reader is not None:
            reader(emitter, event)

    def read_of_session(self, session: Any, event: Any) -> None:
        """Record a metrics object of a realtime or duplex session: its model did the work and holds the key."""
        # Its tasks live in the context that opened it, which may be a tool of the agent before.
        internals.listening_context().run(self._read_of_session, session, event)

    def _read_of_session(self, session: Any, event: Any) -> None:
        kind, model = getattr(event, "type", ""), internals.model_behind(session)
        if kind == "realtime_model_metrics" and (fields := read_realtime(event)) is not None:
            self._realtime.reported(session, fields)
            self._append(model, "realtime", fields, event)
        elif kind == "stt_metrics" and (fields := read_stt(event)) is not None:
            self._realtime.heard(session, event)
            self._append(model, "stt", fields, event)
        elif kind == "llm_metrics":
            self._append(model, "llm", read_llm(event) or silent(event), event)

    def _llm(self, emitter: Any, event: Any) -> None:
        fields, generation = read_llm(event), reporting.get()
        if fields is None:
            if generation is not None:
                return  # the stream will say what it saw, when it ends
            fields = silent(event)
        elif generation is not None and not self._generations.reported(generation, emitter, fields):
            return
        self._append(emitter, "llm", fields, event)

    def _tts(self, emitter: Any, event: Any) -> None:
        fields, speech = read_tts(event), reporting.get()
        if fields is None or speech is REPEATED:
            return
        if speech is not None and not self._speech.reported(speech, emitter, fields):
            return
        self._append(emitter, "tts", fields, event)

    def _stt(self, emitter: Any, event: Any) -> None:
        fields = read_stt(event)
        if fields is None:
            return
        if event.streamed and self.counts_streams:
            tokens = {unit: amount for unit, amount in fields["quantities"].items() if unit != "audio_seconds"}
            if not tokens:
                return  # the stream's own window counts its audio
            fields["quantities"], fields["basis"] = tokens, dict.fromkeys(tokens, "reported")
            self._recognition.transcribed(emitter)
            internals.listening_context().run(self._append, emitter, "stt", fields, event)
            return
        if self.counts_streams and not internals.recognizes_itself(emitter):
            return  # an adapter's report of what the one behind it has reported
        if (request := requesting.get()) is not None and request.component is emitter:
            request.reading = emitter, fields  # recorded with its transcript, in the same turn of the loop
            return
        self._append(emitter, "stt", fields, event)

    def _decision(self, emitter: Any, event: Any) -> None:
        self._append(emitter, "llm", read_decision(event), event)

    def _requests(self, kind: str) -> Callable[[Any, Any], None]:
        def read(emitter: Any, event: Any) -> None:
            fields = read_requests(event)
            if fields is not None:
                self._append(emitter, kind, fields, event)

        return read
