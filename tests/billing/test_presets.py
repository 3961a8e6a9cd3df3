"""The example plans: every worked number of the platforms' own pages comes out of `costmeter rate`, exactly."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from livekit_costmeter.billing.statements import statement
from livekit_costmeter.cli import costmeter
from livekit_costmeter.config.plans import read_plan
from livekit_costmeter.delivery import Spool
from livekit_costmeter.records import parse_charge

PLANS = Path(__file__).parents[2] / "examples/plans"
ALL = [
    f"{path.name}#{plan['name']}"
    for path in sorted(PLANS.glob("*.yaml"))
    for document in [yaml.safe_load(path.read_text())]
    for plan in document.get("plans", [document])
]
PULSES = [(0, 0), (1, 1), (59, 1), (60, 1), (61, 2), (119, 2), (120, 2), (121, 3), (185, 4)]


def usage(component, provider, model, owner="platform", **quantities):
    """Return a usage record of March 2026; `owner` is whose key, or number, it was."""
    return {
        "component": component,
        "provider": provider,
        "model": model,
        "key_owner": owner,
        "account": "acme",
        "at": "2026-03-05T14:30:00Z",
        "quantities": {unit: str(amount) for unit, amount in quantities.items()},
    }


def call(seconds, channel, provider="webrtc", owner="platform", **more):
    """Return a whole call."""
    return {**usage("call", provider, channel, owner, call_seconds=seconds), **more}


def configure(plan, rates=()):
    """Write a configuration with a preset, and a rate card where a document's prices are not the catalogs'."""
    settings = {"billing": {"plans": [str(PLANS / plan)]}, "sinks": [{"type": "sqlite", "path": "./costmeter.db"}]}
    if rates:
        Path("rates.yaml").write_text(json.dumps({"name": "document", "rates": list(rates)}))
        settings["pricing"] = {"rate_cards": ["./rates.yaml"]}
    Path("costmeter.yaml").write_text(json.dumps(settings))


def run(*arguments, **options):
    """Run a command and return what it printed."""
    done = CliRunner().invoke(costmeter, arguments, prog_name="costmeter", catch_exceptions=False, **options)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def rate(plan, *records, rates=()):
    """Rate records under a preset."""
    configure(plan, rates)
    lines = "".join(json.dumps({"id": f"r{number}", **record}) + "\n" for number, record in enumerate(records))
    return [json.loads(line) for line in run("rate", input=lines).splitlines()]


def rule(charge):
    """Return the id of the plan's rule behind a charge, or `None` for a line of usage."""
    source = charge["pricing_source"]
    return source.partition("#")[2].partition("?")[0] if source.startswith("plan:") else None


def billed(charges):
    """Return what is billed, by rule or by component, without what is 0."""
    totals = {}
    for charge in charges:
        if Decimal(charge["billed_cost"] or 0):
            key = rule(charge) or charge["component"]
            totals[key] = totals.get(key, Decimal(0)) + Decimal(charge["billed_cost"])
    return totals


def credits_of(charges):
    """Return the credits of all lines."""
    return sum((Decimal(charge["credits"] or 0) for charge in charges), Decimal(0))


def total(charges):
    """Return the sum of what is billed; nothing of it may be unknown."""
    assert None not in [charge["billed_cost"] for charge in charges]
    return sum((Decimal(charge["billed_cost"]) for charge in charges), Decimal(0))


def state(charges, plan):
    """Return the statement over charges as they were printed."""
    return statement([parse_charge(json.dumps(charge)) for charge in charges], read_plan(PLANS / plan))


LLM = usage("llm", "openai", "gpt-4o-mini", input_tokens=3000, output_tokens=500)
STT = usage("stt", "deepgram", "nova-3", audio_seconds=300)
TTS = usage("tts", "elevenlabs", "eleven_flash_v2_5", characters=2140)
TWILIO = {"provider": "twilio", "model": "*", "unit": "call_seconds", "price": "0.0085", "per": 60}
A_CREDIT_OF_LLM = usage("llm", "openai", "gpt-4o-mini", input_tokens=3000)
ONE_CREDIT = {"provider": "openai", "model": "gpt-4o-mini", "unit": "input_tokens", "price": "0.005", "per": 3000}


