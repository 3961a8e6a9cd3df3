"""From metrics objects to disjoint units."""

from __future__ import annotations

from livekit.agents.metrics import LLMMetrics, RealtimeModelMetrics, STTMetrics, TTSMetrics

from livekit_costmeter.metering.readers import read_llm, read_realtime, read_stt, read_tts, seconds_text, silent


class NewestLLMMetrics(LLMMetrics):
    """Has the fields that the newest LiveKit has, whichever is installed."""

    cache_creation_tokens: int = 0
    reasoning_tokens: int = 0


class NewestSTTMetrics(STTMetrics):
    """Has the fields that the newest LiveKit has, whichever is installed."""

    input_audio_tokens: int = 0


def llm_metrics(**changes):
    values = {
        "label": "l", "request_id": "r", "timestamp": 100.0, "duration": 2.0, "ttft": 0.1, "cancelled": False,
        "completion_tokens": 30, "prompt_tokens": 100, "prompt_cached_tokens": 0, "total_tokens": 130,
        "tokens_per_second": 15.0,
    }  # fmt: skip
    return NewestLLMMetrics(**{**values, **changes})


def stt_metrics(**changes):
    values = {
        "label": "l", "request_id": "r", "timestamp": 1.0, "duration": 0.0, "audio_duration": 0.0, "streamed": False,
    }  # fmt: skip
    return NewestSTTMetrics(**{**values, **changes})


def tts_metrics(**changes):
    values = {
        "label": "l", "request_id": "r", "timestamp": 1.0, "ttfb": 0.1, "duration": 1.0, "audio_duration": 1.5,
        "cancelled": False, "characters_count": 21, "streamed": True,
    }  # fmt: skip
    return TTSMetrics(**{**values, **changes})


def realtime_metrics(inputs, **changes):
    details = RealtimeModelMetrics.InputTokenDetails(**inputs)
    outputs = RealtimeModelMetrics.OutputTokenDetails(text_tokens=5, audio_tokens=15)
    values = {"request_id": "r", "timestamp": 1.0, "duration": 3.0, "input_tokens": 100, "output_tokens": 20}
    return RealtimeModelMetrics(
        **{**values, "input_token_details": details, "output_token_details": outputs, **changes}
    )


def test_cached_written_and_reasoning_tokens_are_taken_out_of_their_parents():
    """A token is counted in one unit only: the parts of prompt and completion add up to them."""
    reading = read_llm(llm_metrics(prompt_cached_tokens=40, cache_creation_tokens=10, reasoning_tokens=12))
    assert reading["quantities"] == {
        "input_tokens": "50",
        "cached_input_tokens": "40",
        "cache_write_tokens": "10",
        "output_tokens": "18",
        "reasoning_tokens": "12",
    }
    assert set(reading["basis"].values()) == {"reported"}


def test_a_cancelled_call_is_interrupted():
    """What LiveKit cancelled keeps its tokens and is told apart."""
    assert read_llm(llm_metrics(cancelled=True))["outcome"] == "interrupted"


def test_a_call_without_usage_is_one_request_and_not_zero_tokens():
    """Where the provider said nothing, no token count is claimed."""
    event = llm_metrics(prompt_tokens=0, completion_tokens=0, total_tokens=0)
    assert read_llm(event) is None
    assert silent(event)["quantities"] == {"requests": "1"}


def test_transcription_tokens_are_audio():
    """A plugin that forwards only totals means audio, which has another price than text."""
    reading = read_stt(stt_metrics(audio_duration=1.8, input_tokens=11, output_tokens=5))
    assert reading["quantities"] == {"input_audio_tokens": "11", "output_tokens": "5", "audio_seconds": "1.8"}


def test_a_reported_split_of_transcription_tokens_is_kept():
    """Where audio tokens are reported, the rest of the input is its text prompt."""
    reading = read_stt(stt_metrics(input_tokens=11, input_audio_tokens=8, output_tokens=5))
    assert reading["quantities"] == {"input_audio_tokens": "8", "input_tokens": "3", "output_tokens": "5"}


def test_speech_synthesis_tokens_are_text_in_and_audio_out():
    """Token-billed speech keeps all three measures of the same work."""
    reading = read_tts(tts_metrics(input_tokens=8, output_tokens=39))
    assert reading["quantities"] == {
        "input_tokens": "8",
        "output_audio_tokens": "39",
        "characters": "21",
        "output_audio_seconds": "1.5",
    }
    assert reading["basis"]["output_audio_tokens"] == "reported"
    assert reading["basis"]["characters"] == "observed"


def test_realtime_tokens_split_by_modality_and_cache():
    """Text, audio and image tokens, cached or not, are disjoint and add up to the totals."""
    cached = RealtimeModelMetrics.CachedTokenDetails(text_tokens=10, audio_tokens=20, image_tokens=2)
    reading = read_realtime(
        realtime_metrics(
            {
                "text_tokens": 30,
                "audio_tokens": 60,
                "image_tokens": 10,
                "cached_tokens": 32,
                "cached_tokens_details": cached,
            }
        )
    )
    assert reading["quantities"] == {
        "input_tokens": "20",
        "cached_input_tokens": "10",
        "input_audio_tokens": "40",
        "cached_input_audio_tokens": "20",
        "input_image_tokens": "8",
        "cached_input_image_tokens": "2",
        "output_tokens": "5",
        "output_audio_tokens": "15",
    }


def test_cached_realtime_tokens_without_details_are_taken_for_text_first():
    """Without a split of the cached tokens, none is lost and none exceeds its modality."""
    reading = read_realtime(realtime_metrics({"text_tokens": 30, "audio_tokens": 70, "cached_tokens": 50}))
    assert reading["quantities"]["cached_input_tokens"] == "30"
    assert reading["quantities"]["cached_input_audio_tokens"] == "20"
    assert reading["quantities"]["input_audio_tokens"] == "50"
    assert "input_tokens" not in reading["quantities"]


def test_session_billed_realtime_reports_seconds():
    """Models billed by session time yield session seconds, as increments of the session."""
    reading = read_realtime(realtime_metrics({}, input_tokens=0, output_tokens=0, session_duration=12.25,
                                    output_token_details=RealtimeModelMetrics.OutputTokenDetails()))  # fmt: skip
    assert reading["quantities"] == {"session_seconds": "12.25"}
    assert reading["basis"] == {"session_seconds": "observed"}


def test_objects_without_usage_are_no_readings():
    """Connection timings cost nothing."""
    assert read_stt(stt_metrics(acquire_time=0.2)) is None
    assert read_tts(tts_metrics(characters_count=0, audio_duration=0.0)) is None


def test_durations_are_written_plainly():
    """No exponent and no binary noise reaches a record."""
    assert [seconds_text(value) for value in (0.1 + 0.2, 5.0, 0.000001, 3600.5)] == ["0.3", "5", "0.000001", "3600.5"]
