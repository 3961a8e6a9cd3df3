"""Cartesia's recognition, simulated, with the real plugin as the client."""

import pytest
from livekit.agents.stt import SpeechEventType
from livekit.plugins import cartesia

from livekit_costmeter.testing import ListenScript, LoopbackProviders, Script
from livekit_costmeter.testing.audio import silence, tone

RATE = 16_000


@pytest.mark.parametrize("model", ["ink-2", "ink-whisper"])
async def test_both_models_hear_and_are_billed_seconds(frames, model):
    """A spoken utterance comes back as the script's transcript, and the audio is billed to the sample."""
    pcm = tone(RATE, RATE) + silence(RATE)
    async with LoopbackProviders(Script(cartesia_stt=ListenScript(transcripts=["Good evening."]))) as providers:
        ear = cartesia.STT(
            model=model, base_url=providers.cartesia_url, api_key="key-a", http_session=providers.http_session
        )
        stream = ear.stream()
        for frame in frames(pcm):
            stream.push_frame(frame)
        events = []
        async for event in stream:
            events.append(event)
            if event.type == SpeechEventType.END_OF_SPEECH:
                # Ended before it has begun, the plugin's stream would drop what was pushed.
                stream.end_input()
        await stream.aclose()
        await providers.ledger.settled()
    finals = [e.alternatives[0].text for e in events if e.type == SpeechEventType.FINAL_TRANSCRIPT]
    assert finals == ["Good evening."]
    (entry,) = providers.ledger.entries
    assert (entry.provider, entry.model, entry.outcome) == ("cartesia", model, "completed")
    assert entry.quantities["audio_seconds"] == 2
