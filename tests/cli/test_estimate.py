"""`costmeter estimate`: worked numbers of three platforms, comparisons, a ledger, and every way to ask for too much."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

PLANS = Path(__file__).parents[2] / "examples/plans"
VOICEFLOW = str(PLANS / "voiceflow.yaml")
THINNEST = str(PLANS / "thinnestai.yaml")
VAPI = str(PLANS / "vapi.yaml")
AUDIO_ALONE = ("--llm", "none", "--stt", "none", "--tts", "none")
# What the document states and does not explain: about one credit of language model, 0.005 USD, for 3,000 tokens.
ONE_CREDIT = """\
name: given
rates:
  - {provider: openai, model: gpt-4o-mini, unit: input_tokens, price: "0.005", per: 3000}
  - {provider: openai, model: gpt-4o, unit: input_tokens, price: "0.05", per: 3000}
  - {provider: twilio, model: inbound, unit: call_seconds, price: "0.0085", per: 60}
"""
CONFIG = "pricing: {rate_cards: [./given.yaml]}\n"
ONE_CREDIT_OF_LLM = ("--input-tokens", "300", "--output-tokens", "0", "--llm", "openai/gpt-4o-mini")


@pytest.fixture
def ask(run):
    """Return a function that runs the command and returns its JSON."""
    Path("costmeter.yaml").write_text(CONFIG)
    Path("given.yaml").write_text(ONE_CREDIT)

    def invoke(*arguments):
        done = run("estimate", "--format", "json", *arguments)
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)

    return invoke


def quote_of(answer):
    """Return the only quote."""
    [quote] = answer["quotes"]
    return quote


def parts_of(quote, amount="billed"):
    """Return the amounts of the parts."""
    return {part["part"]: part[amount] for part in quote["parts"] if part[amount]}


def test_voiceflow_five_turn_chat_is_six_credits(ask):
    """Five messages and the stated credit of language model: 6 credits, 0.03 USD."""
    quote = quote_of(
        ask("--plan", VOICEFLOW, "--channel", "chat", "--turns", "5", *ONE_CREDIT_OF_LLM, "--input-tokens", "600")
    )
    assert parts_of(quote) == {"llm": {"USD": "0.005"}, "telephony": {"USD": "0"}, "platform": {"USD": "0.025"}}
    assert quote["statement"]["rounded_credits"] == quote["credits"] == "6"
    assert quote["statement"]["rounded_money"] == "0.03"


def test_voiceflow_five_minute_call_is_76_credits_rounded_and_75_26_exactly(ask):
    """50 + 1 + 19.26 + 5: exactly 75.26 credits; with each line rounded up, as the document does, 76 = 0.38 USD."""
    quote = quote_of(ask("--plan", VOICEFLOW, "--channel", "inbound", "--characters", "2140", *ONE_CREDIT_OF_LLM))
    assert {part["part"]: part["credits"] for part in quote["parts"] if part["credits"]} == {
        "stt": "5",
        "llm": "1",
        "tts": "19.26",
        "platform": "50",
    }
    statement = quote["statement"]
    assert (statement["credits"], statement["money"]) == ("75.26", "0.3763")
    assert (statement["rounded_credits"], statement["rounded_money"]) == ("76", "0.38")
    assert Decimal(statement["rounded_money"]) / 5 == Decimal("0.076")


def test_both_totals_of_the_five_minute_call_are_in_the_text(ask, run):
    """People see the exact and the rounded statement side by side."""
    ask("--plan", VOICEFLOW)
    shown = run("estimate", "--plan", VOICEFLOW, "--characters", "2140", *ONE_CREDIT_OF_LLM).stdout
    assert "statement of one call: 76 credits = 0.38 USD; exactly 75.26 credits = 0.3763 USD" in shown


def test_a_statement_says_what_it_does_not_know(run, tmp_path):
    """Before the first exchange rate, a bill of 0 is not all there is."""
    plan = tmp_path / "euro.yaml"
    plan.write_text(
        "name: euro\ncurrency: EUR\nexchange_rates: [{from: USD, to: EUR, rate: 0.9, effective_from: 2026-03-01}]\n"
    )
    asked = ("estimate", "--plan", str(plan), "--llm", "none", "--tts", "none", "--at")
    assert "; the bill of 1 line is not known\n" in run(*asked, "2026-02-28").stdout
    assert "is not known" not in run(*asked, "2026-03-01").stdout


@pytest.mark.parametrize(
    ("length", "minutes"),
    [("0:01", 1), ("0:59", 1), ("1:00", 1), ("1:01", 2), ("1:59", 2), ("2:00", 2), ("2:01", 3), ("3:05", 4)],
)
def test_thinnestai_pulses_round_up_to_minutes(ask, length, minutes):
    """Platform fee 1.50 and telephony 0.50 INR for each minute begun: 185 s are 6.00 + 2.00."""
    quote = quote_of(ask("--plan", THINNEST, "--minutes", length, "--telephony", "vobiz", *AUDIO_ALONE))
    assert {name: Decimal(sums["INR"]) for name, sums in parts_of(quote).items()} == {
        "telephony": Decimal("0.5") * minutes,
        "platform": Decimal("1.5") * minutes,
    }
    assert quote["complete"]


def test_thinnestai_example_record_is_0_08_and_0_12(ask):
    """185 seconds at the prices behind the example: 4 minutes, 0.08 + 0.12 = 0.20."""
    plan = f"{THINNEST}#thinnestai-record-example"
    asked = ("--minutes", "3:05", "--telephony", "twilio", "--channel", "outbound", *AUDIO_ALONE)
    quote = quote_of(ask("--plan", plan, *asked))
    assert parts_of(quote) == {"telephony": {"USD": "0.08"}, "platform": {"USD": "0.12"}}
    assert quote["per_call"]["billed"] == {"USD": "0.2"}


def test_thinnestai_own_number_costs_nothing_here_and_the_fee_stays(ask):
    """With a number of the account's own the plan bills no telephony; what its carrier takes is shown apart."""
    asked = ("--minutes", "3:05", "--telephony", "twilio", "--owner", "telephony=acme", *AUDIO_ALONE)
    quote = quote_of(ask("--plan", THINNEST, *asked))
    assert parts_of(quote) == {"telephony": {"INR": "0"}, "platform": {"INR": "6"}}
    assert parts_of(quote, "own") == {"telephony": {"USD": "0.034"}}


