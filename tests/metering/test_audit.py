"""What LiveKit's own usage says of a session, in our units, and what the log says when it closes."""

import logging
from decimal import Decimal
from types import SimpleNamespace

import pytest
from livekit.agents.metrics import (
    InterruptionMetrics,
    LLMMetrics,
    ModelUsageCollector,
    RealtimeModelMetrics,
    STTMetrics,
    TTSMetrics,
)
from livekit.agents.metrics.base import Metadata

from livekit_costmeter.metering.audit import (
    Auditor,
    add_record,
    audit_fields,
    close_line,
    incomplete,
    livekit_usage,
)
from livekit_costmeter.records import LiveKitUsage, Recorded, Work, compare, is_audit, parse_usage, usage_json

COMMON = {"label": "x", "request_id": "r", "timestamp": 1.0, "duration": 1.0}


def collected(*events):
    """Return a session whose usage LiveKit's own collector made of these metrics."""
    collector = ModelUsageCollector()
    for event in events:
        collector.collect(event)
    return SimpleNamespace(usage=SimpleNamespace(model_usage=collector.flatten()))


def llm(provider="api.openai.com", model="gpt-4o-mini", **counts):
    """Return a language model's metrics."""
    fields = {"ttft": 0.1, "cancelled": False, "tokens_per_second": 1.0, "total_tokens": 0}
    fields |= {"completion_tokens": 0, "prompt_tokens": 0, "prompt_cached_tokens": 0}
    metadata = Metadata(model_provider=provider, model_name=model)
    return LLMMetrics(**{**COMMON, **fields, **counts}, metadata=metadata)


def realtime(cached_tokens_details=None, cached_tokens=0, **fields):
    """Return the metrics of a realtime response: 30 text and 20 audio tokens in, 4 and 16 out."""
    inputs = RealtimeModelMetrics.InputTokenDetails(
        audio_tokens=20,
        text_tokens=30,
        image_tokens=0,
        cached_tokens=cached_tokens,
        cached_tokens_details=cached_tokens_details,
    )
    outputs = RealtimeModelMetrics.OutputTokenDetails(text_tokens=4, audio_tokens=16, image_tokens=0)
    metadata = Metadata(model_provider="api.openai.com", model_name="gpt-realtime")
    counts = {"input_tokens": 50, "output_tokens": 20, "total_tokens": 70, "tokens_per_second": 1.0, "ttft": 0.1}
    details = {"input_token_details": inputs, "output_token_details": outputs, "cancelled": False}
    return RealtimeModelMetrics(**{**COMMON, **counts, **details, **fields}, metadata=metadata)


def units(session):
    """Return the units by component, as plain numbers."""
    return {row.component: {unit: str(amount) for unit, amount in row.units.items()} for row in livekit_usage(session)}


def record(**fields):
    """Return a usage record."""
    defaults = {
        "id": "seg-1",
        "at": "2026-11-20T12:00:00Z",
        "component": "llm",
        "provider": "openai",
        "model": "gpt-4o-mini",
        "reported_provider": "api.openai.com",
        "quantities": {"output_tokens": "20"},
        "session_id": "ses-1",
    }
    return parse_usage(usage_json({**defaults, **fields}))


@pytest.mark.skipif("reasoning_tokens" not in LLMMetrics.model_fields, reason="this LiveKit does not split so far")
def test_tokens_of_language_models_come_in_disjoint_units():
    """Cached, written and reasoning tokens are taken out of those that contain them."""
    event = llm(prompt_tokens=100, prompt_cached_tokens=60, cache_creation_tokens=10, completion_tokens=50)
    event.reasoning_tokens = 40
    assert units(collected(event, event)) == {
        "llm": {
            "input_tokens": "60",
            "cached_input_tokens": "120",
            "cache_write_tokens": "20",
            "output_tokens": "20",
            "reasoning_tokens": "80",
        }
    }


def test_tokens_of_realtime_models_come_by_modality():
    """LiveKit lists them among the language models; what has a modality is a realtime model's."""
    details = RealtimeModelMetrics.CachedTokenDetails(audio_tokens=5, text_tokens=10, image_tokens=0)
    event = realtime(details, 15, session_duration=2.5)
    assert units(collected(event)) == {
        "realtime": {
            "input_tokens": "20",
            "cached_input_tokens": "10",
            "input_audio_tokens": "15",
            "cached_input_audio_tokens": "5",
            "output_tokens": "4",
            "output_audio_tokens": "16",
            "session_seconds": "2.5",
        }
    }


