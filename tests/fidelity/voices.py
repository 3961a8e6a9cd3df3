"""
Cases of text-to-speech: speech that is heard out, talked over, thrown away, cut off by the provider, said twice.

Invariant: a voice counts every character that it received; what a listener heard of it is of no account.
"""

from __future__ import annotations

from decimal import Decimal

from livekit.agents import tts as lk_tts
from livekit.plugins import cartesia

from livekit_costmeter.testing import Fault, Reply, VoiceScript
from tests.fidelity.case import Case
from tests.fidelity.parts import LONG, SHORT, Ear, parts, patience, sonic, voice_of_openai
from tests.fidelity.replies import agent, chat, close, eager, hesitate, two_halves

MARKED_UP = (
    "**Good news!** Your parcel 📦 has *arrived*. Here is what you need:\n\n- a valid passport\n- the pickup code\n\n"
    "Please bring both. See [our page](https://example.com/pickup) for more, or ask me — I am glad to help. 😀"
)


def slow(stage):
    """Return a voice that is made little faster than the call listens to it."""
    return VoiceScript(realtime_factor=1.25 * stage.speed)


class Chunkwise(cartesia.TTS):
    """A plugin that makes single requests out of a stream of its own, as some plugins do."""

    def synthesize(self, text, *, conn_options=lk_tts.tts.DEFAULT_API_CONNECT_OPTIONS):
        """Return a request that a stream serves."""
        return self._synthesize_with_stream(text, conn_options=conn_options)


async def _marked_up(stage):
    providers = await stage.providers(chat=chat(MARKED_UP))
    async with stage.call(**parts(providers), agent=agent()) as call:
        await call.turn()


async def _interrupted(stage):
    providers = await stage.providers(chat=chat(LONG, tokens_per_second=None), cartesia=slow(stage))
    async with stage.call(**parts(providers), agent=agent()) as call:
        await call.speak()
        await call.hear(1.0)
        await call.session.interrupt()


async def _say_interrupted(stage):
    providers = await stage.providers(cartesia=slow(stage))
    async with stage.call(tts=sonic(providers), agent=agent()) as call:
        call.session.say(LONG)
        await call.hear(1.0)
        await call.session.interrupt()


async def _barge_in(stage):
    providers = await stage.providers(chat=chat(LONG, SHORT, tokens_per_second=None), cartesia=slow(stage))
    turns = {"turn_detection": "vad", "endpointing": {"min_delay": 0.0, "max_delay": 0.0}}
    # An answer begun ahead is another case.
    handling = {**turns, "interruption": {"mode": "vad"}, "preemptive_generation": {"enabled": False}}
    async with stage.call(**parts(providers), agent=agent(), vad=Ear(), turn_handling=handling) as call:
        await call.speak()
        await call.barge_in(after=1.0)


async def _interrupted_after_synthesis(stage):
    providers = await stage.providers(cartesia=VoiceScript(realtime_factor=None))
    async with stage.call(tts=sonic(providers), agent=agent()) as call:
        call.session.say(LONG)
        await call.hear(1.0)
        await stage.until(lambda: bool(stage.ledger.select(component="tts")), "the end of the synthesis")
        await call.session.interrupt()


async def _premature_voice(stage):
    reply = chat(Reply(SHORT), tokens_per_second=1000.0)
    providers = await stage.providers(chat=reply, deepgram=two_halves(), cartesia=slow(stage))
    async with stage.call(**parts(providers), agent=agent(), **eager(stage, voice=True)) as call:
        await hesitate(stage, call, lambda: stage.seen("characters", "tts") >= len(SHORT))


async def _stream_closed_early(stage):
    providers = await stage.providers(cartesia=slow(stage))
    voice = stage.listen(sonic(providers))
    stream = voice.stream()
    stream.push_text(LONG)
    stream.flush()
    await stage.until_seen("characters", len(LONG) / 2)
    await anext(stream)
    await stream.aclose()
    await voice.aclose()


async def _sentences_interrupted(stage):
    providers = await stage.providers(speech=VoiceScript(realtime_factor=10.0))
    async with stage.call(tts=voice_of_openai(providers), agent=agent()) as call:
        call.session.say(LONG)
        await stage.until(lambda: bool(stage.ledger.select(component="tts")), "the first sentence")
        first = stage.seen("output_audio_seconds")
        await stage.until_seen("output_audio_seconds", first + 3)
        await call.session.interrupt()


async def _dropped(stage):
    providers = await stage.providers(cartesia=VoiceScript(realtime_factor=40.0, faults=[Fault(drop_after=2.0)]))
    async with stage.call(tts=sonic(providers), agent=agent(), conn_options=patience(retries=0)) as call:
        await call.session.say(LONG)


async def _errors_then_speech(stage):
    providers = await stage.providers(cartesia=VoiceScript(faults=[Fault(status=500)] * 2))
    async with stage.call(tts=sonic(providers), agent=agent(), conn_options=patience()) as call:
        await call.session.say(SHORT)


async def _fallback(stage):
    broken = await stage.providers(cartesia=VoiceScript(faults=[Fault(drop_after=0.0)]))
    working = await stage.providers()
    voices = [sonic(broken, model="sonic-2"), sonic(working, model="sonic-3")]
    adapter = lk_tts.FallbackAdapter(voices, max_retry_per_tts=0)
    async with stage.call(tts=adapter, agent=agent()) as call:
        await call.session.say(SHORT)
        await stage.until(lambda: len(stage.ledger.select(model="sonic-2")) == 2, "the probe")
        await stage.until_idle()
    await close(*voices)


async def _chunks_of_a_stream(stage):
    providers = await stage.providers()
    voice = stage.listen(Chunkwise(base_url=providers.cartesia_url, api_key="key-tts"))
    await voice.synthesize(SHORT).collect()
    await voice.aclose()


CASES = (
    Case("T1", "a reply with markup and emoji", _marked_up),
    Case("T2", "the voice is interrupted while it is made", _interrupted, {"tts": ("interrupted",)}),
    Case(
        "T8b",
        "a premature answer's voice is thrown away",
        _premature_voice,
        {"llm": ("completed", "discarded", "completed"), "tts": ("discarded", "completed")},
    ),
    Case("T9", "a fixed text is interrupted", _say_interrupted, {"tts": ("interrupted",)}),
    Case("B1", "the caller talks over the agent", _barge_in, {"tts": ("interrupted", "completed")}),
    Case("T3", "interrupted after the voice was made", _interrupted_after_synthesis),
    Case("T10", "a voice's stream is closed early", _stream_closed_early, {"tts": ("interrupted",)}),
    Case(
        "T4",
        "a voice that works by sentences is interrupted",
        _sentences_interrupted,
        {"tts": ("completed", "interrupted")},
        {"output_audio_tokens": Decimal(8)},
    ),
    Case("T5", "the voice's connection drops after two seconds", _dropped, {"tts": ("failed",)}),
    Case("T6", "two refusals, then speech", _errors_then_speech),
    Case("T7", "a voice falls back, and is probed later", _fallback, {"tts": ("failed", "completed", "probe")}),
    Case("T11", "single requests made out of a stream", _chunks_of_a_stream, {"tts": ("completed",)}),
)