def acme(record):
    """Return the same work, done with the account's own key or on its own number."""
    return {**record, "key_owner": "acme"}


@pytest.mark.parametrize("name", ALL)
def test_a_preset_is_a_plan_that_holds(name):
    """Each plan in each file loads by its name, and each row says where its price is from."""
    plan = read_plan(PLANS / name)
    assert plan.name == name.partition("#")[2]
    document = yaml.safe_load((PLANS / name.partition("#")[0]).read_text())
    (raw,) = [entry for entry in document.get("plans", [document]) if entry["name"] == plan.name]
    rows = [row for part in ("rates", "telephony", "fees", "exchange_rates") for row in raw.get(part, ())]
    assert all(row["source"] for row in rows)


# Vapi: where a cost ends up.


@pytest.mark.parametrize("record", [LLM, STT, TTS])
def test_vapi_with_the_accounts_key_the_provider_bills(record):
    """The cost is shown, and none of it is on the platform's bill."""
    charges = rate("vapi.yaml", acme(record))
    assert {charge["billed_by"] for charge in charges} == {"provider"}
    assert all(Decimal(charge["cost"]) > 0 for charge in charges)
    assert total(charges) == 0


@pytest.mark.parametrize("record", [LLM, STT, TTS])
def test_vapi_without_a_key_the_platform_passes_on_at_cost(record):
    """What is billed is the provider's cost exactly, with no line on top of it."""
    charges = rate("vapi.yaml", record)
    assert [charge["billed_cost"] for charge in charges] == [charge["cost"] for charge in charges]
    assert {(charge["kind"], charge["billed_by"]) for charge in charges} == {("usage", "platform")}
    assert total(charges) > 0


@pytest.mark.parametrize(("owner", "by", "amount"), [("acme", "provider", "0"), ("platform", "platform", "0.0255")])
def test_vapi_bills_telephony_where_the_number_was_provisioned(owner, by, amount):
    """An imported number is on its owner's bill although every model runs on the platform's keys."""
    charges = rate("vapi.yaml", call(180, "inbound", "twilio", owner), LLM, rates=[TWILIO])
    assert [charge["billed_by"] for charge in charges] == [by, "platform", "platform"]
    assert (charges[0]["cost"], charges[0]["billed_cost"]) == ("0.0255", amount)
    assert billed(charges)["llm"] == Decimal("0.00075")


def test_vapi_does_not_make_up_a_price_of_telephony():
    """A number of the platform whose carrier nobody prices is unpriced, not free."""
    (charge,) = rate("vapi.yaml", call(180, "inbound", "twilio"))
    assert (charge["pricing_status"], charge["cost"], charge["billed_cost"]) == ("unpriced", None, None)


def test_vapi_has_no_telephony_on_web_calls():
    """A web call costs nothing by itself."""
    (charge,) = rate("vapi.yaml", call(180, "web"))
    assert (charge["pricing_status"], charge["cost"], charge["billed_cost"]) == ("free", "0", "0")


def test_vapi_mixes_keys_in_one_call():
    """Speech recognition on the account's key and a language model on the platform's: the model is billed, no more."""
    charges = rate("vapi.yaml", acme(STT), LLM, call(300, "web"))
    assert billed(charges) == {"llm": Decimal("0.00075")}
    assert Decimal(charges[0]["cost"]) > 0


# Voiceflow: credits.


@pytest.mark.parametrize("plan", ["voiceflow-self-serve", "voiceflow-enterprise"])
def test_voiceflow_five_turns_of_chat_are_six_credits(plan):
    """Five messages and about one credit of language model, which is given: 6 credits, 0.03 USD."""
    messages = [usage("call", "webrtc", "chat", messages=1)] * 5
    charges = rate(
        f"voiceflow.yaml#{plan}", *messages, LLM | {"quantities": {"input_tokens": "3000"}}, rates=[ONE_CREDIT]
    )
    assert billed(charges) == {"chat-message": Decimal("0.025"), "llm": Decimal("0.005")}
    assert (credits_of(charges), total(charges)) == (6, Decimal("0.03"))
    bill = state(charges, f"voiceflow.yaml#{plan}")
    assert (bill.rounded_credits, bill.rounded_money) == (6, Decimal("0.03"))


