"""
What cases are made of: components on the simulated providers, an ear for voice activity, texts, agents.

Invariant: the same arguments give the same call; a component talks to the providers it is given and to nothing else.
"""

from __future__ import annotations

import time
from dataclasses import replace

from livekit.agents import APIConnectOptions
from livekit.agents import vad as lk_vad
from livekit.agents.voice.agent_session import SessionConnectOptions
from livekit.plugins import anthropic, cartesia, deepgram, openai

from livekit_costmeter.testing.audio import is_speech

MODEL = "gpt-4o-mini"
OTHER_MODEL = "gpt-4.1-mini"
REASONER = "o4-mini"
RESPONDER = "gpt-4.1"
INSTRUCTIONS = (
    "You are the friendly voice assistant of a small telephone company. You answer questions about opening hours, "
    "contracts, and invoices in short sentences, and you ask for the customer number whenever you need it."
)
QUESTION = "Could you please tell me when your office in the old town is open this week, and whether I need a ticket?"
SHORT = "Of course. We are open from nine to five on every working day, and you do not need a ticket at all."
LONG = (
    "Let me read you the complete list of our opening hours, one day after the other. "
    "On Monday we open at eight in the morning and we close at six in the evening. "
    "On Tuesday we open a little later, at nine, and stay until seven for working customers. "
    "On Wednesday the office remains closed, but the telephone line is answered as usual. "
    "On Thursday and Friday we are there from eight until five with a short break at noon. "
    "At the weekend you can reach us by mail, and somebody will answer you on Monday."
)


def gpt(providers, model=MODEL, *, key="key-llm", **options):
    """Return a chat model on those providers."""
    return openai.LLM(model=model, client=providers.openai_client(key), **options)


class Claude(anthropic.LLM):
    """A chat model that goes by its vendor's name although it is asked elsewhere."""

    @property
    def provider(self):
        """Return the host that would be asked."""
        return "api.anthropic.com"

    async def aclose(self):
        """Close the client too, which the plugin leaves open."""
        await super().aclose()
        await self._client.close()


def claude(providers):
    """Return Anthropic's chat model on those providers."""
    return Claude(model="claude-haiku-4-5", base_url=providers.anthropic_url, api_key="key-llm")


def gateway(providers):
    """Return how LiveKit's gateway is reached."""
    secret = "a made-up secret of thirty-two letters"
    return {"base_url": providers.inference_url, "api_key": "key-gateway", "api_secret": secret}


def nova(providers, *, key="key-stt", **options):
    """Return a streaming recogniser on those providers."""
    return deepgram.STT(base_url=providers.deepgram_url, api_key=key, **options)


def sonic(providers, *, key="key-tts", **options):
    """Return a streaming voice on those providers."""
    return cartesia.TTS(base_url=providers.cartesia_url, api_key=key, **options)


def voice_of_openai(providers, model="gpt-4o-mini-tts", *, key="key-tts"):
    """Return a voice that synthesizes a sentence per request."""
    return openai.TTS(model=model, client=providers.openai_client(key))


class Realtime(openai.realtime.RealtimeModel):
    """A speech-to-speech model that goes by its vendor's name although it is asked elsewhere."""

    @property
    def provider(self):
        """Return the host that would be asked."""
        return "api.openai.com"


def realtime(providers, *, key="key-realtime", **options):
    """Return a speech-to-speech model on those providers."""
    return Realtime(model="gpt-realtime", base_url=providers.realtime_url, api_key=key, **options)


def parts(providers):
    """Return the components of an ordinary call."""
    return {"llm": gpt(providers), "stt": nova(providers), "tts": sonic(providers)}


def patience(*, llm=10.0, retries=3):
    """Return how long a session waits for its providers; retries follow at once."""
    options = APIConnectOptions(max_retry=retries, retry_interval=0.05, timeout=llm)
    others = APIConnectOptions(max_retry=retries, retry_interval=0.05)
    return SessionConnectOptions(llm_conn_options=options, stt_conn_options=others, tts_conn_options=others)


class Ear(lk_vad.VAD):
    """Voice activity by loudness; `silence` is how many seconds of quiet end an utterance."""

    def __init__(self, *, silence=0.4):
        super().__init__(capabilities=lk_vad.VADCapabilities(update_interval=0.02))
        self.silence = silence

    def stream(self):
        """Return a stream of its own."""
        return _Hearing(self)


class _Hearing(lk_vad.VADStream):
    async def _main_task(self):
        state = _Utterance()
        async for frame in self._input_ch:
            if isinstance(frame, self._FlushSentinel):
                state = _Utterance()
                continue
            for event in state.hear(frame, self._vad.silence):
                self._event_ch.send_nowait(event)


class _Utterance:
    def __init__(self):
        self.frames, self.loud, self.quiet, self.samples = [], 0.0, 0.0, 0

    def hear(self, frame, silence):
        """Take a frame and tell what it means."""
        loud = is_speech(bytes(frame.data))
        self.samples += frame.samples_per_channel
        if not loud and not self.frames:
            return [self._event(lk_vad.VADEventType.INFERENCE_DONE)]
        events = [] if self.frames else [lk_vad.VADEventType.START_OF_SPEECH]
        self.frames.append(frame)
        self.loud, self.quiet = (self.loud + frame.duration, 0.0) if loud else (self.loud, self.quiet + frame.duration)
        told = [self._event(kind) for kind in (*events, lk_vad.VADEventType.INFERENCE_DONE)]
        if self.quiet >= silence:
            told.append(replace(self._event(lk_vad.VADEventType.END_OF_SPEECH), speaking=False))
            self.frames, self.loud, self.quiet = [], 0.0, 0.0
        return told

    def _event(self, kind):
        return lk_vad.VADEvent(
            type=kind,
            samples_index=self.samples,
            timestamp=time.time(),
            speech_duration=self.loud,
            silence_duration=self.quiet,
            frames=list(self.frames) if kind is not lk_vad.VADEventType.INFERENCE_DONE else [],
            speaking=bool(self.frames),
            raw_accumulated_silence=self.quiet,
            raw_accumulated_speech=self.loud if not self.quiet else 0.0,
        )
