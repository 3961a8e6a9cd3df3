"""`costmeter prices table`: from a plan, from the configuration, from a feed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

PLANS = """\
plans:
  - name: gold
    currency: USD
    prices_in: credits
    credits: {name: credits, price: "0.005"}
    fees:
      - {id: talk, per: minute, price: "10", priority_price: "14"}
  - name: plain
    currency: USD
    effective_from: 2026-01-01
    fees:
      - {id: talk, per: minute, price: "0.07"}
"""
CONFIG = """\
pricing: {rate_cards: [./rates.yaml], catalogs: []}
billing: {plans: [./plans.yaml#gold, ./plans.yaml#plain], default: plain}
"""
FEED = {
    "config": {
        "usage": [
            {"category": "asr", "vendor": "deepgram", "item": "nova-3", "unit": "Credits per minute", "value": 1},
            {
                "category": "llm-input",
                "vendor": "openai",
                "item": "gpt",
                "unit": "x",
                "value": 0.0001,
                "priorityValue": 2,
            },
        ]
    }
}


@pytest.fixture
def plans(project):
    """Write two plans beside the configuration."""
    Path("plans.yaml").write_text(PLANS)
    return project


@pytest.fixture
def feed(project):
    """Write a feed."""
    Path("feed.json").write_text(json.dumps(FEED))
    return "feed.json"


def table_of(run, *arguments, **options):
    result = run("prices", "table", *arguments, "--format", "json", **options)
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def first_price(document):
    return document["sections"][0]["rows"][0]["prices"][0]


def test_a_plan_is_shown_in_its_credits(run, plans):
    """The first plan of a file without a name, and the instant that was asked for."""
    document = table_of(run, "--plan", "plans.yaml", "--at", "2026-05-01")
    assert (document["title"], document["prices_in"], document["at"]) == (
        "gold",
        "credits",
        "2026-05-01T00:00:00.000000Z",
    )
    assert first_price(document)["shown"] == "10"


def test_a_plan_is_shown_in_money(run, plans):
    """Credits by their price; a plan without credits knows money only."""
    gold = table_of(run, "--plan", "plans.yaml#gold", "--in", "money")
    plain = table_of(run, "--plan", "plans.yaml#plain")
    assert (first_price(gold)["shown"], first_price(gold)["priority_shown"]) == ("$0.05", "$0.07")
    assert (plain["prices_in"], first_price(plain)["shown"], plain["credits"]) == ("money", "$0.07", None)


def test_priority_prices_take_the_place(run, plans):
    """As accounts with priority see it."""
    assert first_price(table_of(run, "--plan", "plans.yaml#gold", "--priority"))["shown"] == "14"


def test_models_are_priced_as_configured(run, plans):
    """By the rate card, passed on at cost."""
    document = table_of(run, "--plan", "plans.yaml#plain", "--model", "openai/gpt-4o-mini")
    (row,) = document["sections"][1]["rows"]
    assert [price["value"] for price in row["prices"]] == ["0.0005", "0.002"]


def test_a_model_without_a_price_is_said_and_exits_with_1(run, plans):
    """The rest of the table is shown."""
    result = run("prices", "table", "--plan", "plans.yaml", "--model", "openai/unheard-of")
    assert result.exit_code == 1
    assert (
        result.stderr == "costmeter: no price for openai/unheard-of; find models with: costmeter prices search WORD\n"
    )
    assert "talk" in result.stdout


def test_without_a_plan_the_configured_one_is_shown(run, plans):
    """The default; another configured plan goes by its name."""
    Path("costmeter.yaml").write_text(CONFIG)
    assert table_of(run)["title"] == "plain"
    assert table_of(run, "--plan", "gold")["title"] == "gold"


def test_the_forms_go_to_a_file(run, plans):
    """Nothing on stdout, the whole form in the file."""
    for form, beginning in (("html", "<!doctype html>"), ("csv", "section,"), ("text", "gold at"), ("json", "{")):
        result = run("prices", "table", "--plan", "plans.yaml", "--format", form, "-o", f"out.{form}")
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
        text = Path(f"out.{form}").read_text()
        assert text.startswith(beginning)
        assert text.endswith("\n")


def test_a_feed_is_shown_in_credits_and_in_money(run, feed):
    """A credit costs half a cent unless something else is said."""
    assert first_price(table_of(run, "--feed", feed))["shown"] == "0.0001"
    money = first_price(table_of(run, "--feed", feed, "--in", "money"))
    assert (money["shown"], money["value"], money["priority_shown"]) == ("$0.000001", "0.0000005", "$0.01")
    dearer = first_price(table_of(run, "--feed", feed, "--in", "money", "--credit-price", "0.5"))
    assert dearer["shown"] == "$0.00005"


def test_a_feed_comes_from_standard_input(run, project):
    """As `curl ... | costmeter prices table --feed -`."""
    assert table_of(run, "--feed", "-", input=json.dumps(FEED))["title"] == "standard input"


def test_a_plan_tells_what_a_feeds_credits_cost(run, plans, feed):
    """Name and price of the plan's credits; a plan without any is of no use."""
    Path("coins.yaml").write_text(
        '{name: c, currency: INR, prices_in: credits, pass_through: [], credits: {name: coins, price: "2"}}'
    )
    document = table_of(run, "--feed", feed, "--plan", "coins.yaml", "--in", "money")
    assert (document["credits"], first_price(document)["shown"]) == ({"name": "coins", "price": "2"}, "₹0.0002")
    assert run("prices", "table", "--feed", feed, "--plan", "plans.yaml#plain").exit_code == 2


def test_a_feed_becomes_a_plan_that_bills_by_it(run, project, usage):
    """Written, read again, and applied by the whole path of rating."""
    usage_prices = FEED["config"]["usage"][:1]
    Path("feed.json").write_text(json.dumps({"config": {"usage": usage_prices}}))
    assert run("prices", "table", "--feed", "feed.json", "--format", "plan", "-o", "plan.yaml").exit_code == 0
    (speech,) = [found for found in table_of(run, "--plan", "plan.yaml#feed")["sections"] if found["key"] == "stt"]
    assert [row["prices"][0]["value"] for row in speech["rows"]] == ["1"]
    Path("costmeter.yaml").write_text("pricing: {catalogs: []}\nbilling: {plans: [./plan.yaml]}\n")
    work = usage(component="stt", provider="deepgram", model="nova-3", quantities={"audio_seconds": "90"})
    lines = [json.loads(line) for line in run("rate", input=work).stdout.splitlines()]
    assert [(line["kind"], line["billed_cost"], line["credits"]) for line in lines][1:] == [("fee", "0.0075", "1.5")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plan", "none.yaml"], "none.yaml: No such file or directory"),
        (["--plan", "plans.yaml#silver"], "no plan named 'silver' (it has: gold, plain)"),
        (["--plan", "plans.yaml#plain", "--at", "2025-01-01"], "the plan plain is not in force at 2025-01-01"),
        (["--plan", "plans.yaml#plain", "--in", "credits"], "--in credits: the plan plain has no credits"),
        (["--plan", "plans.yaml", "--model", "gpt"], "'gpt' is not PROVIDER/MODEL"),
        ([], "give --plan FILE#NAME or --feed FILE, or set billing.plans"),
        (["--feed", "none.json"], "none.json: No such file or directory"),
        (["--feed", "feed.json", "--model", "a/b"], "--model has no meaning with --feed"),
        (["--feed", "feed.json", "--at", "2026-01-01"], "--at has no meaning with --feed"),
        (["--feed", "feed.json", "--format", "plan", "--priority"], "--priority has no meaning with --format plan"),
        (
            ["--feed", "feed.json", "--plan", "plans.yaml", "--credit-price", "1"],
            "--credit-price has no meaning with --plan",
        ),
        (["--plan", "plans.yaml", "--credit-price", "1"], "--credit-price has no meaning without --feed"),
        (["--plan", "plans.yaml", "--format", "plan"], "--format plan makes a plan of a feed: give --feed FILE"),
        (["--feed", "feed.json", "--format", "plan"], "feed.json: config.usage[1]: the model has no llm-output"),
        (["--feed", "feed.json", "--credit-price", "0"], "'0' is not a price above 0"),
        (["--feed", "feed.json", "--credit-price", "NaN"], "'NaN' is not a price above 0"),
        (["--feed", "bad.json"], "bad.json: config.usage[0].value: a price cannot be negative"),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_line(run, plans, feed, arguments, message):
    """Exit code 2, nothing on stdout."""
    Path("bad.json").write_text('{"config": {"usage": [{"category": "asr", "value": -1}]}}')
    result = run("prices", "table", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