def five_minutes():
    """Return the page's call of five minutes; its credit of language model is an input, because no tokens are given."""
    return (call(300, "inbound", "twilio", "acme"), A_CREDIT_OF_LLM, TTS, STT)


def test_voiceflow_five_minutes_of_voice_are_75_26_credits_exactly():
    """Ten a minute, 9 per 1,000 characters, one a minute: the page prints 20 for 19.26 and so 76."""
    charges = rate("voiceflow.yaml", *five_minutes(), rates=[ONE_CREDIT])
    lines = {
        rule(charge) or charge["component"]: charge["credits"]
        for charge in charges
        if charge["credits"] not in ("0", None)
    }
    assert lines == {"voice-minute": "50", "llm": "1", "tts-elevenlabs-flash": "19.26", "stt-deepgram-nova-3": "5"}
    assert (credits_of(charges), total(charges)) == (Decimal("75.26"), Decimal("0.3763"))


def test_voiceflow_five_minutes_of_voice_are_76_credits_on_a_statement():
    """With each line rounded up, as the page does: 50 + 1 + 20 + 5 = 76 credits, 0.38 USD; both sums are there."""
    bill = state(rate("voiceflow.yaml", *five_minutes(), rates=[ONE_CREDIT]), "voiceflow.yaml")
    assert {line.rule or line.component: (line.credits, line.rounded_credits) for line in bill.lines} == {
        "voice-minute": (50, 50),
        "llm": (1, 1),
        "tts-elevenlabs-flash": (Decimal("19.26"), 20),
        "stt-deepgram-nova-3": (5, 5),
    }
    assert (bill.credits, bill.rounded_credits) == (Decimal("75.26"), 76)
    assert (bill.money, bill.rounded_money) == (Decimal("0.3763"), Decimal("0.38"))
    assert bill.rounded_money / 5 == Decimal("0.076")
    assert bill.unknown == 0


def test_voiceflow_dialogue_is_2_0104_credits():
    """Four texts of a language model and two messages: 0.010052 USD, of which nothing is rounded."""
    texts = [usage("llm", "openai", "gpt-4o-mini", input_tokens=count) for count in (1, 1, 100, 2)]
    card = {**ONE_CREDIT, "price": "0.0000005", "per": 1}
    charges = rate("voiceflow.yaml", *texts, *[usage("call", "webrtc", "chat", messages=1)] * 2, rates=[card])
    assert [charge["credits"] for charge in charges if Decimal(charge["billed_cost"])] == [
        *("0.0001", "0.0001", "0.01", "0.0002"),
        *("1", "1"),
    ]
    assert (credits_of(charges), total(charges)) == (Decimal("2.0104"), Decimal("0.010052"))
    bill = state(charges, "voiceflow.yaml")
    assert (bill.credits, bill.money, bill.rounded_credits) == (Decimal("2.0104"), Decimal("0.010052"), 3)


def test_voiceflow_bills_models_without_a_price_of_their_own_at_cost():
    """Another vendor's voice is passed on at what it costs; the account's own key is free."""
    voice = usage("tts", "cartesia", "sonic-3", characters=1000)
    charges = rate("voiceflow.yaml", voice, acme(TTS), acme(STT))
    assert [charge["cost"] == charge["billed_cost"] for charge in charges] == [True, False, False]
    assert billed(charges) == {"tts": Decimal("0.05")}


# thinnestAI: rupees, pulses, own numbers and keys.