def test_thinnestai_own_keys_cost_nothing_here(ask):
    """With the account's keys the bill is fee and telephony; the providers' costs are the account's own."""
    asked = ("--minutes", "3:05", "--telephony", "vobiz", *(f"--owner={name}=acme" for name in ("llm", "stt", "tts")))
    quote = quote_of(ask("--plan", THINNEST, *asked))
    assert quote["per_call"]["billed"] == {"INR": "8"}
    assert all(part["billed"] == {"INR": "0"} for part in quote["parts"] if part["part"] in ("llm", "stt", "tts"))
    assert quote["per_call"]["own"]["USD"] == quote["per_call"]["cost"]["USD"] > "0"


@pytest.mark.parametrize(
    ("models", "part", "billed"),
    [
        (("--stt", "sarvam/saarika:v2.5"), "stt", "2"),
        (("--stt", "deepgram/nova-2"), "stt", "1.42932"),  # 0.0172 USD
        (("--tts", "sarvam/bulbul:v2", "--characters", "1200"), "tts", "0.12"),
        (("--tts", "cartesia/sonic-3", "--characters", "1200"), "tts", "0.9972"),  # 0.012 USD
        (
            ("--llm", "openai/gpt-4o-mini", "--turns", "1", "--input-tokens", "3000", "--output-tokens", "500"),
            "llm",
            "0.062325",  # 0.00045 + 0.0003 USD
        ),
        (("--llm", "groq/openai/gpt-oss-20b"), "llm", "0"),
    ],
)
def test_thinnestai_models_cost_what_the_page_says(ask, models, part, billed):
    """Four minutes of Saarika are 2.00 INR, and so on, prices in USD at 83.10."""
    component = models[0]
    others = [name for name in ("llm", "stt", "tts") if f"--{name}" != component]
    asked = ("--minutes", "4", "--telephony", "vobiz", *models, *(f"--{name}=none" for name in others))
    assert parts_of(quote_of(ask("--plan", THINNEST, *asked)))[part] == {"INR": billed}


def test_vapi_passes_on_at_cost_and_bills_no_account_key(ask):
    """Own speech recognition, the platform's language model: only the latter is on the bill, at its cost."""
    quote = quote_of(ask("--plan", VAPI, "--owner", "stt=acme", "--tts", "none"))
    assert quote["per_call"]["billed"]["USD"] == parts_of(quote, "cost")["llm"]["USD"]
    assert parts_of(quote, "own") == {"stt": parts_of(quote, "cost")["stt"]}
    assert Decimal(quote["per_call"]["paid"]["USD"]) == Decimal(quote["per_call"]["cost"]["USD"])