def test_cached_tokens_of_unknown_modality_are_text_first():
    """As in what is recorded, so that the two sides agree."""
    found = units(collected(realtime(None, 35)))["realtime"]
    assert {unit: amount for unit, amount in found.items() if "input" in unit} == {
        "cached_input_tokens": "30",
        "input_audio_tokens": "15",
        "cached_input_audio_tokens": "5",
    }


def test_a_model_that_is_both_has_a_row_for_each():
    """The tokens without a modality are a language model's, under the same name."""
    found = units(collected(realtime(), llm(model="gpt-realtime", prompt_tokens=7, completion_tokens=3)))
    assert found["llm"] == {"input_tokens": "7", "output_tokens": "3"}
    assert found["realtime"]["output_audio_tokens"] == "16"


def test_speech_and_requests_are_translated():
    """Audio that a transcription model reads is audio tokens; durations are to the microsecond."""
    metadata = Metadata(model_provider="Deepgram", model_name="nova-3")
    stt = STTMetrics(**COMMON, audio_duration=9.95, streamed=True, input_tokens=11, output_tokens=5, metadata=metadata)
    tts = TTSMetrics(**COMMON, ttfb=0.1, audio_duration=0.1 + 0.2, cancelled=False, characters_count=73, streamed=True)
    interruption = InterruptionMetrics(
        timestamp=1.0, total_duration=1.0, prediction_duration=1.0, detection_delay=1.0, num_requests=3,
        num_interruptions=1, num_backchannels=0,
    )  # fmt: skip
    assert units(collected(stt, tts, interruption)) == {
        "stt": {"audio_seconds": "9.95", "input_audio_tokens": "11", "output_tokens": "5"},
        "tts": {"characters": "73", "output_audio_seconds": "0.3"},
        "interruption": {"requests": "3"},
    }


@pytest.mark.skipif("input_audio_tokens" not in STTMetrics.model_fields, reason="this LiveKit does not split so far")
def test_transcription_tokens_are_split_where_livekit_knows_how():
    """The rest of the input is the model's text prompt."""
    stt = STTMetrics(**COMMON, audio_duration=0.0, streamed=False, input_tokens=11, input_audio_tokens=8)
    assert units(collected(stt)) == {"stt": {"input_audio_tokens": "8", "input_tokens": "3"}}


def test_a_model_that_counted_nothing_is_listed_without_units():
    """An interrupted answer leaves a row of zeros: somebody worked, and nothing is known."""
    (row,) = livekit_usage(collected(llm(cancelled=True)))
    assert row == LiveKitUsage("llm", "api.openai.com", "gpt-4o-mini", {})


def test_names_are_those_of_the_records():
    """Credentials in an address are left out, and a missing name is `unknown`."""
    (row,) = livekit_usage(collected(llm("user:made-up@gateway.local", "m", prompt_tokens=1)))
    assert row.provider == "gateway.local"
    (row,) = livekit_usage(collected(llm(None, None, prompt_tokens=1)))
    assert (row.provider, row.model) == ("unknown", "unknown")


def test_a_release_with_fewer_figures_has_fewer_units():
    """What an older release does not split or count is not there, and what a newer one adds is passed over."""
    old = SimpleNamespace(
        type="llm_usage", provider="p", model="m", input_tokens=10, input_cached_tokens=4, output_tokens=5
    )
    new = SimpleNamespace(type="avatar_usage", provider="p", model="m")
    session = SimpleNamespace(usage=SimpleNamespace(model_usage=[old, new]))
    assert units(session) == {"llm": {"input_tokens": "6", "cached_input_tokens": "4", "output_tokens": "5"}}


@pytest.mark.parametrize("session", [SimpleNamespace(), SimpleNamespace(usage=None), None])
def test_a_release_without_session_usage_says_nothing(session):
    """There is then no side to compare with."""
    assert livekit_usage(session) == ()


def test_an_audit_record_is_one_of_no_usage():
    """It is a call's, has no quantities, and carries LiveKit's side."""
    found = record(**audit_fields(livekit_usage(collected(llm(prompt_tokens=7)))))
    assert is_audit(found)
    assert (found.component, found.provider, found.model, found.quantities) == ("call", "livekit", "agents", {})
    assert found.attributes["livekit"][0]["units"] == {"input_tokens": "7"}
    assert not is_audit(record(component="call", quantities={"call_seconds": "5"}))


def totals(*records):
    """Return what was recorded."""
    found = Recorded()
    for each in records:
        add_record(found, each)
    return found