def test_thinnestai_example_record():
    """185 seconds are 4 minutes; 0.08 for telephony and 0.12 for the models make 0.20."""
    charges = rate("thinnestai.yaml#thinnestai-record-example", call(185, "outbound", "twilio"), LLM)
    assert billed(charges) == {"telephony": Decimal("0.08"), "ai-processing": Decimal("0.12")}
    assert total(charges) == Decimal("0.2")
    produced = {rule(charge): charge for charge in charges if rule(charge)}
    assert {Decimal(charge["billable_quantity"]) / 60 for charge in produced.values()} == {4}
    assert produced["telephony"]["labels"] == {"record_type": "voice_call_outbound"}
    assert produced["ai-processing"]["labels"] == {"record_type": "voice_ai_processing"}


@pytest.mark.parametrize("direction", ["inbound", "outbound"])
@pytest.mark.parametrize(("seconds", "minutes"), PULSES)
def test_thinnestai_counts_begun_minutes(seconds, minutes, direction):
    """Each begun minute of a call is 1.50 INR, and 0.50 INR on a number of the platform; ringing is none."""
    charges = rate("thinnestai.yaml", call(seconds, direction, "vobiz"))
    fee, telephony = f"platform-fee-{direction}", f"vobiz-{direction}"
    expected = {fee: minutes * Decimal("1.5"), telephony: minutes * Decimal("0.5")} if minutes else {}
    assert billed(charges) == expected
    for charge in charges[1:]:
        assert charge["labels"] == {"record_type": f"voice_call_{direction}"}
        assert (charge["billed_currency"], charge["billable_quantity"]) == ("INR", str(minutes * 60))


