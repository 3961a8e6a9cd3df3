"""Estimates: what they are before the first reported call, how they learn, and what the file may do to them."""

from __future__ import annotations

import json
import logging
import stat
import threading
from decimal import Decimal
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as some
from livekit.agents import llm

from livekit_costmeter.metering.estimates import Calibration, text_of_prompt

CALL = ("openai", "gpt-4o-mini")


def recomputed(inputs):
    """Recompute an estimate from what its record carries."""
    amounts = inputs["observed"].items()
    return round(sum(Decimal(amount) * Decimal(inputs["ratios"][name]) for name, amount in amounts))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "calibration.json"


@pytest.fixture
def write(path):
    def write(content):
        path.write_text(content if isinstance(content, str) else json.dumps(content))

    return write


@pytest.mark.parametrize(
    ("side", "observed", "tokens"),
    [
        ("output", {"bytes": 40}, 10),
        ("input", {"bytes": 40, "messages": 2}, 18),
        ("audio", {"milliseconds": 1500}, 30),
        ("heard", {"heard_milliseconds": 1500}, 15),
        ("output", {"bytes": 0}, 0),
    ],
)
def test_before_the_first_reported_call_the_default_holds(side, observed, tokens):
    """The ratios that the module states, with no sample behind them."""
    estimate = Calibration().estimate(*CALL, side, observed)
    assert (estimate.tokens, estimate.samples) == (tokens, 0)
    assert estimate.inputs["observed"] == observed


def test_reported_calls_move_the_estimates_of_their_model_alone():
    """What a model's calls really had is the factor for that model and side, and for nothing else."""
    calibration = Calibration()
    calibration.learn(*CALL, "output", {"bytes": 400}, 150)
    assert calibration.estimate(*CALL, "output", {"bytes": 40}).tokens == 15
    assert calibration.estimate(*CALL, "input", {"bytes": 40}).tokens == 10
    assert calibration.estimate("openai", "gpt-4o", "output", {"bytes": 40}).tokens == 10
    assert calibration.estimate("azure", "gpt-4o-mini", "output", {"bytes": 40}).tokens == 10


@given(
    samples=some.lists(some.tuples(some.integers(8, 100_000), some.integers(25, 400)), max_size=20),
    observed=some.fixed_dictionaries({"bytes": some.integers(0, 1_000_000), "messages": some.integers(0, 1000)}),
)
def test_an_estimate_can_be_recomputed_from_its_record(samples, observed):
    """Quantity = the sum of what was observed times its ratio, rounded half-even; whatever was learned before."""
    calibration = Calibration()
    for size, percent in samples:
        tokens = size * percent // 400 + 1 + 4  # four of them frame the message
        calibration.learn(*CALL, "input", {"bytes": size, "messages": 1}, tokens)
    estimate = calibration.estimate(*CALL, "input", observed)
    assert estimate.tokens == recomputed(estimate.inputs)
    assert estimate.inputs["samples"] == estimate.samples == len(samples)


def test_a_model_that_has_changed_is_followed():
    """Old samples lose their weight, so that a thousand of them do not hold the new ones down."""
    calibration = Calibration()
    for tokens in (100, 200):
        for _ in range(2000):
            calibration.learn(*CALL, "output", {"bytes": 400}, tokens)
    assert 180 <= calibration.estimate(*CALL, "output", {"bytes": 400}).tokens <= 200
    assert calibration.estimate(*CALL, "output", {"bytes": 4}).samples <= 512


@pytest.mark.parametrize(("observed", "tokens"), [({"bytes": 0}, 5), ({"bytes": 40}, 0), ({}, 5), ({"unknown": 9}, 5)])
def test_a_call_without_text_or_without_tokens_teaches_nothing(observed, tokens):
    """A ratio to nothing is none."""
    calibration = Calibration()
    calibration.learn(*CALL, "output", observed, tokens)
    assert not calibration.knows(*CALL, "output")
    assert calibration.estimate(*CALL, "output", {"bytes": 40}).tokens == 10


def test_a_process_stops_measuring_once_it_has_enough_samples():
    """Measuring a long prompt costs time on the agent's loop; a model is known well after some tens of calls."""
    calibration = Calibration()
    assert calibration.is_wanted(*CALL)
    for _ in range(64):
        calibration.learn(*CALL, "output", {"bytes": 400}, 100)
    assert not calibration.is_wanted(*CALL)
    assert calibration.is_wanted("openai", "gpt-4o")


def test_what_is_learned_survives_the_process(path):
    """Saved by one process, read by the next, with the same estimate."""
    first = Calibration(path)
    first.learn(*CALL, "output", {"bytes": 400}, 150)
    first.save()
    second = Calibration(path)
    assert second.knows(*CALL, "output")
    assert second.estimate(*CALL, "output", {"bytes": 40}) == first.estimate(*CALL, "output", {"bytes": 40})
    assert second.is_wanted(*CALL)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_nothing_new_writes_nothing(path):
    """A shipper that learned nothing leaves the file of others alone."""
    Calibration(path).save()
    assert not path.exists()
    calibration = Calibration(path)
    calibration.learn(*CALL, "output", {"bytes": 400}, 150)
    calibration.save()
    path.unlink()
    calibration.save()
    assert not path.exists()


