"""Providers and models in one spelling."""

import pytest

from livekit_costmeter.pricing.providers import identify

REPORTED = [
    ("api.anthropic.com", "anthropic"),
    ("AssemblyAI", "assemblyai"),
    ("AsyncAI", "asyncai"),
    ("AWS Bedrock", "aws"),
    ("Amazon Transcribe", "aws"),
    ("Amazon Polly", "aws"),
    ("Amazon", "aws"),
    ("Azure STT", "azure"),
    ("Azure TTS", "azure"),
    ("myres.openai.azure.com", "azure"),
    ("Baseten", "baseten"),
    ("Bland", "bland"),
    ("Camb.ai", "cambai"),
    ("Cartesia", "cartesia"),
    ("api.cerebras.ai", "cerebras"),
    ("Clova", "clova"),
    ("Deepgram", "deepgram"),
    ("ElevenLabs", "elevenlabs"),
    ("Fal", "fal"),
    ("FireworksAI", "fireworks"),
    ("FishAudio", "fishaudio"),
    ("Gladia", "gladia"),
    ("Gnani", "gnani"),
    ("Vertex AI", "google"),
    ("Gemini", "google"),
    ("Google Cloud Platform", "google"),
    ("Vertex AI Model Garden", "google"),
    ("Gradium", "gradium"),
    ("api.groq.com", "groq"),
    ("Groq", "groq"),
    ("Hume", "hume"),
    ("Inworld", "inworld"),
    ("LangChain", "langchain"),
    ("LMNT", "lmnt"),
    ("MiniMax", "minimax"),
    ("MistralAI", "mistral"),
    ("Murf", "murf"),
    ("Neuphonic", "neuphonic"),
    ("nvidia", "nvidia"),
    ("api.openai.com", "openai"),
    ("openai", "openai"),
    ("Perplexity", "perplexity"),
    ("api.perplexity.ai", "perplexity"),
    ("phonic", "phonic"),
    ("Resemble", "resemble"),
    ("Respeecher", "respeecher"),
    ("Rime", "rime"),
    ("RTZR", "rtzr"),
    ("Sarvam", "sarvam"),
    ("Simplismart", "simplismart"),
    ("SimpliSmart", "simplismart"),
    ("SLNG", "slng"),
    ("SmallestAI", "smallestai"),
    ("Soniox", "soniox"),
    ("Speechify", "speechify"),
    ("Speechmatics", "speechmatics"),
    ("Spitch", "spitch"),
    ("telnyx", "telnyx"),
    ("Ultravox", "ultravox"),
    ("xAI", "x-ai"),
    ("api.x.ai", "x-ai"),
    ("livekit", "livekit"),
    ("api.cometapi.com", "cometapi"),
    ("api.deepseek.com", "deepseek"),
    ("api.fireworks.ai", "fireworks"),
    ("api.letta.com", "letta"),
    ("api.studio.nebius.com", "nebius"),
    ("text.octoai.run", "octoai"),
    ("openrouter.ai", "openrouter"),
    ("oai.endpoints.kepler.ai.cloud.ovh.net", "ovhcloud"),
    ("api.sambanova.ai", "sambanova"),
    ("api.telnyx.com", "telnyx"),
    ("api.together.xyz", "together"),
    ("Bandwidth", "bandwidth"),
    ("Exotel", "exotel"),
    ("Plivo", "plivo"),
    ("SignalWire", "signalwire"),
    ("Twilio", "twilio"),
    ("Vobiz", "vobiz"),
    ("Vonage", "vonage"),
    ("webrtc", "webrtc"),
]


@pytest.mark.parametrize(("reported", "provider"), REPORTED)
def test_every_reported_provider_has_one_canonical_id(reported, provider):
    """Whatever a plugin reports, in any case and with surrounding space, gives the catalogs' vendor id."""
    assert identify("llm", reported, "m").provider == provider
    assert identify("llm", f" {reported.upper()} ", "m").provider == provider


@pytest.mark.parametrize("provider", sorted({provider for _, provider in REPORTED}))
def test_a_canonical_id_stays_what_it_is(provider):
    """Identifying twice changes nothing, so that records may carry either spelling."""
    assert identify("llm", provider, "m").provider == provider