def increments(seconds, **more):
    """Return a call as it is metered: opened at the answer, appended every five seconds, closed with its total."""
    steps = [0, *[5] * (seconds // 5), seconds % 5]
    states = ["opened", *["connected"] * (len(steps) - 2), "ended"]
    records = [
        call(step, "inbound", "vobiz", operation_id="leg", attributes={"leg": "primary", "state": state}, **more)
        for step, state in zip(steps, states, strict=True)
    ]
    records[-1]["operation_total"] = {"call_seconds": str(seconds)}
    return records


@pytest.mark.parametrize(("seconds", "minutes"), PULSES)
def test_thinnestai_counts_begun_minutes_of_a_call_that_is_metered_as_it_goes_on(seconds, minutes):
    """The last record brings the sum of a leg to whole minutes; a statement is exact, each line is to 12 places."""
    charges = rate("thinnestai.yaml", *increments(seconds))
    for name, price in (("platform-fee-inbound", Decimal("1.5")), ("vobiz-inbound", Decimal("0.5"))):
        lines = [charge for charge in charges if rule(charge) == name]
        assert sum(Decimal(charge["billable_quantity"]) for charge in lines) == 60 * minutes
        amount = sum(Decimal(charge["billed_cost"]) for charge in lines)
        assert abs(amount - minutes * price) <= len(lines) * Decimal("5e-13")
    assert state(charges, "thinnestai.yaml").rounded_money == 2 * minutes


def test_thinnestai_bills_a_call_whose_worker_was_killed_as_measured():
    """Without its end a leg is not rounded, and each of its lines says so."""
    charges = rate("thinnestai.yaml", *increments(185)[:-1])
    fees = [charge for charge in charges if rule(charge) == "platform-fee-inbound"]
    assert sum(Decimal(charge["billable_quantity"]) for charge in fees) == 185
    assert billed(fees) == {"platform-fee-inbound": Decimal("4.625")}
    assert all("open=1" in charge["pricing_source"] for charge in charges if rule(charge))


def test_thinnestai_record_types_are_what_a_report_groups_by():
    """Labels of the plan's rows reach the ledger: what calls, and what models, were billed in rupees."""
    configure("thinnestai.yaml")
    work = usage("stt", "sarvam", "saarika:v2.5", audio_seconds=240)
    spool = Spool(Path(".costmeter/spool"), header={"sinks": None}, max_bytes=1 << 30)
    for record in (call(185, "inbound", "vobiz"), call(61, "outbound", "vobiz", "acme"), work):
        spool.append(json.dumps(record).encode()[1:])
    spool.close()
    run("ship")
    rows = json.loads(run("report", "--by", "label:record_type", "--format", "json"))["rows"]
    billed_by_type = {row["key"]["label:record_type"]: row["billed_cost"].get("INR") for row in rows}
    assert {name: amount for name, amount in billed_by_type.items() if name} == {
        "voice_call_inbound": "8",
        "voice_call_outbound": "3",
        "voice_ai_processing": "2",
    }


def test_thinnestai_four_minutes_on_each_number():
    """Fee 6.00 and telephony 2.00 on Vobiz; on a number of one's own the fee stays and the rest is the carrier's."""
    assert total(rate("thinnestai.yaml", call(185, "inbound", "vobiz"))) == 8
    for carrier in ("vobiz", "twilio", "exotel", "plivo", "telnyx"):
        own = rate("thinnestai.yaml", call(185, "inbound", carrier, "acme"), rates=[{**TWILIO, "provider": carrier}])
        assert billed(own) == {"platform-fee-inbound": Decimal(6)}
        assert total(own) == 6
        assert own[0]["billed_by"] == "provider"


WORK = [
    ("stt-sarvam-saarika", usage("stt", "sarvam", "saarika:v2.5", audio_seconds=240), "2", "2"),
    (
        "stt-sarvam-saarika",
        usage("stt", "sarvam", "saarika:v2.5", audio_seconds=185),
        "1.541666666667",
        "1.541666666667",
    ),
    ("stt-deepgram-nova-2", usage("stt", "deepgram", "nova-2", audio_seconds=240), "0.0172", "1.42932"),
    ("stt-deepgram-nova-2", usage("stt", "deepgram", "nova-2", audio_seconds=185), "0.013258333333", "1.1017675"),
    ("tts-sarvam-bulbul", usage("tts", "sarvam", "bulbul:v3", characters=1200), "0.12", "0.12"),
    ("tts-cartesia-sonic-3", usage("tts", "cartesia", "sonic-3", characters=1200), "0.012", "0.9972"),
    ("llm-gpt-4o-mini-input", usage("llm", "openai", "gpt-4o-mini", input_tokens=3000), "0.00045", "0.037395"),
    ("llm-gpt-4o-mini-output", usage("llm", "openai", "gpt-4o-mini", output_tokens=500), "0.0003", "0.02493"),
]


@pytest.mark.parametrize(("name", "record", "amount", "rupees"), WORK)
def test_thinnestai_prices_of_models(name, record, amount, rupees):
    """Each price of the page, in its own currency and on the bill in rupees at the plan's rate of 83.10."""
    charges = rate("thinnestai.yaml", record)
    assert billed(charges) == {name: Decimal(rupees)}
    (produced,) = [charge for charge in charges if rule(charge) == name]
    assert produced["labels"] == {"record_type": "voice_ai_processing"}
    assert produced["billed_currency"] == "INR"
    converted = "fx=USD-INR:83.1@2026-01-01" in produced["pricing_source"]
    assert converted == (amount != rupees)
    exact = Decimal(rupees) / (Decimal("83.10") if converted else 1)
    assert abs(exact - Decimal(amount)) < Decimal("1e-12")


@pytest.mark.parametrize("record", [record for _, record, _, _ in WORK])
def test_thinnestai_own_keys_are_free(record):
    """With the account's key the page's prices do not apply, and nothing is billed."""
    charges = rate("thinnestai.yaml", acme(record))
    assert [(charge["kind"], charge["billed_cost"], charge["billed_by"]) for charge in charges] == [
        ("usage", "0", "provider")
    ]


def test_thinnestai_free_model_is_a_price_of_nothing():
    """GPT-OSS 20B on Groq is priced at 0 by a rule, which is not the same as having no price."""
    work = usage("llm", "groq", "openai/gpt-oss-20b", input_tokens=3000, cached_input_tokens=64, output_tokens=500)
    charges = rate("thinnestai.yaml", work)
    produced = [charge for charge in charges if rule(charge)]
    assert {(charge["pricing_status"], charge["cost"]) for charge in produced} == {("free", "0")}
    assert {charge["unit"] for charge in produced} == {"input_tokens", "cached_input_tokens", "output_tokens"}
    assert total(charges) == 0


def test_thinnestai_mixes_own_number_own_keys_and_the_platforms():
    """Own carrier and own recogniser, the platform's voice and language model: fee, voice and model are billed."""
    records = [
        call(185, "outbound", "plivo", "acme"),
        acme(usage("stt", "deepgram", "nova-2", audio_seconds=185)),
        usage("tts", "sarvam", "bulbul:v3", characters=1200),
        usage("llm", "groq", "openai/gpt-oss-20b", input_tokens=3000, output_tokens=500),
    ]
    charges = rate("thinnestai.yaml", *records, rates=[{**TWILIO, "provider": "plivo"}])
    assert billed(charges) == {"platform-fee-outbound": Decimal(6), "tts-sarvam-bulbul": Decimal("0.12")}
    assert total(charges) == Decimal("6.12")


# LiveKit Cloud: minutes.


@pytest.mark.parametrize(("seconds", "minutes"), [(0, 0), (10, 1), (60, 1), (61, 2), (70, 2), (120, 2)])
@pytest.mark.parametrize(
    ("plan", "channel", "prices"),
    [
        ("ship", "inbound", {"agent-session-minutes": "0.01", "sip-minutes": "0.004"}),
        ("ship", "web", {"agent-session-minutes": "0.01", "webrtc-minutes": "0.0005"}),
        ("scale", "outbound", {"agent-session-minutes": "0.01", "sip-minutes": "0.003"}),
        ("scale", "web", {"agent-session-minutes": "0.01", "webrtc-minutes": "0.0004"}),
    ],
)
def test_livekit_cloud_rounds_each_use_up_to_a_minute(seconds, minutes, plan, channel, prices):
    """10 seconds are one minute and 70 are two, of the agent and of the caller's connection each."""
    record = call(seconds, channel, "webrtc" if channel == "web" else "twilio", "acme")
    charges = rate(f"livekit-cloud.yaml#livekit-cloud-{plan}", record)
    assert billed(charges) == ({name: minutes * Decimal(price) for name, price in prices.items()} if minutes else {})
    assert {charge["billed_by"] for charge in charges if rule(charge)} == ({"livekit"} if minutes else set())


def test_livekit_cloud_rounds_before_it_sums():
    """Two legs of 70 seconds are two and two minutes of SIP; there is one agent, so its minutes count once."""
    legs = [call(70, "inbound", "twilio", "acme", attributes={"leg": leg}) for leg in ("primary", "transfer")]
    charges = rate("livekit-cloud.yaml", *legs)
    assert billed(charges) == {"agent-session-minutes": Decimal("0.02"), "sip-minutes": Decimal("0.016")}


def test_livekit_cloud_leaves_models_at_cost():
    """LiveKit Inference is on the same bill by its own prices; a model elsewhere is not LiveKit's."""
    voice = usage("tts", "livekit", "cartesia/sonic-3", characters=1000)
    charges = rate("livekit-cloud.yaml", call(70, "web"), voice, LLM)
    by = {name: [charge for charge in charges if charge["billed_by"] == name] for name in ("livekit", "platform")}
    assert billed(by["livekit"]) == {
        "agent-session-minutes": Decimal("0.02"),
        "webrtc-minutes": Decimal("0.001"),
        "tts": Decimal("0.05"),
    }
    assert billed(by["platform"]) == {"llm": Decimal("0.00075")}


@pytest.mark.parametrize(("seconds", "counted"), [("0", 0), ("4", 10), ("10", 10), ("10.2", 11), ("70", 70)])
def test_livekit_cloud_by_the_second(seconds, counted):
    """The later wording of the page: agent sessions by the second, ten at least; connections stay at minutes."""
    charges = rate("livekit-cloud.yaml#livekit-cloud-ship-by-second", call(seconds, "web"))
    found = {rule(charge): charge["billable_quantity"] for charge in charges if rule(charge)}
    minutes = -(-counted // 60) * 60
    assert found == ({"agent-session-minutes": str(counted), "webrtc-minutes": str(minutes)} if counted else {})