def test_a_file_that_cannot_be_written_costs_a_line_of_log(tmp_path, caplog):
    """The directory may be gone or full; what is known stays known."""
    calibration = Calibration(tmp_path / "gone" / "calibration.json")
    calibration.learn(*CALL, "output", {"bytes": 400}, 150)
    with caplog.at_level(logging.WARNING):
        calibration.save()
    assert "not saved" in caplog.text
    assert calibration.estimate(*CALL, "output", {"bytes": 40}).tokens == 15


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '"text"',
        {"format": 1},
        {"format": 1, "models": []},
        {"format": 1, "models": {"openai/gpt-4o-mini/output": {"default": "1"}}},
        {"format": 1, "models": {"openai/gpt-4o-mini/output": {"default": "x", "actual": "1", "samples": 1}}},
        {"format": 1, "models": {"openai/gpt-4o-mini/output": None}},
        {"format": 1, "models": {"openai/gpt-4o-mini/output": {"default": "0", "actual": "7", "samples": 1}}},
    ],
)
def test_a_damaged_file_means_the_default(path, write, content, caplog):
    """Whatever it holds, an estimate is made, and the file is replaced by the next save."""
    write(content)
    calibration = Calibration(path)
    with caplog.at_level(logging.WARNING):
        assert calibration.estimate(*CALL, "output", {"bytes": 40}).tokens == 10
    calibration.learn(*CALL, "output", {"bytes": 400}, 100)
    calibration.save()
    assert Calibration(path).estimate(*CALL, "output", {"bytes": 40}).samples >= 1


def record(attributes, **quantities):
    return SimpleNamespace(
        provider=CALL[0],
        model=CALL[1],
        attributes=attributes,
        quantities={unit: Decimal(text) for unit, text in quantities.items()},
    )


def test_the_shipper_learns_from_records_what_the_agent_measured():
    """A side stands for all units that its text was counted in: cached text is text."""
    calibration = Calibration()
    seen = {"input": {"bytes": 400, "messages": 0}, "output": {"bytes": 40}}
    calibration.learn_from(record({"observed": seen}, input_tokens="50", cached_input_tokens="150", output_tokens="5"))
    assert calibration.estimate(*CALL, "input", {"bytes": 400}).tokens == 200
    assert calibration.estimate(*CALL, "output", {"bytes": 40}).tokens == 5


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"observed": None},
        {"observed": "text"},
        {"observed": {"output": None}},
        {"observed": {"output": {"bytes": "many"}}},
        {"observed": {"output": {"bytes": -40}}},
        {"observed": {"output": {"bytes": 1.5}}},
        {"observed": {"another side": {"bytes": 40}}},
        {"estimate": {"output_tokens": {"observed": {"bytes": 40}, "ratios": {"bytes": "0.25"}, "samples": 0}}},
    ],
)
def test_a_record_of_another_release_teaches_nothing_and_hurts_nobody(attributes):
    """And an estimate is never learned from: it would confirm itself."""
    calibration = Calibration()
    calibration.learn_from(record(attributes, output_tokens="10", input_tokens="10"))
    assert calibration.estimate(*CALL, "output", {"bytes": 40}).samples == 0


def test_many_models_do_not_fill_the_memory(path):
    """Names come from outside; the oldest is forgotten for the newest."""
    calibration = Calibration(path)
    for number in range(2100):
        calibration.learn("openai", f"model-{number}", "output", {"bytes": 40}, 10)
    calibration.save()
    assert len(json.loads(path.read_bytes())["models"]) == 2000
    assert calibration.knows("openai", "model-2099", "output")
    assert not calibration.knows("openai", "model-0", "output")


def test_threads_learn_at_once_and_lose_no_sample():
    """Jobs in threads share the calibration of their process."""
    calibration = Calibration()

    def learn():
        for _ in range(50):
            calibration.learn(*CALL, "output", {"bytes": 400}, 100)

    threads = [threading.Thread(target=learn) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calibration.estimate(*CALL, "output", {"bytes": 400}).samples == 200


@llm.function_tool
async def look_up(number: int) -> str:
    """Look something up."""
    return str(number)


def test_a_prompt_is_all_of_its_text_and_its_tools():
    """Messages, calls of tools and their answers, in bytes; what is no text is counted beside it."""
    chat = llm.ChatContext()
    chat.add_message(role="system", content="Sei höflich.")
    chat.add_message(role="user", content=["Hallo", llm.ImageContent(image="https://example.com/a.png"), "du"])
    chat.insert(llm.FunctionCall(call_id="c", name="look_up", arguments='{"number": 1}'))
    chat.insert(llm.FunctionCallOutput(call_id="c", name="look_up", output="1", is_error=False))
    texts = ("Sei höflich.", "Hallo", "du", "look_up", '{"number": 1}', "look_up", "1")
    without = text_of_prompt(chat.items, ())
    assert without == {"bytes": sum(len(text.encode()) for text in texts), "messages": 4, "media": 1}
    assert text_of_prompt(chat.items, [look_up])["bytes"] > without["bytes"] + len("Look something up.")
    assert text_of_prompt((), (), "Be brief.") == {"bytes": 9, "messages": 1}
    assert text_of_prompt((), ()) == {"bytes": 0, "messages": 0}
