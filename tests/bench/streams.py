"""
The time that the taps add to each chunk and each frame on its way, and the memory that a finished stream leaves behind.

Invariant: LiveKit's own base classes, with and without the taps in alternating rounds of one process; records go
nowhere, so that what is measured is the taps and what they keep.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

from livekit import rtc
from livekit.agents import APIConnectOptions, llm, stt, tts
from rich.table import Table

from livekit_costmeter.metering import ContextRules, CostMeter, KeyRing, Privacy
from livekit_costmeter.pricing.providers import identify

ROUNDS, ITEMS, LONG = 10, 5_000, 100_000
EDGE = 1_000
STREAMS = 2_000
ADDED_BUDGET, GROWTH_BUDGET, KEPT_BUDGET = 1.0, 1.25, 16.0
"""Microseconds per item; the last thousand as a multiple of the first; bytes per stream, of which 0 is meant."""
_OPTIONS = APIConnectOptions(max_retry=0)
_CHUNK = llm.ChatChunk(id="chatcmpl-1", delta=llm.ChoiceDelta(role="assistant", content=" and so"))
_FRAME = rtc.AudioFrame(bytes(1920), 48_000, 1, 960)
_SOUND = tts.SynthesizedAudio(frame=_FRAME, request_id="r")


class _Answer(llm.LLMStream):
    async def _run(self) -> None:
        self.times = await _timed(self._event_ch.send_nowait, _CHUNK, self._llm.items)


class _Speech(tts.ChunkedStream):
    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        output_emitter.initialize(request_id="r", sample_rate=48_000, num_channels=1, mime_type="audio/pcm")
        output_emitter.push(bytes(9600))
        self.times = await _timed(self._event_ch.send_nowait, _SOUND, self._tts.items)


class _Hearing(stt.RecognizeStream):
    async def _run(self) -> None:
        async for _ in self._input_ch:
            pass


class _Llm(llm.LLM):
    items = ITEMS

    def chat(self, **_: Any) -> _Answer:
        return _Answer(self, chat_ctx=llm.ChatContext.empty(), tools=[], conn_options=_OPTIONS)


class _Tts(tts.TTS):
    items = ITEMS

    def __init__(self) -> None:
        super().__init__(capabilities=tts.TTSCapabilities(streaming=False), sample_rate=48_000, num_channels=1)

    def synthesize(self, text: str = "hello", **_: Any) -> _Speech:
        return _Speech(tts=self, input_text=text, conn_options=_OPTIONS)


class _Stt(stt.STT):
    items = ITEMS

    def __init__(self) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=False))

    async def _recognize_impl(self, *_: Any, **__: Any) -> stt.SpeechEvent:
        return stt.SpeechEvent(stt.SpeechEventType.FINAL_TRANSCRIPT)

    def stream(self, **_: Any) -> _Hearing:
        return _Hearing(stt=self, conn_options=_OPTIONS)


class _Nowhere:
    """Takes records as the spool does, and keeps none."""

    def append(self, _members: bytes, _more: bytes = b"") -> None:
        return None


_KINDS: dict[str, tuple[type, str]] = {
    "LLM chunk received": (_Llm, "chat"),
    "TTS frame received": (_Tts, "synthesize"),
    "STT frame pushed": (_Stt, "stream"),
}


def measure() -> Table:
    """Return the table: per kind of stream, time per item without and with the taps, growth, and memory kept."""
    table = Table(title="Streams: p50 per item; memory per finished stream, with the taps less without")
    names = ("item", "plain", "tapped", "added", "first 1,000", "last 1,000", "growth", "kept", "kept until collected")
    for name in names:
        table.add_column(name, justify="left" if name == "item" else "right")
    meter = _meter()
    for name, (component, opening) in _KINDS.items():
        plain, tapped = _times(meter, component, opening)
        times = [f"{plain:.2f} µs", f"{tapped:.2f} µs", _judged(tapped - plain, ADDED_BUDGET, " µs")]
        table.add_row(name, *times, *_growth(meter, component, opening), *_memory(meter, component, opening))
    return table


def _judged(value: float, budget: float, unit: str, digits: int = 2) -> str:
    return f"{value:.{digits}f}{unit}" + ("" if value <= budget else f" [red](over {budget:g}{unit})[/red]")


def _meter() -> CostMeter:
    def secret() -> bytes:
        return b"a secret of the benchmark"

    return CostMeter(
        delivery=_Nowhere(),
        identify=identify,
        keys=KeyRing(secret=secret, environ={}),
        rules=ContextRules(),
        privacy=Privacy(secret=secret),
        rate=lambda _record: [],
    )


async def _timed(act: Callable[[Any], None], item: Any, count: int) -> list[int]:
    samples = []
    for number in range(count):
        started = time.perf_counter_ns()
        act(item)
        samples.append(time.perf_counter_ns() - started)
        if number % 100 == 0:
            await asyncio.sleep(0)  # whoever reads keeps up, as in a call
    return samples


async def _live(component: Any, opening: str) -> list[int]:
    """Open a stream, let all items pass, and close it; return the nanoseconds of each item."""
    stream = getattr(component, opening)()
    times = None
    if isinstance(stream, _Hearing):
        times = await _timed(stream.push_frame, _FRAME, component.items)
        stream.end_input()
    async for _ in stream:
        pass
    await stream.aclose()
    return times or stream.times


def _one(kind: type, opening: str, items: int) -> list[int]:
    component = kind()
    component.items = items
    gc.collect()
    return asyncio.run(_live(component, opening))


def _times(meter: CostMeter, kind: type, opening: str) -> tuple[float, float]:
    samples: dict[bool, list[int]] = {False: [], True: []}
    for number in range(2 * ROUNDS):
        with_taps = bool(number % 2)
        samples[with_taps] += (
            _tapped(meter, lambda: _one(kind, opening, ITEMS)) if with_taps else _one(kind, opening, ITEMS)
        )
    return statistics.median(samples[False]) / 1000, statistics.median(samples[True]) / 1000


def _tapped(meter: CostMeter, action: Callable[[], Any]) -> Any:
    meter.taps.apply()
    try:
        return action()
    finally:
        meter.taps.remove()


def _growth(meter: CostMeter, kind: type, opening: str) -> list[str]:
    times = _tapped(meter, lambda: _one(kind, opening, LONG))
    first, last = (statistics.median(part) / 1000 for part in (times[:EDGE], times[-EDGE:]))
    return [f"{first:.2f} µs", f"{last:.2f} µs", _judged(last / first, GROWTH_BUDGET, "x")]


def _memory(meter: CostMeter, kind: type, opening: str) -> list[str]:
    plain = _kept(kind, opening)
    tapped = _tapped(meter, lambda: _kept(kind, opening))
    uncollected, collected = (after - before for after, before in zip(tapped, plain, strict=True))
    return [_judged(value, KEPT_BUDGET, " B", 0) for value in (collected, uncollected)]


def _kept(kind: type, opening: str) -> tuple[float, float]:
    """Return the bytes that each finished stream keeps until the cyclic collector runs, and after it."""
    component = kind()
    component.items = 2

    async def live(count: int) -> None:
        for _ in range(count):
            await _live(component, opening)

    async def traced() -> tuple[float, float]:
        await live(STREAMS // 10)  # caches and pools fill
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            await live(STREAMS)
            uncollected = tracemalloc.get_traced_memory()[0]
            gc.collect()
            return uncollected / STREAMS, tracemalloc.get_traced_memory()[0] / STREAMS
        finally:
            tracemalloc.stop()
            gc.enable()

    return asyncio.run(traced())