@pytest.mark.parametrize(
    "asked",
    [
        ("--plan", VOICEFLOW, "--minutes", "3:07", "--talk-ratio", "0.37", "--turns", "7"),
        ("--plan", THINNEST, "--minutes", "61", "--telephony", "vobiz", "--stt", "sarvam/saarika:v2.5"),
        ("--minutes", "0:01", "--realtime", "openai/gpt-realtime"),
    ],
)
def test_an_estimate_is_the_bill_of_its_usage(ask, run, asked):
    """`costmeter rate` makes of the estimate's own usage records the same sums, to the last digit."""
    answer = ask(*asked, "--at", "2026-11-20")
    records = run("estimate", *asked, "--at", "2026-11-20", "--show-records").stdout
    plan = asked[1] if asked[0] == "--plan" else None
    Path("costmeter.yaml").write_text(CONFIG + (f"billing: {{plans: ['{plan}']}}\n" if plan else ""))
    charges = [json.loads(line) for line in run("rate", input=records).stdout.splitlines()]
    sums = {}
    for charge in charges:
        if charge["billed_cost"] is not None:
            currency = charge["billed_currency"]
            sums[currency] = sums.get(currency, 0) + Decimal(charge["billed_cost"])
    billed = {currency: Decimal(text) for currency, text in quote_of(answer)["per_call"]["billed"].items()}
    assert billed == sums
    assert billed


def test_combinations_are_compared_and_the_cheapest_that_fits_is_named(ask, run):
    """Two models under two plans: four quotes, the cheapest first, what is over the budget marked."""
    asked = ("--llm", "openai/gpt-4o", "--llm", "openai/gpt-4o-mini", "--plan", VAPI, "--plan", VOICEFLOW)
    budget = ("--max-per-minute", "0.05", "--output-tokens", "0")
    answer = ask(*asked, *budget)
    prices = [Decimal(quote["per_call"]["paid"]["USD"]) for quote in answer["quotes"]]
    assert len(prices) == 4
    assert prices == sorted(prices)
    assert [quote["cheapest"] for quote in answer["quotes"]] == [True, False, False, False]
    assert [quote["fits"] for quote in answer["quotes"]] == [price / 5 <= Decimal("0.05") for price in prices]
    shown = run("estimate", *asked, *budget).stdout
    assert "the cheapest within 0.05 a minute is plan vapi, openai/gpt-4o-mini + deepgram/nova-3" in shown


def test_an_unpriced_model_is_never_the_cheapest(ask, run):
    """What nobody prices comes last and says why, though its known part is the lowest."""
    answer = ask("--llm", "groq/made-up", "--llm", "openai/gpt-4o-mini", "--max-per-minute", "1")
    best, unpriced = answer["quotes"]
    assert (best["cheapest"], best["complete"], best["fits"]) == (True, True, True)
    assert (unpriced["cheapest"], unpriced["complete"], unpriced["fits"]) == (False, False, None)
    known = [Decimal(quote["per_call"]["paid"]["USD"]) for quote in (unpriced, best)]
    assert known[0] < known[1]
    assert unpriced["parts"][1]["missing"]["cost"][0] == "groq/made-up input_tokens: no_match"
    shown = run("estimate", "--llm", "groq/made-up").stdout
    assert "unpriced or unknown: groq/made-up input_tokens (no source has a price for this model)" in shown
    assert ">= " in shown


def test_a_call_by_an_unnamed_carrier_says_that_its_price_is_left_out(run):
    """Without a carrier a phone call is complete but for telephony, which is said."""
    shown = run("estimate", "--channel", "inbound").stdout
    assert "left out: the carrier's price of the call" in shown
    assert "left out" not in run("estimate").stdout


def test_the_month_is_as_many_calls(ask):
    """10,000 calls cost ten thousand times one."""
    quote = quote_of(ask("--calls-per-month", "10000"))
    assert Decimal(quote["per_month"]["paid"]["USD"]) == 10000 * Decimal(quote["per_call"]["paid"]["USD"])
    assert Decimal(quote["per_minute"]["paid"]["USD"]) == Decimal(quote["per_call"]["paid"]["USD"]) / 5