@pytest.mark.parametrize(
    ("reported", "provider"),
    [
        ("https://api.groq.com/openai/v1", "groq"),
        ("wss://api.x.ai/v1/realtime", "x-ai"),
        ("myres.openai.azure.com:443", "azure"),
        ("eu.api.openai.com", "openai"),
        ("https://user:secret@api.openai.com/v1", "openai"),
        ("bedrock-runtime.us-east-1.amazonaws.com", "aws"),
        ("us-central1-aiplatform.googleapis.com", "google"),
        ("agent-gateway.livekit.cloud", "livekit"),
    ],
)
def test_a_host_belongs_to_the_vendor_whose_domain_it_ends_with(reported, provider):
    """Ports, schemes, paths, regions and user names do not hide a vendor's host."""
    assert identify("llm", reported, "m").provider == provider


@pytest.mark.parametrize(
    "host",
    [
        "openai-proxy.corp.local",
        "my-openai-gateway:8000",
        "api.openai.com.evil.example",
        "notopenai.com",
        "127.0.0.1:8000",
    ],
)
def test_a_host_that_merely_looks_like_a_vendor_is_nobody(host):
    """A host is matched on whole domain labels, never on a part of its text."""
    identity = identify("llm", host, "gpt-4o")
    assert (identity.provider, identity.reason) == (host, "unknown_host")


def test_a_secret_in_a_url_is_not_kept():
    """The user name and password of an unknown host's URL do not become part of the provider."""
    assert identify("llm", "https://user:hunter2@llm.corp.example/v1", "m").provider == "llm.corp.example"


@pytest.mark.parametrize("host", ["localhost:11434", "127.0.0.1:11434", "http://ollama:11434/v1", "[::1]:11434"])
def test_the_port_of_ollama_means_self_hosted(host):
    """A model behind Ollama's port runs on the user's machine."""
    identity = identify("llm", host, "llama3.1")
    assert (identity.provider, identity.reason) == ("ollama", "self_hosted")


@pytest.mark.parametrize(
    ("label", "provider"),
    [
        ("livekit.plugins.xai.stt.STT", "x-ai"),
        ("livekit.plugins.nvidia.stt.STT", "nvidia"),
        ("livekit.plugins.upliftai.tts.TTS", "upliftai"),
        ("livekit.plugins.brandnew.tts.TTS", "brandnew"),
        ("livekit.agents.inference.stt.STT", "livekit"),
        ("myapp.voices.OwnTTS", "unknown"),
        ("", "unknown"),
    ],
)
def test_an_unknown_provider_is_named_by_its_plugin(label, provider):
    """Where the plugin reports no provider, its module does; anything else stays unknown."""
    assert identify("tts", "unknown", "unknown", label).provider == provider


@pytest.mark.parametrize(
    ("component", "reported", "model", "canonical"),
    [
        ("stt", "Azure STT", "unknown", "stt-standard"),
        ("stt", "Amazon Transcribe", "unknown", "transcribe"),
        ("tts", "Amazon Polly", "generative", "polly-generative"),
        ("tts", "Azure TTS", "eastus:en-US-JennyNeural", "tts-neural"),
        ("tts", "Azure TTS", "eastus:en-US-Ava:DragonHDLatestNeural", "tts-neural-hd"),
        ("stt", "xai", "unknown", "grok-stt"),
        ("tts", "xAI", "unknown", "grok-tts"),
        ("tts", "Speechmatics", "unknown", "tts"),
        ("stt", "Gradium", "unknown", "default"),
        ("stt", "AssemblyAI", "u3-pro", "universal-3-5-pro"),
        ("tts", "Neuphonic", "Octave", "unknown"),
        ("tts", "Bland", "unknown", "unknown"),
        ("llm", "LangChain", None, "unknown"),
        ("llm", "livekit", "openai/gpt-4o", "openai/gpt-4o"),
        ("stt", "Deepgram", "nova-3", "nova-3"),
    ],
)
def test_a_model_is_named_only_where_there_is_no_doubt(component, reported, model, canonical):
    """`unknown` becomes a product where the plugin sells only one; a gateway model keeps its vendor."""
    assert identify(component, reported, model).model == canonical
