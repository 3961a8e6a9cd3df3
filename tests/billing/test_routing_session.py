"""Real sessions whose parts are paid by different people: whose bill each unit of work is on."""

from __future__ import annotations

from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner
from livekit.agents import inference
from livekit.agents import llm as lk_llm
from livekit.plugins import deepgram, openai

from livekit_costmeter import install
from livekit_costmeter.cli import costmeter
from livekit_costmeter.config import compose
from livekit_costmeter.records import parse_charge
from livekit_costmeter.testing import CallDriver, ChatScript, Fault, LoopbackProviders, Script

PRESET = Path(__file__).parents[2] / "examples/plans/vapi.yaml"
CONFIG = f"""\
account: acme
keys:
  - {{owner: platform, env: OPENAI_API_KEY}}
  - {{owner: platform, env: LIVEKIT_API_KEY}}
  - {{owner: acme, env: ACME_KEY}}
  - {{owner: acme, env: ACME_LIVEKIT_KEY}}
billing: {{plans: ["{PRESET}"]}}
sinks:
  - {{type: sqlite, path: ./costmeter.db}}
"""
KEYS = {
    "OPENAI_API_KEY": "key-platform",
    "LIVEKIT_API_KEY": "project-platform",
    "ACME_KEY": "key-acme",
    "ACME_LIVEKIT_KEY": "project-acme",
}


@pytest.fixture
def meter(monkeypatch):
    """Install the meter as an agent's file does, for the length of one test."""
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)
    monkeypatch.setattr(compose, "_installed", [])
    Path("costmeter.yaml").write_text(CONFIG)
    meter = install("costmeter.yaml")
    yield meter
    meter.taps.remove()


async def ledger(meter):
    """Settle, and return the ledger's lines about the work of models."""
    await meter.aclose()
    done = CliRunner().invoke(costmeter, ["export", "--format", "jsonl"], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    charges = map(parse_charge, done.stdout.splitlines())
    return [charge for charge in charges if charge.component != "call"]


@asynccontextmanager
async def model(providers, key):
    """Serve OpenAI's model by those providers; it is asked once per attempt, and closed with its client."""
    async with providers.openai_client(key) as client:
        model = openai.LLM(model="gpt-4o-mini", client=client.with_options(max_retries=0))
        yield model
        await model.aclose()


def voice(providers, project):
    """Return a voice of LiveKit Inference, paid by a LiveKit project."""
    secret = "a made-up secret of thirty-two letters"
    return inference.TTS("cartesia/sonic-3", base_url=providers.inference_url, api_key=project, api_secret=secret)


def ear(providers, key="key-acme"):
    """Return a recogniser."""
    return deepgram.STT(model="nova-3", base_url=providers.deepgram_url, api_key=key)


def of(charges, component, owner=None):
    """Add up cost and billed cost of a component: neither may be unknown."""
    mine = [c for c in charges if c.component == component and owner in (None, c.key_owner)]
    return sum((c.cost for c in mine), Decimal(0)), sum((c.billed_cost for c in mine), Decimal(0))


@pytest.mark.parametrize(("project", "owner"), [("project-platform", "platform"), ("project-acme", "acme")])
async def test_one_call_is_on_three_bills(meter, project, owner):
    """The platform's language model, the account's recogniser, a voice of LiveKit Inference: each on the right bill."""
    async with LoopbackProviders() as providers, model(providers, "key-platform") as llm:
        async with CallDriver(llm=llm, stt=ear(providers), tts=voice(providers, project)) as call:
            await call.turn()
        served = providers.ledger.total(component="llm", unit="output_tokens", key="key-platform")
    charges = await ledger(meter)
    assert {(c.component, c.provider, c.key_owner, c.billed_by) for c in charges} == {
        ("llm", "openai", "platform", "platform"),
        ("stt", "deepgram", "acme", "provider"),
        ("tts", "livekit", owner, "livekit"),
    }
    assert sum(c.quantity for c in charges if c.unit == "output_tokens") == served > 0
    for component, on_the_bill in (("llm", True), ("stt", False), ("tts", owner == "platform")):
        cost, billed = of(charges, component)
        assert cost > 0
        assert billed == (cost if on_the_bill else 0)
    assert {c.account for c in charges} == {"acme"}


async def test_a_fallback_moves_the_bill_in_the_middle_of_a_call(meter):
    """The account's key answers once and is refused from then on: only what the platform's key did is billed."""
    refused = Script(chat=ChatScript(faults=[None, *[Fault(status=500)] * 20]))
    async with (
        LoopbackProviders(refused) as theirs,
        LoopbackProviders() as ours,
        model(theirs, "key-acme") as first,
        model(ours, "key-platform") as second,
    ):
        llm = lk_llm.FallbackAdapter([first, second], max_retry_per_llm=0)
        async with CallDriver(llm=llm, stt=ear(ours), tts=voice(ours, "project-platform")) as call:
            await call.turn()
            await call.turn()
        answered = {
            "acme": theirs.ledger.total(component="llm", unit="output_tokens"),
            "platform": ours.ledger.total(component="llm", unit="output_tokens"),
        }
    charges = await ledger(meter)
    for owner, tokens in answered.items():
        mine = [c for c in charges if c.key_owner == owner and c.unit == "output_tokens"]
        assert sum(c.quantity for c in mine) == tokens > 0
    (their_cost, their_bill), (our_cost, our_bill) = (of(charges, "llm", owner) for owner in ("acme", "platform"))
    assert (their_bill, our_bill) == (0, our_cost)
    assert their_cost > 0
    assert our_cost > 0
    assert {c.model for c in charges if c.component == "llm"} == {"gpt-4o-mini"}