def test_shares_add_up_to_one(ask):
    """The shares of the parts are of what the account pays."""
    shares = [Decimal(part["share"]) for part in quote_of(ask("--plan", THINNEST, "--telephony", "vobiz"))["parts"]]
    assert abs(sum(shares) - 1) < Decimal("0.00001")
    assert len(shares) == 5


def test_csv_has_a_line_for_each_part_and_the_total(ask, run):
    """The columns are the same for every question, amounts exact."""
    answer = ask("--plan", VOICEFLOW)
    rows = list(csv.DictReader(io.StringIO(run("estimate", "--plan", VOICEFLOW, "--format", "csv").stdout)))
    assert [row["part"] for row in rows] == ["stt", "llm", "tts", "telephony", "platform", "total"]
    assert rows[-1]["billed_per_call"] == quote_of(answer)["per_call"]["billed"]["USD"]
    assert rows[-1]["plan"] == "voiceflow-self-serve"


def test_the_plan_of_the_configuration_is_used_by_default(ask):
    """Without `--plan` an account is billed by the plan that the configuration gives it."""
    Path("costmeter.yaml").write_text(
        f"{CONFIG}billing: {{plans: ['{VAPI}', '{VOICEFLOW}'], accounts: {{acme: voiceflow-self-serve}}}}\n"
    )
    Path("given.yaml").write_text(ONE_CREDIT)
    assert quote_of(ask())["plan"] == "vapi"


def test_priority_prices_are_asked_for(run):
    """`--priority` bills the priority price where a plan has one, and needs a plan."""
    Path("plan.yaml").write_text(
        "name: p\ncurrency: USD\nfees: [{id: m, per: minute, price: '1', priority_price: '3', pulse_seconds: 60}]\n"
    )
    done = run("estimate", "--plan", "plan.yaml", "--priority", "--format", "json", *AUDIO_ALONE)
    assert quote_of(json.loads(done.stdout))["per_call"]["billed"] == {"USD": "15"}
    assert run("estimate", "--priority").exit_code == 2


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (("--minutes", "0"), "more than 0"),
        (("--minutes", "nan"), "is not"),
        (("--minutes", "3:5"), "such as 3.5 or 3:05"),
        (("--talk-ratio", "1.5"), "0 to 1"),
        (("--llm", "gpt-4o"), "PROVIDER/MODEL"),
        (("--owner", "llm"), "COMPONENT=NAME"),
        (("--owner", "phone=acme"), "telephony"),
        (("--owner", "realtime=acme"), "no realtime"),
        (("--owner", "telephony=acme"), "no telephony"),
        (("--number-type", "local"), "on the phone"),
        (("--characters", "9", "--characters-per-minute", "9"), "one of them"),
        (("--channel", "web", "--telephony", "twilio"), "carries no call"),
        (("--channel", "chat", "--tts", "cartesia/sonic-3"), "text only"),
        (("--since", "2026-11-20"), "needs --like-ledger"),
        (("--like-ledger", "--minutes", "3"), "the ledger does that"),
        (("--like-ledger", "--llm", "none"), "PROVIDER/MODEL"),
        (("--show-records", "--llm", "a/b", "--llm", "a/c"), "one combination"),
        (tuple(f"--{name}=p/{n}" for name in ("llm", "stt", "tts") for n in range(4)), "64 combinations"),
        (("--plan", "missing.yaml"), "missing.yaml"),
        (("--plan", f"{VOICEFLOW}#nobody"), "no plan named 'nobody'"),
    ],
)
def test_what_cannot_be_estimated_is_refused(run, asked, reason):
    """A number no call can have, a contradiction, or a plan that is not there: exit code 2, and the reason."""
    done = run("estimate", *asked)
    assert done.exit_code == 2
    assert reason in done.stderr
    assert not done.stdout


def test_without_a_ledger_there_is_nothing_to_learn_from(run, project, one_line):
    """A ledger that is not there is one line on stderr, never an estimate of 0."""
    done = run("estimate", "--like-ledger")
    assert done.exit_code == 2
    assert one_line(done.stderr)


