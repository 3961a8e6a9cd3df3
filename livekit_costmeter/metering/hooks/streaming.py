"""
Taps on streams and requests: their attempts, what each sends and receives, and how they end.

Invariant: LiveKit's own function runs with the same arguments, once, in the same task, and its exceptions pass; what
is shadowed is shadowed on single objects and only while they work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from livekit_costmeter.metering.hooks import internals, marks
from livekit_costmeter.metering.hooks.marks import guard
from livekit_costmeter.metering.hooks.observer import Observer, OperationMeter

_GENERATION = ("livekit.agents.llm", "LLMStream")
_RECOGNITION = ("livekit.agents.stt", "RecognizeStream")


def generation_work(observer: Observer, original: Any) -> Any:
    """Follow the attempts of an LLM stream and what each received."""

    async def main_task(self: Any) -> Any:
        if not internals.is_leaf(self, *_GENERATION):
            return await original(self)
        with _followed(observer, observer.generations, self):
            return await original(self)

    return main_task


def generation_report(observer: Observer, original: Any) -> Any:
    """Tell whose metrics an LLM stream's monitor reports, and see its end."""

    async def monitor(self: Any, event_aiter: Any) -> Any:
        if not internals.is_leaf(self, *_GENERATION):
            return await original(self, event_aiter)
        return await _reported(observer, observer.generations, self, original(self, event_aiter))

    return monitor


def speech_work(observer: Observer, original: Any) -> Any:
    """Follow the attempts of a synthesis stream, what each sent and received."""

    async def main_task(self: Any) -> Any:
        leaf = _is_speech_leaf(self)
        # Tasks that the plugin starts inherit this, so what they send can be told from other traffic. An adapter
        # sends nothing itself; the streams behind it set their own.
        marks.sending.set(guard(observer, observer.speech.begun, self) if leaf else None)
        if not leaf:
            return await original(self)
        try:
            with _followed(observer, observer.speech, self):
                return await original(self)
        finally:
            if internals.is_unmonitored(self):
                guard(observer, observer.speech.ended, marks.sending.get())

    return main_task


def speech_report(observer: Observer, original: Any) -> Any:
    """Tell whose metrics a synthesis stream's monitor reports, and see its end."""

    async def monitor(self: Any, event_aiter: Any) -> Any:
        if _is_speech_leaf(self):
            return await _reported(observer, observer.speech, self, original(self, event_aiter))
        marks.reporting.set(marks.REPEATED)
        return await original(self, event_aiter)

    return monitor


def _is_speech_leaf(stream: Any) -> bool:
    return any(
        internals.is_leaf(stream, "livekit.agents.tts", base)
        for base in ("SynthesizeStream", "ChunkedStream")
    )  # fmt: skip


async def _reported(observer: Observer, meter: OperationMeter, stream: Any, monitor: Any) -> Any:
    operation = guard(observer, meter.begun, stream)
    marks.reporting.set(operation)
    try:
        return await monitor
    except asyncio.CancelledError as error:  # a loop that ends cancels its tasks in any order
        guard(observer, meter.attempt_failed, operation, error)
        raise
    finally:
        guard(observer, meter.ended, operation)


@contextmanager
def _followed(observer: Observer, meter: OperationMeter, stream: Any) -> Iterator[None]:
    """Shadow a stream's `_run` and its channel's `send_nowait`, on these two objects only, while it works."""
    operation = guard(observer, meter.begun, stream)
    channel = guard(observer, internals.channel_of, stream)
    shadows: list[tuple[Any, str, Any, Any]] = []
    try:
        _shadow(shadows, stream, "_run", _attempts(observer, meter, operation, stream._run))  # noqa: SLF001 - the plugin's
        _shadow(shadows, channel, "send_nowait", _received(observer, meter, operation, channel.send_nowait))
    except Exception as error:  # without room for attributes: attempts stay unseen
        observer.failed(error)
    try:
        yield
    finally:
        guard(observer, _unshadow, shadows)


def _shadow(shadows: list[tuple[Any, str, Any, Any]], owner: Any, name: str, value: Any) -> None:
    own = vars(owner)
    shadows.append((own, name, value, own.get(name)))
    setattr(owner, name, value)


def _unshadow(shadows: list[tuple[Any, str, Any, Any]]) -> None:
    for own, name, value, before in shadows:
        if own.get(name) is not value:
            continue  # the plugin's own by now
        if before is None:
            del own[name]
        else:
            own[name] = before
    shadows.clear()


def _attempts(observer: Observer, meter: OperationMeter, operation: Any, run: Any) -> Any:
    async def attempt(*args: Any, **kwargs: Any) -> Any:
        guard(observer, meter.attempt, operation)
        try:
            return await run(*args, **kwargs)
        except BaseException as error:
            guard(observer, meter.attempt_failed, operation, error)
            raise

    return attempt


def _received(observer: Observer, meter: OperationMeter, operation: Any, send: Any) -> Any:
    received = meter.received

    def send_nowait(value: Any) -> None:  # named as LiveKit's, whose callers may say so
        try:
            received(operation, value)
        except Exception as error:
            observer.failed(error)
        send(value)

    return send_nowait


def wire(observer: Observer, original: Any) -> Any:
    """See the websocket messages that a synthesis stream sends."""

    async def send_str(self: Any, data: str, *args: Any, **kwargs: Any) -> None:
        await original(self, data, *args, **kwargs)
        if (operation := marks.sending.get()) is not None:
            guard(observer, observer.speech.message_sent, operation, data)

    return send_str


def audio_push(observer: Observer, original: Any) -> Any:
    """See audio on its way to a speech-to-text provider."""
    pushed = observer.recognition.pushed

    def push_frame(self: Any, frame: Any) -> None:
        original(self, frame)
        try:
            if internals.is_leaf(self, *_RECOGNITION):
                pushed(self, frame.samples_per_channel / frame.sample_rate)
        except Exception as error:
            observer.failed(error)

    return push_frame


def recognition_work(observer: Observer, original: Any) -> Any:
    """See a recognition stream open and close."""

    async def main_task(self: Any) -> Any:
        if not internals.is_leaf(self, *_RECOGNITION):
            return await original(self)
        guard(observer, observer.recognition.opened, self)
        outcome = "completed"
        try:
            return await original(self)
        except Exception:
            outcome = "failed"
            raise
        finally:
            guard(observer, observer.recognition.closed, self, outcome)

    return main_task


def recognition_request(observer: Observer, original: Any) -> Any:
    """See the audio of a request to recognise, in case it fails or is cancelled."""

    async def recognize(self: Any, buffer: Any, *args: Any, **kwargs: Any) -> Any:
        if not internals.recognizes_itself(self):
            return await original(self, buffer, *args, **kwargs)
        request = guard(observer, observer.recognition.request, self, buffer)
        token = marks.requesting.set(request)
        try:
            transcript = await original(self, buffer, *args, **kwargs)
        except BaseException as error:
            guard(observer, observer.recognition.request_left, request, self, error)
            raise
        finally:
            # A request that its loop leaves behind is closed by the collector, in some other context.
            with suppress(ValueError):
                marks.requesting.reset(token)
        guard(observer, observer.recognition.request_done, request, transcript)
        return transcript

    return recognize
