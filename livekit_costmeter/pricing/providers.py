"""
Who did the work, in one spelling: canonical provider and model from whatever a plugin reports.

Invariant: pure, table-driven and total. Every input gives an `Identity`, nothing is guessed: a host matches a vendor
only on whole domain labels (`openai-proxy.corp.local` is not OpenAI), and a model that cannot be known stays
`unknown`. Canonical ids are the lower-case vendor ids of the price catalogs (`x-ai`, `mistral`, `aws`); the inference
gateway stays provider `livekit` with model `vendor/model`, because its prices are not the vendor's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from livekit_costmeter.records import UNKNOWN

Reason = Literal["name", "host", "label", "self_hosted", "unknown_host", "unknown_name", "unknown"]

# One row per vendor: the names and plugin modules it goes by, and the domains it owns.
_VENDORS: Mapping[str, tuple[str, ...]] = {
    "anthropic": ("anthropic.com",),
    "assemblyai": ("assemblyai.com",),
    "asyncai": ("async.ai", "async.com"),
    "aws": ("aws bedrock", "amazon bedrock", "amazon transcribe", "amazon polly", "amazon", "bedrock", "amazonaws.com"),
    "azure": (
        "azure stt",
        "azure tts",
        "azure openai",
        "openai.azure.com",
        "services.ai.azure.com",
        "cognitiveservices.azure.com",
        "speech.microsoft.com",
    ),
    "bandwidth": ("bandwidth.com",),
    "baseten": ("baseten.co",),
    "bland": ("bland.ai",),
    "cambai": ("camb.ai",),
    "cartesia": ("cartesia.ai",),
    "cerebras": ("cerebras.ai",),
    "clova": ("naver clova", "clovaspeech-gw.ncloud.com", "ncloud.com"),
    "cometapi": ("cometapi.com",),
    "deepgram": ("deepgram.com",),
    "deepseek": ("deepseek.com",),
    "elevenlabs": ("eleven labs", "elevenlabs.io"),
    "exotel": ("exotel.com",),
    "fal": ("fal.ai", "fal.run"),
    "fireworks": ("fireworksai", "fireworks-ai", "fireworks.ai"),
    "fishaudio": ("fish audio", "fish.audio"),
    "gladia": ("gladia.io",),
    "gnani": ("gnani.ai", "vachana.ai"),
    "google": (
        "gemini",
        "google cloud platform",
        "vertex ai",
        "vertex ai model garden",
        "vertexai",
        "googleapis.com",
    ),
    "gradium": ("gradium.ai",),
    "groq": ("groq.com",),
    "hume": ("hume.ai",),
    "inworld": ("inworld.ai",),
    "langchain": (),
    "letta": ("letta.com",),
    "livekit": ("inference", "livekit.cloud"),
    "lmnt": ("lmnt.com",),
    "minimax": ("minimax.io", "minimaxi.com", "minimax.chat"),
    "mistral": ("mistralai", "mistral ai", "mistral.ai"),
    "moonshotai": ("moonshot", "moonshot.ai", "moonshot.cn"),
    "murf": ("murf.ai",),
    "nebius": ("nebius.com",),
    "neuphonic": ("neuphonic.com",),
    "nvidia": ("nvidia.com",),
    "octoai": ("octoai.run",),
    "openai": ("openai.com",),
    "openrouter": ("openrouter.ai",),
    "ovhcloud": ("ovh", "cloud.ovh.net"),
    "perplexity": ("perplexity.ai",),
    "phonic": ("phonic.co",),
    "plivo": ("plivo.com",),
    "resemble": ("resemble.ai",),
    "respeecher": ("respeecher.com",),
    "rime": ("rime.ai",),
    "rtzr": ("rtzr.ai",),
    "sambanova": ("sambanova.ai",),
    "sarvam": ("sarvam.ai",),
    "signalwire": ("signalwire.com",),
    "simplismart": ("simplismart.ai", "simplismart.live"),
    "slng": ("slng.ai",),
    "smallestai": ("smallest.ai",),
    "soniox": ("soniox.com",),
    "speechify": ("speechify.ai", "sws.speechify.com"),
    "speechmatics": ("speechmatics.com",),
    "spitch": ("spitch.app",),
    "telnyx": ("telnyx.com",),
    "together": ("together ai", "together_ai", "together.xyz", "together.ai"),
    "twilio": ("twilio.com",),
    "ultravox": ("ultravox.ai",),
    "upliftai": ("upliftai.org",),
    "vobiz": ("vobiz.ai",),
    "vonage": ("nexmo", "vonage.com"),
    "webrtc": (),
    "x-ai": ("xai", "x_ai", "x.ai"),
    "zai": ("z.ai",),
}
_NAMES: Mapping[str, str] = {name: vendor for vendor, names in _VENDORS.items() for name in (vendor, *names)}
_LOOPBACK = frozenset({"localhost", "::1", "0.0.0.0", "host.docker.internal"})  # noqa: S104  # compared, never bound
_OLLAMA_PORT = "11434"

# What the metrics leave out although the plugin sells only one thing, or name it as nobody else does.
_MODELS: Mapping[tuple[str, str, str], str] = {
    ("assemblyai", "stt", "u3-pro"): "universal-3-5-pro",
    ("aws", "stt", UNKNOWN): "transcribe",
    ("aws", "tts", "standard"): "polly-standard",
    ("aws", "tts", "neural"): "polly-neural",
    ("aws", "tts", "long-form"): "polly-long-form",
    ("aws", "tts", "generative"): "polly-generative",
    ("azure", "stt", UNKNOWN): "stt-standard",
    ("gradium", "stt", UNKNOWN): "default",
    ("gradium", "tts", UNKNOWN): "default",
    # The plugin reports another vendor's model name for every voice.
    ("neuphonic", "tts", "octave"): UNKNOWN,
    ("perplexity", "llm", "perplexity/sonar"): "sonar",
    ("perplexity", "llm", "perplexity/sonar-pro"): "sonar-pro",
    ("speechmatics", "tts", UNKNOWN): "tts",
    ("x-ai", "stt", UNKNOWN): "grok-stt",
    ("x-ai", "tts", UNKNOWN): "grok-tts",
}


@dataclass(frozen=True, slots=True)
class Identity:
    """A canonical provider and model, and how the provider was recognised."""

    provider: str
    model: str
    reason: Reason


@lru_cache(maxsize=4096)
def identify(
    component: str, reported_provider: str | None, reported_model: str | None, label: str | None = ""
) -> Identity:
    """Name the provider and model behind a component, whatever its plugin reports.

    Args:
        component: `stt`, `llm`, `tts`, `realtime`, ...
        reported_provider: A display name (`Google Cloud Platform`), a host with or without port
            (`api.groq.com`, `myres.openai.azure.com:443`), a URL, `livekit`, or `unknown`.
        reported_model: The plugin's model name, or `unknown`.
        label: The metrics label, `module.Class`; it decides where the provider is unknown.
    """
    provider, reason = _provider((reported_provider or "").strip(), label or "")
    return Identity(provider, _model(provider, component, (reported_model or "").strip()), reason)


def _provider(reported: str, label: str) -> tuple[str, Reason]:
    name = reported.lower()
    if name in ("", UNKNOWN):
        return _from_label(label)
    if name in _NAMES:
        return _NAMES[name], "name"
    if "." in name or ":" in name or name in _LOOPBACK:
        return _from_host(name)
    return name, "unknown_name"


def _from_label(label: str) -> tuple[str, Reason]:
    parts = label.lower().split(".")
    if parts[:2] == ["livekit", "plugins"] and len(parts) > 2:  # noqa: PLR2004  # livekit.plugins.<name>...
        return _NAMES.get(parts[2], parts[2]), "label"
    if parts[:3] == ["livekit", "agents", "inference"]:
        return "livekit", "label"
    return UNKNOWN, "unknown"


def _from_host(text: str) -> tuple[str, Reason]:
    netloc = text.split("://", 1)[-1].split("/", 1)[0].rsplit("@", 1)[-1]
    host, port = _split_port(netloc)
    labels = host.split(".")
    for start in range(len(labels) - 1):
        vendor = _NAMES.get(".".join(labels[start:]))
        if vendor is not None:
            return vendor, "host"
    if port == _OLLAMA_PORT:
        return "ollama", "self_hosted"
    return netloc or UNKNOWN, "unknown_host"


def _split_port(netloc: str) -> tuple[str, str]:
    if netloc.startswith("["):
        host, _, rest = netloc[1:].partition("]")
        return host, rest.removeprefix(":")
    if netloc.count(":") > 1:
        return netloc, ""
    host, _, port = netloc.partition(":")
    return host.rstrip("."), port


def _model(provider: str, component: str, reported: str) -> str:
    model = reported or UNKNOWN
    lowered = model.lower()
    known = _MODELS.get((provider, component, lowered))
    if known is not None:
        return known
    if provider == "azure" and component == "tts" and ":" in lowered:
        return _azure_voice(lowered)
    return UNKNOWN if lowered == UNKNOWN else model


def _azure_voice(lowered: str) -> str:
    # `<region>:<voice>`: the voice family is what is billed. HD voices cost more and have no catalog row.
    return "tts-neural-hd" if "dragonhd" in lowered else "tts-neural"