def test_the_calls_of_a_ledger_are_learned_from(run, ledger):
    """Two calls of which one has an unpriced model: a lower bound per call, with the model named."""
    answer = json.loads(run("estimate", "--like-ledger", "--format", "json").stdout)
    assert answer["learned"]["calls"] == 2
    assert answer["call"] is None
    quote = quote_of(answer)
    assert not quote["complete"]
    assert quote["per_call"]["cost"] == {"USD": "0.0007"}
    again = json.loads(run("estimate", "--like-ledger", "--account", "acme", "--format", "json").stdout)
    assert quote_of(again)["complete"]
    assert quote_of(again)["spread"]["paid"]["p50"] == "0.0007"


def test_a_period_and_an_agent_pick_the_calls(run, ledger):
    """Only the calls of the period are learned from; none of that agent is an error, never 0."""
    asked = ("--like-ledger", "--format", "json", "--since", "2026-11-20", "--until", "2026-11-20T13:00Z")
    answer = json.loads(run("estimate", *asked).stdout)
    assert answer["learned"]["calls"] == 1
    assert answer["calls_per_month"] == 30
    done = run("estimate", "--like-ledger", "--agent", "nobody")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "no call to learn from in the ledger (--agent)" in done.stderr


def test_a_model_replaces_that_of_the_ledger(run, ledger):
    """What if these calls had used another model: the same tokens at its price."""
    Path("rates.yaml").write_text(
        Path("rates.yaml").read_text()
        + '  - {provider: groq, model: fast, unit: input_tokens, price: "0.05", per: 1000000}\n'
        + '  - {provider: groq, model: fast, unit: output_tokens, price: "0.2", per: 1000000}\n'
    )
    asked = ("--like-ledger", "--llm", "groq/fast", "--llm", "openai/gpt-4o-mini", "--format", "json")
    cheap, dear = json.loads(run("estimate", *asked).stdout)["quotes"]
    assert cheap["models"] == [{"component": "llm", "model": "groq/fast", "owner": None}]
    assert Decimal(dear["per_call"]["cost"]["USD"]) == 10 * Decimal(cheap["per_call"]["cost"]["USD"])
    assert run("estimate", "--like-ledger", "--stt", "deepgram/nova-3").exit_code == 2


def test_recorded_calls_are_billed_by_the_plan_of_their_account(run, ledger):
    """Without `--plan` each account's own plan is applied, and priority prices to all if asked for."""
    for name, price in (("one", 1), ("two", 10)):
        fee = f"{{id: m, component: llm, unit: input_tokens, price: {price}, per: 1000, priority_price: {price * 2}}}"
        Path(f"{name}.yaml").write_text(f"name: {name}\ncurrency: USD\nrates: [{fee}]\npass_through: []\n")
    with Path("costmeter.yaml").open("a") as stream:
        stream.write("billing: {plans: [one.yaml, two.yaml], accounts: {zen: two}}\n")
    asked = ("--like-ledger", "--until", "2026-11-21T07:00Z", "--format", "json")
    billed = [
        quote_of(json.loads(run("estimate", *asked, *more).stdout))["per_call"]["billed"]["USD"]
        for more in ((), ("--priority",), ("--account", "zen"))
    ]
    assert billed == ["5.5", "11", "10"]


def test_text_of_a_ledger_says_what_was_learned(run, ledger):
    """How many calls, when, what they used, and the median."""
    shown = run("estimate", "--like-ledger").stdout
    assert shown.startswith("like 2 calls of ")
    assert "2000" not in shown.splitlines()[0]
    assert "used per call" in shown
    assert "p90" in shown


def test_a_terminal_gets_tables_with_bars(project):
    """On a terminal the shares are bars; a narrow one leaves columns out as a whole and says so."""
    main, follower = pty.openpty()
    environ = {**os.environ, "COLUMNS": "70", "TERM": "xterm"}
    command = [sys.executable, "-m", "livekit_costmeter", "estimate", "--llm", "openai/gpt-4o-mini", "--stt", "none"]
    with subprocess.Popen(command, stdout=follower, stdin=follower, env=environ) as child:
        os.close(follower)
        shown = b""
        try:
            while chunk := os.read(main, 4096):
                shown += chunk
        except OSError:
            pass  # the other end is gone
        child.wait()
    os.close(main)
    assert b"paid in all" in shown
    assert b"\x1b[" in shown
    assert b"no room for" in shown


def test_help_shows_every_default(run):
    """Each assumption about a call stands in the help."""
    shown = " ".join(run("estimate", "--help").stdout.split())
    for text in ("[default: 5]", "[default: 0.5]", "[default: 800;", "[default: 60;", "[default: 850]", "gpt-4o-mini"):
        assert text in shown
