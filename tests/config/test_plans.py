"""Plans in files: what is wrong with one is said with file, line, key path and reason."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from livekit_costmeter.cli import costmeter
from livekit_costmeter.config import ConfigError, load
from livekit_costmeter.config.plans import build_billing, read_plan
from livekit_costmeter.config.prices import check_prices, load_rate
from livekit_costmeter.records import parse_usage

GOLD = "name: gold\ncurrency: USD\n"
CONFIG = "billing: {plans: [./plan.yaml]}\n"
USAGE = {
    "at": "2026-03-05T12:00:00Z",
    "component": "tts",
    "provider": "elevenlabs",
    "model": "eleven_flash_v2_5",
    "quantities": {"characters": "2140"},
    "key_owner": "platform",
}
FLASH = '  - {id: flash, component: tts, provider: elevenlabs, model: "*flash*", unit: characters, price: "9"%s}\n'
FEE = "fees:\n  - {id: f, per: minute, price: 1, pulse_seconds: 60}\n"

WRONG = {
    "two rules for one unit": (
        GOLD + "rates:\n" + FLASH % "" + '  - {id: other, component: tts, model: "*_v2*", unit: characters, price: 1}\n'
        '  - {id: more, component: tts, provider: ElevenLabs, model: "*turbo_v2*", unit: characters, price: 1}\n'
        '  - {id: same, component: tts, provider: elevenlabs, model: "eleven*", unit: characters, price: 1}\n',
        ":7: rates[3]: two rules for one unit: rates[0] and rates[3] both charge characters of tts elevenlabs/eleven*",
    ),
    "the same rule twice": (
        GOLD + "rates:\n" + FLASH % "" + FLASH % "",
        ":5: rates[1]: two rules for one unit: rates[0] and rates[1] are both flash, always",
    ),
    "overlapping dates": (
        GOLD
        + "rates:\n"
        + FLASH % ", effective_to: 2026-07-02"
        + FLASH.replace("flash,", "later,", 1) % ", effective_from: 2026-07-01",
        ":5: rates[1]: two rules for one unit",
    ),
    "two telephony rows": (
        GOLD + "telephony:\n  - {id: a, provider: vobiz, direction: inbound, price: 1}\n"
        "  - {id: b, provider: vobiz, direction: inbound, price: 2}\n",
        ":5: telephony[1]: two rules for one unit: telephony[0] and telephony[1] both charge call_seconds of calls",
    ),
    "two ways to pass through": (
        GOLD + "pass_through:\n  - {component: llm}\n  - {component: llm, markup: 1}\n",
        ":5: pass_through[1]: two rules for one unit: pass_through[0] is about llm as well",
    ),
    "a gap in dates": (
        GOLD + "rates:\n" + FLASH % ", effective_to: 2026-03-01" + FLASH % ", effective_from: 2026-04-01",
        ":5: rates[1]: a gap in the dates of flash: nothing from 2026-03-01 to 2026-04-01, between",
    ),
    "an id for two things": (
        GOLD + FEE + "taxes:\n  - {id: f, rate: 1}\n",
        ":6: taxes[0].id: f is the id of fees[0], which is about something else",
    ),
    "unknown currency": ("name: gold\ncurrency: ABC\n", ":2: currency: 'ABC' is not a currency of ISO 4217"),
    "unknown currency of a row": (
        GOLD + "rates:\n" + FLASH % ", currency: QQQ",
        ":4: rates[0].currency: 'QQQ' is not a currency",
    ),
    "small letters": ("name: gold\ncurrency: usd\n", ":2: currency: 'usd' is not a currency"),
    "negative rate": (
        GOLD + "rates:\n  - {id: a, component: llm, unit: input_tokens, price: '-1'}\n",
        ":4: rates[0].price: input should be greater than or equal to 0",
    ),
    "negative markup": (
        GOLD + "pass_through: [{component: llm, markup: '-0.1'}]\n",
        ":3: pass_through[0].markup: input should be greater than or equal to 0",
    ),
    "negative tax": (GOLD + "taxes: [{id: t, rate: -1}]\n", ":3: taxes[0].rate: input should be greater than or"),
    "not a number": (
        GOLD + "fees: [{id: a, per: call, price: .nan}]\n",
        ":3: fees[0].price: input should be a valid decimal",
    ),
    "not a number as text": (
        GOLD + "fees: [{id: a, per: call, price: NaN}]\n",
        ":3: fees[0].price: input should be a finite number",
    ),
    "a truth value": (
        GOLD + "fees: [{id: a, per: call, price: true}]\n",
        ":3: fees[0].price: input should be a decimal",
    ),
    "missing exchange rate of a row": (
        GOLD + "rates:\n" + FLASH % ", currency: INR",
        ":4: rates[0]: no exchange rate from INR to USD, but its price is in INR",
    ),
    "missing exchange rate of what is passed through": (
        "name: gold\ncurrency: INR\n",
        ":2: currency: no exchange rate from USD to INR, but what is passed through is priced in USD",
    ),
    "the rate the other way round": (
        (
            "name: gold\ncurrency: INR\npass_through: [{component: llm}]\n"
            "exchange_rates: [{from: INR, to: USD, rate: 0.01}]\n"
        ),
        ":3: pass_through: no exchange rate from USD to INR",
    ),
    "two exchange rates": (
        GOLD + "exchange_rates:\n  - {from: EUR, to: USD, rate: 1}\n  - {from: EUR, to: USD, rate: 2}\n",
        ":5: exchange_rates[1]: a second rate from EUR to USD for the same date as exchange_rates[0]",
    ),
    "an exchange rate of 0": (
        GOLD + "exchange_rates: [{from: EUR, to: USD, rate: 0}]\n",
        ":3: exchange_rates[0].rate: input should be greater than 0",
    ),
    "credits without a price": (GOLD + "prices_in: credits\n", ":3: prices_in: prices in credits need `credits`"),
    "a row in credits without a price": (
        GOLD + "rates:\n" + FLASH % ", currency: credits",
        ":4: rates[0].currency: a price in credits needs `credits`",
    ),
    "no pulse": (
        GOLD + "fees: [{id: f, per: minute, price: 1, pulse_seconds: 0}]\n",
        ":3: fees[0].pulse_seconds: input should be greater than 0",
    ),
    "a pulse of characters": (
        GOLD + "rates:\n" + FLASH % ", pulse_seconds: 60",
        ":4: rates[0]: pulse_seconds and minimum_seconds need a unit of seconds",
    ),
    "unknown key": (GOLD + "fee: []\n", ":3: fee: unknown key (allowed: billed_by, credits, currency"),
    "unknown key of a row": (
        GOLD + "rates:\n" + FLASH % ", prise: 1",
        ":4: rates[0].prise: unknown key (allowed: component, currency",
    ),
    "unknown unit": (
        GOLD + "rates: [{id: a, component: tts, unit: minutes, price: 1}]\n",
        ":3: rates[0].unit: 'minutes' is not a unit (allowed: input_tokens",
    ),
    "unknown component": (
        GOLD + "rates: [{id: a, component: asr, unit: characters, price: 1}]\n",
        ":3: rates[0].component: input should be 'stt', 'llm'",
    ),
    "dates that end before they begin": (
        GOLD + "effective_from: 2027-01-01\neffective_to: 2026-01-01\n",
        ":1: effective_to must be later than effective_from",
    ),
    "the second plan of a file": (
        "plans:\n  - {name: a, currency: USD}\n  - name: b\n    currency: USDT\n",
        ":4: plans[1].currency: 'USDT' is not a currency",
    ),
    "one name for two plans": (
        "plans:\n  - {name: a, currency: USD}\n  - {name: a, currency: USD}\n",
        ":3: plans[1].name: a second plan named a",
    ),
    "the name of no plan": ("name: none\ncurrency: USD\n", ":1: name: 'none' stands for no plan"),
    "a date of another time zone": (
        GOLD + "effective_from: 2026-01-01T00:00:00+05:30\n",
        ":3: effective_from: expected a date, such as 2026-01-31",
    ),
    "seconds in place of a date": (
        GOLD + "fees: [{id: a, per: call, price: 1, effective_to: 1767225600}]\n",
        ":3: fees[0].effective_to: expected a date, such as 2026-01-31",
    ),
    "the name of a unit": (
        GOLD + "rates: [{id: characters, component: tts, unit: characters, price: 1}]\n",
        ":3: rates[0].id: characters is the name of a unit",
    ),
    "a rate for calls": (
        GOLD + "rates: [{id: a, component: tts, unit: call_seconds, price: 1}]\n",
        ":3: rates[0].unit: call_seconds are of calls, which `telephony` and `fees` price",
    ),
    "a tax in per cent": (GOLD + "taxes: [{id: gst, rate: 18}]\n", ":3: taxes[0].rate: a share, at most 1: 18 % is"),
    "two rows for every number": (
        GOLD + "telephony:\n  - {id: a, provider: vobiz, price: 1}\n"
        "  - {id: b, provider: vobiz, number_type: Any, price: 2}\n",
        ":5: telephony[1]: two rules for one unit: telephony[0] and telephony[1] both charge call_seconds of calls",
    ),
    "a list": ("- a\n", ":1: expected a mapping of keys: one plan, or `plans`"),
}


def write(tmp_path, plan, config=CONFIG):
    (tmp_path / "plan.yaml").write_text(plan)
    path = tmp_path / "costmeter.yaml"
    path.write_text(config)
    return path


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_plan_is_refused_with_its_place(tmp_path, wrong):
    """File, line, key path and reason, before anything is rated."""
    text, message = WRONG[wrong]
    config = load(write(tmp_path, text), {})
    with pytest.raises(ConfigError) as error:
        check_prices(config)
    assert str(error.value).startswith(f"{tmp_path / 'plan.yaml'}{message}")
    with pytest.raises(ConfigError):
        load_rate(config)


@pytest.mark.parametrize("command", ["check", "rate"])
@pytest.mark.parametrize("wrong", ["two rules for one unit", "a gap in dates", "unknown currency", "negative rate"])
def test_commands_stop_at_a_wrong_plan(tmp_path, wrong, command):
    """Exit code 2, the mistake on stderr, and nothing on stdout."""
    text, message = WRONG[wrong]
    path = write(tmp_path, text)
    done = CliRunner().invoke(costmeter, [command, "--config", str(path)], input=json.dumps(USAGE) + "\n")
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"plan.yaml{message}" in done.stderr


@pytest.mark.parametrize(
    ("billing", "message"),
    [
        ("{}", ":1: billing.plans: missing (allowed: accounts, default, exchange_rates, plans, priority)"),
        ("{plans: []}", ":1: billing.plans: list should have at least 1 item"),
        ("{plans: [./plan.yaml, ./plan.yaml]}", ":1: billing.plans[1]: a second plan named gold"),
        (
            "{plans: [./plan.yaml], default: silver}",
            ":1: billing.default: no plan named 'silver' (allowed: gold, none)",
        ),
        ("{plans: [./plan.yaml], accounts: {a: silver}}", ":1: billing.accounts.a: no plan named 'silver'"),
        ("{plans: [./plan.yaml], accounts: {a: {plna: x}}}", ":1: billing.accounts.a.plna: unknown key"),
        (
            "{plans: [./plan.yaml], exchange_rates: [{from: USD, to: XYZ, rate: 1}]}",
            ":1: billing.exchange_rates[0].to: 'XYZ' is not a currency",
        ),
        (
            "{plans: [./plan.yaml], exchange_rates: [{from: USD, to: INR, rate: 1}, {from: USD, to: INR, rate: 1}]}",
            ":1: billing.exchange_rates[1]: a second rate from USD to INR",
        ),
    ],
)
def test_who_is_on_which_plan_is_checked_in_the_configuration(tmp_path, billing, message):
    """Plans that are not there, or twice, and rates in currencies that are none."""
    path = write(tmp_path, GOLD, f"billing: {billing}\n")
    with pytest.raises(ConfigError) as error:
        check_prices(load(path, {}))
    assert str(error.value).startswith(f"{path}{message}")


def test_a_plan_is_named_behind_its_file(tmp_path):
    """Without a name it is the first; a name that is not there is refused with those that are."""
    file = tmp_path / "plans.yaml"
    file.write_text("plans:\n  - {name: a, currency: USD}\n  - {name: b, currency: USD}\n")
    assert [read_plan(f"{file}{name}").name for name in ("", "#a", "#b")] == ["a", "a", "b"]
    with pytest.raises(ConfigError, match=r"plans\.yaml: no plan named 'c' \(it has: a, b\)"):
        read_plan(f"{file}#c")
    with pytest.raises(ConfigError, match=r"missing\.yaml: No such file"):
        read_plan(tmp_path / "missing.yaml")


def test_a_plan_may_be_another_one_with_other_values(tmp_path):
    """What a plan merges in gives way to its own keys, also where it is merged on; its own are not repeated."""
    file = tmp_path / "plans.yaml"
    first, second = "  - &a {name: a, currency: USD, description: x}\n", "  - &b {<<: *a, name: b, description: y}\n"
    file.write_text(f"plans:\n{first}{second}  - {{<<: *b, name: c, currency: EUR, pass_through: []}}\n")
    plans = [read_plan(f"{file}#{name}") for name in "abc"]
    assert [(plan.currency, plan.description) for plan in plans] == [("USD", "x"), ("USD", "y"), ("EUR", "y")]
    file.write_text(f"plans:\n{first}  - {{<<: *a, name: b, name: c}}\n")
    with pytest.raises(ConfigError, match=r":3: plans\[1\]\.name: stands here twice"):
        read_plan(file)


def test_exchange_rates_of_the_configuration_complete_those_of_the_plan(tmp_path):
    """A plan in rupees needs no rate of its own where the configuration has one; its own wins."""
    rupees = "name: gold\ncurrency: INR\n"
    config = "billing: {plans: [./plan.yaml], exchange_rates: [{from: USD, to: INR, rate: 83}]}\n"
    given = load_rate(load(write(tmp_path, rupees, config), {}))
    own = load_rate(load(write(tmp_path, rupees + "exchange_rates: [{from: USD, to: INR, rate: 90}]\n", config), {}))
    record = parse_usage(json.dumps(USAGE))
    assert [float(rate(record)[0].billed_cost / rate(record)[0].cost) for rate in (given, own)] == [83, 90]


def test_rate_prints_the_lines_of_the_accounts_plan(tmp_path):
    """The command bills as the shipper does: the plan's source has the digest of its file."""
    plan = GOLD + 'credits: {price: "0.005"}\nprices_in: credits\nrates:\n' + FLASH % ", per: 1000"
    config = "billing: {plans: [./plan.yaml], default: none, accounts: {acme: gold}}\n"
    path = write(tmp_path, plan, config)
    lines = json.dumps({**USAGE, "account": "acme"}) + "\n" + json.dumps(USAGE) + "\n"
    done = CliRunner().invoke(costmeter, ["rate", "--config", str(path)], input=lines)
    assert done.exit_code == 0
    usage, fee, without = [json.loads(line) for line in done.stdout.splitlines()]
    digest = load(path, {}) and read_plan(tmp_path / "plan.yaml").digest
    assert (usage["billed_cost"], usage["credits"]) == ("0", "0")
    assert (fee["credits"], fee["billed_cost"], fee["unit_price"]) == ("19.26", "0.0963", "0.045")
    assert fee["pricing_source"] == f"plan:gold@{digest}#flash"
    assert without["billed_cost"] == without["cost"]
    assert without["credits"] is None


def test_check_says_which_plan_is_in_force(tmp_path, monkeypatch):
    """The default with its currency, and every account that is on another."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, GOLD, "billing: {plans: [./plan.yaml], accounts: {a: none, b: {priority: true}}}\n")
    done = CliRunner().invoke(costmeter, ["check"])
    assert "  gold (USD); a: none; b: gold (USD), priority" in done.stdout


def test_without_billing_there_is_none_and_nothing_of_it_is_imported(tmp_path):
    """Charges stay as they are rated, and an agent pays for nothing that it does not use."""
    path = tmp_path / "costmeter.yaml"
    path.write_text("project: line\n")
    assert build_billing(load(path, {})) is None
    code = (
        "import sys; from livekit_costmeter.config import load; from livekit_costmeter.config.prices import *;"
        "from livekit_costmeter.records import parse_usage; config = load(sys.argv[1]); check_prices(config);"
        "charges = build_rate(config)(parse_usage(sys.argv[2]));"
        "print(len(charges), charges[0].billed_cost == charges[0].cost,"
        "[name for name in sys.modules if 'costmeter.billing' in name or name.endswith('config.plans')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), json.dumps(USAGE)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1 True []"