def test_the_closing_line_says_who_missed_what_and_why():
    """One text per side that has something to say; agreement is only counted."""
    recorded = totals(
        record(quantities={"input_tokens": "30", "output_tokens": "20"}),
        record(quantities={"output_tokens": "16"}, outcome="interrupted", basis={"output_tokens": "estimated"}),
        record(component="tts", provider="cartesia", model="sonic-3", quantities={"characters": "24"}),
    )
    tokens = {"input_tokens": Decimal(30), "output_tokens": Decimal(20)}
    livekit = [
        LiveKitUsage("llm", "api.openai.com", "gpt-4o-mini", tokens),
        LiveKitUsage("tts", "cartesia", "sonic-3", {"characters": Decimal(44)}),
        LiveKitUsage("stt", "Deepgram", "nova-3", {"audio_seconds": Decimal(4)}),
    ]
    assert close_line(compare(recorded, livekit)) == {
        "agreed": "1",
        "livekit_missed": "llm openai gpt-4o-mini: 16 of 36 output_tokens (interrupted)",
        "livekit_excess": "tts cartesia sonic-3: 20 of 24 characters (double_counted)",
        "not_recorded": "stt Deepgram nova-3: 4 of 4 audio_seconds (not_recorded)",
    }


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, []),
        ({"basis": {"output_tokens": "estimated"}}, ["llm"]),
        ({"quantities": {"requests": "1"}, "basis": {"requests": "observed"}}, ["llm"]),
        ({"basis": {"output_tokens": "estimated"}, "outcome": "interrupted"}, []),
        ({"component": "turn_detection", "quantities": {"requests": "1"}}, []),
        ({"component": "stt", "quantities": {"audio_seconds": "0"}, "basis": {"audio_seconds": "observed"}}, []),
        ({"component": "stt", "quantities": {"connection_seconds": "9"}}, []),
        (
            {"component": "realtime", "quantities": {"session_seconds": "9"}, "basis": {"session_seconds": "observed"}},
            [],
        ),
    ],
)
def test_usage_is_incomplete_where_finished_work_is_only_estimated(fields, names):
    """Interrupted work is bound to be estimated, silence is a measurement, and a request is what some models bill."""
    assert [work.component for work in incomplete(totals(record(**fields)), [])] == names


def test_usage_is_incomplete_where_livekit_saw_a_model_and_nobody_a_number():
    """A realtime model whose metrics are all zeros leaves no record at all."""
    silent = LiveKitUsage("llm", "ultravox", "v0.7", {})
    assert incomplete(Recorded(), [silent]) == [Work("llm", "ultravox", "v0.7")]
    assert (
        incomplete(totals(record(outcome="interrupted")), [LiveKitUsage("llm", "api.openai.com", "gpt-4o-mini", {})])
        == []
    )


class Kept:
    """Records of which the totals are known."""

    def __init__(self, recorded, livekit):
        self.answer = recorded, livekit

    def audited(self, _session_id):
        """Return what was given, or raise it."""
        if isinstance(self.answer[0], Exception):
            raise self.answer[0]
        return self.answer


def test_a_session_is_said_once_and_a_silent_model_once_per_process(caplog):
    """The line names the session; the warning is not repeated by the next session with the same model."""
    caplog.set_level(logging.INFO)
    auditor = Auditor(Kept(totals(record(basis={"output_tokens": "estimated"})), ()))
    findings = auditor.close("ses-1")
    auditor.close("ses-2")
    assert [finding.difference for finding in findings] == [20]
    said = [line.getMessage() for line in caplog.records]
    assert said[0].startswith("session audited  session=ses-1 agreed=0 livekit_missed=llm openai gpt-4o-mini: 20 of 20")
    assert said[1].startswith("incomplete usage: ")
    assert said[1].endswith("component=llm provider=openai model=gpt-4o-mini")
    assert [line.split("  ")[0] for line in said] == ["session audited", said[1].split("  ")[0], "session audited"]


def test_a_session_without_livekits_side_is_not_judged(caplog):
    """Nothing to compare with, nothing to say."""
    caplog.set_level(logging.INFO)
    assert Auditor(Kept(totals(record()), None)).close("ses-1") == ()
    assert caplog.records == []


def test_an_audit_that_fails_is_said_and_raises_nothing(caplog):
    """It runs beside somebody's agent."""
    assert Auditor(Kept(ValueError("made-up"), None)).close("ses-1") == ()
    assert "a session could not be audited  session=ses-1 error=ValueError" in caplog.text
