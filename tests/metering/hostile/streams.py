"""
Streams of every kind, on LiveKit's own base classes, and the ways in which a plugin's stream may misbehave.

Invariant: a misbehaviour is one class, mixed into any kind of stream; `Plugin` itself behaves.
"""

from __future__ import annotations

import asyncio
from functools import partial

from livekit import rtc
from livekit.agents import APIConnectionError, APIConnectOptions, APIStatusError, llm, stt, tts

PATIENT = APIConnectOptions(max_retry=1, timeout=1.0)
CHUNK = llm.ChatChunk(id="c", delta=llm.ChoiceDelta(role="assistant", content="well"))
SOUND = rtc.AudioFrame(bytes(4800), 24_000, 1, 2400)
WORDS = stt.SpeechEvent(stt.SpeechEventType.FINAL_TRANSCRIPT, alternatives=[stt.SpeechData(language="en", text="hi")])


class Fatal(BaseException):
    """What no plugin should raise."""


class Answer(llm.LLMStream):
    feeding = ()

    def item(self):
        return CHUNK

    def say(self, _emitter):
        self._event_ch.send_nowait(CHUNK)


class Request(tts.ChunkedStream):
    feeding = ()

    def item(self):
        return tts.SynthesizedAudio(frame=SOUND, request_id="r")

    def say(self, emitter):
        if not emitter._started:
            emitter.initialize(request_id="r", sample_rate=24_000, num_channels=1, mime_type="audio/pcm")
        emitter.push(bytes(9600))


class Speech(tts.SynthesizeStream):
    feeding = (("push_text", "hello"), ("push_text", " there"), ("end_input",))
    item = Request.item

    def say(self, emitter):
        if not emitter._started:
            sound = {"sample_rate": 24_000, "num_channels": 1, "mime_type": "audio/pcm"}
            emitter.initialize(request_id="r", stream=True, **sound)
            emitter.start_segment(segment_id="s")
            self._mark_started()
        emitter.push(bytes(9600))


class Hearing(stt.RecognizeStream):
    feeding = (("push_frame", SOUND), ("push_frame", SOUND), ("end_input",))

    def item(self):
        return WORDS

    def say(self, _emitter):
        self._event_ch.send_nowait(WORDS)


class Plugin:
    """A stream that does its work in `work`, which every misbehaviour below replaces or surrounds."""

    async def _run(self, emitter=None):
        await self.work(partial(self.say, emitter))

    async def work(self, say):
        say()
        await asyncio.sleep(0.5)
        say()


class Raises(Plugin):
    async def work(self, _say):
        raise ValueError("a plugin's own")


class RaisesLate(Plugin):
    async def work(self, say):
        say()
        await asyncio.sleep(0.5)
        raise TypeError("a plugin's own")


class NeverConnects(Plugin):
    async def work(self, _say):
        raise APIConnectionError("down")


class BreaksOnce(Plugin):
    attempts = 0

    async def work(self, say):
        self.attempts += 1
        await super().work(say)
        if self.attempts == 1:
            raise APIStatusError("overloaded", status_code=503)


class IsGone(Plugin):
    async def work(self, _say):
        raise APIStatusError("gone", status_code=499)


class Dies(Plugin):
    async def work(self, say):
        say()
        raise Fatal("not an exception")


class StopsIterating(Plugin):
    async def work(self, _say):
        raise StopAsyncIteration("over")


class StopsAnIterator(Plugin):
    async def work(self, _say):
        raise StopIteration("over")


class Hangs(Plugin):
    async def work(self, say):
        say()
        await asyncio.get_running_loop().create_future()


class Clings(Plugin):
    async def work(self, say):
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            say()
        await super().work(say)


class ClosesItsChannel(Plugin):
    async def work(self, say):
        say()
        self._event_ch.close()
        self._event_ch.send_nowait(self.item())


class SendsByName(Plugin):
    async def work(self, _say):
        self._event_ch.send_nowait(value=self.item())
        await self._event_ch.send(value=self.item())


class SendsAfterwards(Plugin):
    async def work(self, say):
        await super().work(say)
        asyncio.get_running_loop().call_later(1, self._event_ch.send_nowait, self.item())


class Forwarding:
    """A channel in front of LiveKit's, without room for attributes."""

    __slots__ = ("channel",)

    def __init__(self, channel):
        self.channel = channel

    def __getattr__(self, name):
        return getattr(self.channel, name)


class HasItsOwnChannel(Plugin):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._event_ch = Forwarding(self._event_ch)


class SwapsItsChannel(Plugin):
    async def work(self, say):
        say()
        self._event_ch = Forwarding(self._event_ch)
        await super().work(say)


class ShadowsItself(Plugin):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._run = partial(type(self)._run, self)
        self._event_ch.send_nowait = self._event_ch.send_nowait


class MonitorRaises(Plugin):
    async def _metrics_monitor_task(self, _events):
        raise ValueError("a plugin's own monitor")


class MonitorForwards(Plugin):
    async def _metrics_monitor_task(self, events):
        await super()._metrics_monitor_task(events)


class CloseRaises(Plugin):
    async def aclose(self):
        await super().aclose()
        raise ValueError("closing")


class RefusesAttributes(Plugin):
    def __setattr__(self, name, value):
        if "costmeter" in name or name == "_run":
            raise TypeError("this plugin knows its attributes")
        super().__setattr__(name, value)


class CannotBeHashed(Plugin):
    __hash__ = None

    def __eq__(self, other):
        return True


class MissesNothing(Plugin):
    def __getattr__(self, name):
        raise ValueError("no such attribute, says this plugin")


class Llm(llm.LLM):
    def __init__(self, kind):
        super().__init__()
        self.open = self.chat = partial(kind, self, chat_ctx=llm.ChatContext.empty(), tools=[], conn_options=PATIENT)

    def chat(self, **_): ...


class Tts(tts.TTS):
    def __init__(self, kind):
        super().__init__(capabilities=tts.TTSCapabilities(streaming=True), sample_rate=24_000, num_channels=1)
        text = {"input_text": "hello there"} if issubclass(kind, Request) else {}
        self.open = partial(kind, tts=self, conn_options=PATIENT, **text)

    def synthesize(self, *_, **__): ...


class Stt(stt.STT):
    def __init__(self, kind):
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=False))
        self.open = partial(kind, stt=self, conn_options=PATIENT)

    async def _recognize_impl(self, *_, **__): ...


KINDS = {Answer: Llm, Request: Tts, Speech: Tts, Hearing: Stt}
