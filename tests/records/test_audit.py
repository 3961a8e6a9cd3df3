"""Two sides of one session, and why they differ."""

from decimal import Decimal

import pytest

from livekit_costmeter.records import (
    REASONS,
    UNIT_ORDER,
    InvalidRecord,
    LiveKitUsage,
    Manner,
    Recorded,
    Work,
    compare,
    livekit_fields,
    parse_livekit,
)
from livekit_costmeter.records.audit import COUNTERPARTS

LLM = Work("llm", "openai", "gpt-4o-mini")
TTS = Work("tts", "cartesia", "sonic-3")
STT = Work("stt", "deepgram", "nova-3")
REPORTED = {
    LLM: Work("llm", "api.openai.com", "gpt-4o-mini"),
    TTS: Work("tts", "Cartesia", "sonic-3"),
    STT: Work("stt", "Deepgram", "nova-3"),
}


def recorded(*entries):
    """Return what was recorded: entries of work, unit, quantity, outcome, basis and, if so, that it was outside."""
    found = Recorded()
    for work, unit, quantity, outcome, basis, *outside in entries:
        manner = Manner(outcome, basis, bool(outside))
        found.add(work, REPORTED.get(work, work), unit, Decimal(quantity), manner)
    return found


def livekit(work, **units):
    """Return LiveKit's row of it, in the names that LiveKit uses."""
    names = REPORTED.get(work, work)
    return LiveKitUsage(*names, {unit: Decimal(amount) for unit, amount in units.items()})


def only(findings):
    """Return the single finding."""
    (finding,) = findings
    return finding


def test_figures_that_agree_have_no_reason():
    """Provider and model are matched by the names that LiveKit reports, and shown in canonical ones."""
    ours = recorded((LLM, "input_tokens", 30, "completed", "reported"))
    finding = only(compare(ours, [livekit(LLM, input_tokens=30)]))
    assert (finding.work, finding.ours, finding.theirs, finding.difference, finding.reasons) == (LLM, 30, 30, 0, ())


@pytest.mark.parametrize(
    ("outcome", "basis", "code"),
    [
        ("interrupted", "estimated", "interrupted"),
        ("discarded", "estimated", "discarded"),
        ("failed", "observed", "failed_attempts"),
        ("completed", "estimated", "unreported"),
        ("completed", "lower_bound", "unreported"),
        ("probe", "reported", "probes"),
    ],
)
def test_what_livekit_missed_is_explained_by_how_the_work_ended(outcome, basis, code):
    """A reason explains as much of the difference as there is of such work, and no more."""
    ours = recorded(
        (LLM, "output_tokens", 20, "completed", "reported"),
        (LLM, "output_tokens", 16, outcome, basis),
    )
    finding = only(compare(ours, [livekit(LLM, output_tokens=20)]))
    assert (finding.difference, finding.reasons) == (16, ((code, Decimal(16)),))


def test_interrupted_work_that_livekit_reports_is_no_reason():
    """An answer that was cut off after the provider's last word is counted by both."""
    ours = recorded((TTS, "characters", 100, "interrupted", "observed"))
    assert only(compare(ours, [livekit(TTS, characters=100)])).reasons == ()


def test_reasons_add_up_to_the_difference():
    """Several causes share it, and what is left over has one that belongs to its component."""
    ours = recorded(
        (TTS, "characters", 119, "completed", "observed"),
        (TTS, "characters", 219, "interrupted", "observed"),
    )
    finding = only(compare(ours, [livekit(TTS, characters=117)]))
    assert finding.reasons == (("interrupted", 219), ("wire_characters", 2))
    assert sum(reason.quantity for reason in finding.reasons) == finding.difference


@pytest.mark.parametrize(
    ("work", "unit", "ours", "theirs", "code"),
    [
        (STT, "audio_seconds", "16.3", "9.95", "stt_tail"),
        (STT, "audio_seconds", "2", "9", "connection_time"),
        (LLM, "input_tokens", 480, 960, "double_counted"),
        (LLM, "input_tokens", 30, 10, "outside_session"),
        (TTS, "characters", 100, 99, "wire_characters"),
        (TTS, "characters", 24, 44, "double_counted"),
    ],
)
def test_a_difference_in_finished_work_is_explained_by_the_component(work, unit, ours, theirs, code):
    """Each component has its own way of being counted wrong."""
    found = recorded((work, unit, ours, "completed", "observed"))
    finding = only(compare(found, [livekit(work, **{unit: theirs})]))
    assert finding.reasons == ((code, Decimal(ours) - Decimal(theirs)),)


def test_work_outside_every_session_is_the_first_reason():
    """It cannot be in any session's usage, whatever became of it."""
    ours = recorded((LLM, "output_tokens", 12, "interrupted", "estimated", "outside"))
    assert only(compare(ours, [])).reasons == (("outside_session", 12),)


