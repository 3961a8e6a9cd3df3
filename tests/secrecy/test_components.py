"""Components whose address, repr or metadata hold credentials."""

from __future__ import annotations

import json
import logging

import pytest
from livekit.agents.metrics import RealtimeModelMetrics
from livekit.agents.metrics.base import Metadata
from livekit.plugins import openai

from livekit_costmeter.metering import ContextRules, CostMeter, KeyRing, KeyRule, Privacy
from livekit_costmeter.metering.attribution import deployment_secret
from livekit_costmeter.pricing.providers import identify

PASSWORD = "Kp7dW2sX9vB4"
KEY = f"sk-{PASSWORD}-of-the-component"
EVENT = {
    "label": "l",
    "request_id": "r",
    "timestamp": 1.0,
    "duration": 1.0,
    "ttft": 0.1,
    "cancelled": False,
    "input_tokens": 1,
    "output_tokens": 1,
    "total_tokens": 2,
    "tokens_per_second": 1.0,
}


class Memory:
    """Keeps what is appended."""

    def __init__(self):
        self.bodies = []

    def append(self, members, more=b""):
        """Keep one record."""
        self.bodies.append(b"{" + members + more)
        return f"memory-{len(self.bodies)}"


@pytest.fixture
def memory():
    return Memory()


@pytest.fixture
def meter(memory):
    """Make a meter without taps, so that a test hands it events itself."""
    rules = (KeyRule("acme", env="OPENAI_API_KEY"),)
    return CostMeter(
        delivery=memory,
        identify=identify,
        keys=KeyRing(rules, secret=lambda: b"secret", environ={"OPENAI_API_KEY": KEY}),
        rules=ContextRules(),
        privacy=Privacy("masked", secret=lambda: b"secret"),
        rate=lambda _record: [],
    )


def event(provider=None):
    """Make the metrics of one realtime response, as a plugin reports them."""
    nothing = {"audio_tokens": 0, "text_tokens": 1, "image_tokens": 0}
    return RealtimeModelMetrics(
        **EVENT,
        input_token_details=RealtimeModelMetrics.InputTokenDetails(
            **nothing, cached_tokens=0, cached_tokens_details=None
        ),
        output_token_details=RealtimeModelMetrics.OutputTokenDetails(**nothing),
        metadata=Metadata(model_name="gpt-realtime", model_provider=provider) if provider else None,
    )


@pytest.mark.parametrize("kind", ["realtime", "responses"])
@pytest.mark.parametrize("user", [f"user:{PASSWORD}@", f"{PASSWORD}@", f"user:p@{PASSWORD}@"])
async def test_credentials_in_an_address_are_no_provider(meter, memory, find_leaks, kind, user):
    """Plugins report the host of their address with what stands before it; records have the host alone."""
    address = f"wss://{user}voice.example.com:8443/v1"
    make = {"realtime": openai.realtime.RealtimeModel, "responses": openai.responses.LLM}[kind]
    model = make(model="gpt-realtime", base_url=address, api_key=KEY)
    assert PASSWORD in model.provider
    meter.usage_of_session(model, event())
    meter.usage_of_session(model, event(provider=model.provider))
    assert [json.loads(body)["reported_provider"] for body in memory.bodies] == ["voice.example.com:8443"] * 2
    assert {json.loads(body)["key_owner"] for body in memory.bodies} == {"acme"}
    known = model._livekit_costmeter_known
    shown = b"".join(memory.bodies) + repr([meter, vars(meter), known, known.identity]).encode()
    assert find_leaks(shown, {"key": KEY, "password": PASSWORD}) == []
    await model.aclose()


@pytest.mark.parametrize("broken", ["model", "provider", "label"])
def test_an_error_of_a_component_is_logged_without_its_words(meter, memory, find_leaks, caplog, broken):
    """What a component raises may quote its key; kind and place of the error are enough to find it."""

    class Talkative:
        _api_key = KEY
        model = provider = label = "x"

        def __repr__(self):
            return KEY

    def fail(self):
        raise ValueError(f"{self!r} of {KEY}")

    setattr(Talkative, broken, property(fail))
    caplog.set_level(logging.DEBUG)
    nameless = event()
    nameless.label = ""
    meter.usage_of_session(Talkative(), nameless)
    assert memory.bodies == []
    assert meter._failures == {"ValueError": 1}
    assert "metering failed; the call goes on  error=ValueError at=fail:" in caplog.text
    assert find_leaks(repr([vars(record) for record in caplog.records]).encode(), {"key": KEY}) == []


def test_an_error_of_a_callback_is_logged_without_its_words(meter, find_leaks, caplog):
    """A callback of the user's that fails with a key in its message costs neither the record nor the key."""

    def callback(record):
        raise KeyError(KEY)

    meter.on("usage_collected", callback)
    model = openai.realtime.RealtimeModel(base_url="wss://voice.example.com/v1", api_key=KEY)
    meter.usage_of_session(model, event())
    assert "error=KeyError at=callback:" in caplog.text
    assert find_leaks(caplog.text.encode(), {"key": KEY}) == []


def test_a_secret_from_the_environment_is_written_nowhere(tmp_path):
    """With `COSTMETER_SECRET` set, the spool gets no file of its own for it."""
    assert deployment_secret(tmp_path / "spool", {"COSTMETER_SECRET": PASSWORD}) == PASSWORD.encode()
    assert list(tmp_path.rglob("*")) == []
