"""Every kind of component that holds a key, at the addresses of the simulated providers or of the one that refuses."""

from __future__ import annotations

from livekit.agents import inference
from livekit.plugins import cartesia, deepgram, openai


def working(keys, providers, root):
    """Make each component with its own key; OpenAI's chat takes its key from the environment."""
    gateway = {"api_key": keys["inference"], "api_secret": keys["inference-secret"], "base_url": f"{root}/v1"}
    loopback = {**gateway, "base_url": providers.openai_url}
    return {
        "openai-llm": openai.LLM(model="gpt-4o-mini", base_url=providers.openai_url),
        "openai-responses": openai.responses.LLM(
            model="gpt-4o-mini", base_url=f"{root}/v1", api_key=keys["openai-responses"], use_websocket=False
        ),
        "openai-realtime": openai.realtime.RealtimeModel(base_url=f"{root}/v1", api_key=keys["openai-realtime"]),
        "openai-stt": openai.STT(model="whisper-1", base_url=providers.openai_url, api_key=keys["openai-stt"]),
        "openai-tts": openai.TTS(model="tts-1", base_url=providers.openai_url, api_key=keys["openai-tts"]),
        "deepgram-stt": deepgram.STT(base_url=providers.deepgram_url, api_key=keys["deepgram-stt"]),
        "deepgram-sttv2": deepgram.STTv2(base_url=providers.deepgram_flux_url, api_key=keys["deepgram-sttv2"]),
        "deepgram-tts": deepgram.TTS(base_url=f"{root}/v1/speak", api_key=keys["deepgram-tts"]),
        "cartesia-stt": cartesia.STT(base_url=providers.cartesia_url, api_key=keys["cartesia-stt"]),
        "cartesia-tts": cartesia.TTS(base_url=providers.cartesia_url, api_key=keys["cartesia-tts"]),
        "inference-llm": inference.LLM("openai/gpt-4o-mini", **loopback),
        "inference-stt": inference.STT("deepgram/nova-3", language="en", **gateway),
        "inference-tts": inference.TTS("cartesia/sonic-2", voice="v", **gateway),
    }


def refused(keys, root):
    """Make each component at the provider that refuses and quotes."""
    base = f"{root}/refuse"
    gateway = {"api_key": keys["inference"], "api_secret": keys["inference-secret"], "base_url": base}
    socket = base.replace("http", "ws", 1)
    return {
        "openai-llm": openai.LLM(model="gpt-4o-mini", base_url=base, max_retries=0),
        "openai-responses": openai.responses.LLM(
            model="gpt-4o-mini", base_url=base, api_key=keys["openai-responses"], use_websocket=False
        ),
        "openai-realtime": openai.realtime.RealtimeModel(base_url=f"{base}/realtime", api_key=keys["openai-realtime"]),
        "openai-stt": openai.STT(model="whisper-1", base_url=base, api_key=keys["openai-stt"]),
        "openai-tts": openai.TTS(model="tts-1", base_url=base, api_key=keys["openai-tts"]),
        "deepgram-stt": deepgram.STT(base_url=socket, api_key=keys["deepgram-stt"]),
        "deepgram-sttv2": deepgram.STTv2(base_url=socket, api_key=keys["deepgram-sttv2"]),
        "deepgram-tts": deepgram.TTS(base_url=base, api_key=keys["deepgram-tts"]),
        "cartesia-stt": cartesia.STT(base_url=base, api_key=keys["cartesia-stt"]),
        "cartesia-tts": cartesia.TTS(base_url=base, api_key=keys["cartesia-tts"]),
        "inference-llm": inference.LLM("openai/gpt-4o-mini", **gateway),
        "inference-stt": inference.STT("deepgram/nova-3", language="en", **gateway),
        "inference-tts": inference.TTS("cartesia/sonic-2", voice="v", **gateway),
    }