def test_what_only_we_know_is_missed_and_not_zero_on_the_other_side():
    """A model that LiveKit does not list has no figure there, and all of it is missed."""
    finding = only(compare(recorded((TTS, "characters", 68, "interrupted", "observed")), []))
    assert (finding.ours, finding.theirs, finding.difference) == (68, None, 68)


def test_what_only_livekit_knows_is_said():
    """A model of which there is no record is a gap of ours."""
    finding = only(compare(Recorded(), [livekit(STT, audio_seconds="4")]))
    assert (finding.ours, finding.theirs, finding.difference) == (None, 4, -4)
    assert finding.reasons == (("not_recorded", -4),)
    assert finding.work == REPORTED[STT]


def test_a_unit_that_livekit_does_not_count_is_not_compared():
    """It has no counterpart, so there is no difference, rather than one of everything."""
    finding = only(compare(recorded((STT, "connection_seconds", 9, "completed", "observed")), [livekit(STT)]))
    assert (finding.theirs, finding.difference, finding.reasons) == (None, None, (("no_counterpart", 9),))


def test_session_time_is_compared_only_where_livekit_counts_it():
    """It does so for few realtime models; for the others, its silence is not a miss."""
    work = Work("realtime", "x-ai", "grok-voice")
    ours = recorded((work, "session_seconds", 9, "completed", "observed"))
    assert only(compare(ours, [])).difference is None
    assert only(compare(ours, [livekit(work, session_seconds=8)])).difference == 1


def test_a_realtime_model_is_found_in_livekits_list_of_language_models():
    """LiveKit keeps both in one list, and a model without tokens does not say which it is."""
    work = Work("realtime", "openai", "gpt-realtime")
    ours = recorded((work, "input_tokens", 30, "completed", "reported"))
    finding = only(compare(ours, [LiveKitUsage("llm", "openai", "gpt-realtime", {"input_tokens": Decimal(30)})]))
    assert (finding.work, finding.theirs, finding.reasons) == (work, 30, ())


def test_a_unit_that_livekit_counts_within_another_is_moved_not_missed():
    """Older releases count reasoning as output and cache writes as input; the sum is right."""
    ours = recorded(
        (LLM, "output_tokens", 16, "completed", "reported"),
        (LLM, "reasoning_tokens", 500, "completed", "reported"),
    )
    findings = compare(ours, [livekit(LLM, output_tokens=516)])
    assert [finding.reasons for finding in findings] == [(("not_split", -500),), (("not_split", 500),)]


def test_durations_may_differ_by_the_noise_of_their_sums():
    """LiveKit adds floats; a hundredth of a second is nothing missed, a second of a minute is."""
    ours = recorded((STT, "audio_seconds", "60.004", "completed", "observed"))
    assert only(compare(ours, [livekit(STT, audio_seconds="60")])).reasons == ()
    assert only(compare(ours, [livekit(STT, audio_seconds="59")])).reasons == (("stt_tail", Decimal("1.004")),)


def test_merging_adds_both_quantities_and_names():
    """What was added to two books is the same as what was added to one."""
    entries = [
        (LLM, "input_tokens", 3, "completed", "reported"),
        (TTS, "characters", 5, "completed", "observed"),
        (LLM, "input_tokens", 4, "completed", "reported"),
    ]
    merged = recorded(*entries[:1])
    merged.merge(recorded(*entries[1:]))
    rows = [livekit(LLM, input_tokens=7), livekit(TTS, characters=5)]
    assert compare(merged, rows) == compare(recorded(*entries), rows)
    assert all(not finding.reasons for finding in compare(merged, rows))


def test_livekits_side_survives_json():
    """What is written into an audit record is what is read from it."""
    rows = (livekit(STT, audio_seconds="9.95"), livekit(LLM))
    assert parse_livekit(livekit_fields(rows)) == rows
    assert livekit_fields(rows)[0]["units"] == {"audio_seconds": "9.95"}


@pytest.mark.parametrize(
    "values", [None, 7, [7], [{"component": "llm"}], [{**livekit_fields([livekit(LLM)])[0], "units": {"x": "y"}}]]
)
def test_what_is_no_side_of_livekit_is_refused(values):
    """A record of another making is an error that names the place."""
    with pytest.raises(InvalidRecord, match=r"attributes\.livekit"):
        parse_livekit(values)


def test_every_code_has_words_and_every_counterpart_is_a_unit():
    """The tables agree with the vocabulary."""
    assert all(words.strip() == words != "" for words in REASONS.values())
    assert all(units <= UNIT_ORDER.keys() for units in COUNTERPARTS.values())
