"""Model names in the source of installed plugins."""

from livekit_costmeter.pricing.coverage.installed import InstalledModel, installed_models

SOURCE = """
from typing import Literal
raise RuntimeError("never imported")
TTSModels = Literal["voice-1", "voice-2"]
STTModels = Literal["ear-1"] | TTSModels
TogetherChatModels = Literal["llama"]
TTSEncoding = Literal["pcm"]
"""


def test_names_are_read_without_running_the_plugin(tmp_path):
    """Literal types of models are found by their name, with the vendor in it; other literals are not models."""
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "models.py").write_text(SOURCE)
    assert installed_models([tmp_path]) == [
        InstalledModel("acme", "tts", "voice-1", "acme"),
        InstalledModel("acme", "tts", "voice-2", "acme"),
        InstalledModel("acme", "stt", "ear-1", "acme"),
        InstalledModel("acme", "llm", "llama", "together"),
    ]


def test_a_file_that_cannot_be_parsed_is_logged(tmp_path, caplog):
    """A broken plugin takes nothing else with it."""
    for name, text in (("broken", "def ("), ("fine", 'TTSModels = Literal["v"]')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "models.py").write_text(text)
    assert [model.plugin for model in installed_models([tmp_path])] == ["fine"]
    assert "broken" in caplog.text


def test_the_installed_plugins_are_found():
    """The OpenAI, Deepgram and Cartesia plugins declare models that are found under their vendors."""
    found = {(model.vendor, model.component, model.model) for model in installed_models()}
    assert {("deepgram", "stt", "nova-3"), ("cartesia", "tts", "sonic-3"), ("openai", "llm", "gpt-4o")} <= found
