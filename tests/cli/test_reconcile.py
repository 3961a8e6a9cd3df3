"""`costmeter reconcile`: from the provider's own file to the row, the cause and the booking."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from pathlib import Path

import pytest

RATES = """\
name: card
rates:
  - {provider: openai, model: gpt-5-mini, unit: input_tokens, price: "0.25", per: 1000000}
  - {provider: openai, model: gpt-5-mini, unit: output_tokens, price: "2", per: 1000000}
  - {provider: openai, model: gpt-4o-mini, unit: input_tokens, price: "0.15", per: 1000000}
  - {provider: openai, model: gpt-4o-mini, unit: output_tokens, price: "0.60", per: 1000000}
  - {provider: openai, model: gpt-4o, unit: input_tokens, price: "5", per: 1000000}
  - {provider: openai, model: gpt-4o-staging, unit: input_tokens, price: "0.05", per: 1000000}
"""
USAGE = (
    "start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,user_id,api_key_id,model,batch,"
    "service_tier,input_tokens,output_tokens,input_cached_tokens,input_uncached_tokens,input_text_tokens,"
    "output_text_tokens,input_cached_text_tokens,input_audio_tokens,input_cached_audio_tokens,output_audio_tokens,"
    "input_image_tokens,input_cached_image_tokens,output_image_tokens\n"
)
COST = (
    "start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,line_item,project_id,"
    "organization_id,organization_name\n"
)
DAY_ONE, DAY_TWO, DAY_THREE = 1759795200, 1759881600, 1759968000  # 2025-10-07 to 2025-10-09
OCTOBER = ("--since", "2025-10-07", "--until", "2025-10-09")
MAY = ("--since", "2026-05-01", "--until", "2026-06-01")


def usage_row(day, model, uncached, written, requests=10, key="key_one"):
    """Return one row as the dashboard writes it."""
    counts = f"{uncached}.0,{written}.0,0.0,{uncached}.0,{uncached}.0,{written}.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0"
    return f"{day},{day + 86400},,,proj,{requests},user,{key},{model},FALSE,default,{counts}\n"


def cost_row(day, item, amount):
    """Return one row of the cost file."""
    return f'{day},{day + 86400},,,{amount},usd,"{item}",proj,org,Example\n'


def usage(at, model, fields, **changes):
    """Return one usage record; quantities as `input output`."""
    first, second = fields
    quantities = {"input_tokens": str(first), "output_tokens": str(second)}
    record = {
        "at": at,
        "component": "llm",
        "provider": "openai",
        "model": model,
        "quantities": {unit: amount for unit, amount in quantities.items() if amount != "0"},
        "key_owner": "platform",
    }
    return {**record, **changes}


@pytest.fixture
def book_of(project, spool, run):
    """Return a function that ships records into a ledger."""
    Path("rates.yaml").write_text(RATES)

    def ship(*records):
        spool(*records)
        assert run("ship").exit_code == 0

    return ship


@pytest.fixture
def october(book_of):
    """A ledger and files of two days: on the second, the provider has a tenth more, and all is a tenth cheaper."""
    for day in ("07", "08"):
        for hour in range(10):
            book_of(usage(f"2025-10-{day}T{hour:02}:30:00Z", "gpt-5-mini", (10000, 5000)))
    Path("usage.csv").write_text(
        USAGE
        + usage_row(DAY_ONE, "gpt-5-mini-2025-08-07", 100000, 50000)
        + usage_row(DAY_TWO, "gpt-5-mini-2025-08-07", 110000, 55000, 11)
    )
    Path("cost.csv").write_text(
        COST
        + cost_row(DAY_ONE, "gpt-5-mini-2025-08-07, input", "0.0225")
        + cost_row(DAY_ONE, "gpt-5-mini-2025-08-07, output", "0.09")
        + cost_row(DAY_TWO, "gpt-5-mini-2025-08-07, input", "0.02475")
        + cost_row(DAY_TWO, "gpt-5-mini-2025-08-07, output", "0.099")
    )
    return ("--provider", "openai", *OCTOBER, "--usage-file", "usage.csv", "--cost-file", "cost.csv")


def rows_of(result):
    """Return the rows of JSON by level, model and unit."""
    return {(row["level"], row["model"], row["unit"]): row for row in json.loads(result.stdout)["rows"]}


def test_the_reference_table_comes_out_of_a_ledger_and_a_file_with_its_flaws_mended(book_of, run):
    """3.85 % is of the provider's number; a one-sided model is n/a and not in the total; prices are the real ones."""
    book_of(
        usage("2026-05-03T12:00:00Z", "gpt-4o-mini", (1000000, 500000)),
        usage("2026-05-03T12:01:00Z", "gpt-4o", (250000, 0)),
        usage("2026-05-03T12:02:00Z", "gpt-4o-staging", (100000, 0)),
    )
    Path("may.csv").write_text(
        "model,input_tokens,output_tokens,n_requests,cost_usd\n"
        "gpt-4o-mini,1000000,500000,1,0.45\ngpt-4o,260000,0,1,1.30\n"
    )
    result = run("reconcile", "--provider", "openai", *MAY, "--usage-file", "may.csv")
    assert result.exit_code == 1
    lines = {" ".join(line.split()) for line in result.stdout.splitlines()}
    assert {
        "gpt-4o-mini tokens 1500000 1500000 +0.00 0.4500 0.4500 +0.0000 +0.00",
        "gpt-4o tokens 250000 260000 +3.85 1.2500 1.3000 +0.0500 +3.85 over threshold",
        "gpt-4o-staging tokens 100000 n/a n/a 0.0050 n/a n/a n/a (no provider data)",
        "total tokens 1750000 1760000 +0.57 1.7000 1.7500 +0.0500 +2.86",
    } <= lines
    assert "1 one-sided row is not in the total" in result.stdout


def test_a_published_day_priced_by_us_is_what_was_billed_to_the_last_digit(book_of, run):
    """80992 input and 274770 output tokens of gpt-5-mini are 0.569788 USD on both sides."""
    book_of(
        usage("2025-10-07T09:00:00Z", "gpt-5-mini", (80000, 274000)),
        usage("2025-10-07T10:00:00Z", "gpt-5-mini", (992, 770)),
    )
    Path("usage.csv").write_text(USAGE + usage_row(DAY_ONE, "gpt-5-mini-2025-08-07", 80992, 274770, 2))
    Path("cost.csv").write_text(
        COST
        + cost_row(DAY_ONE, "gpt-5-mini-2025-08-07, input", "0.020248000000000000000000000000")
        + cost_row(DAY_ONE, "gpt-5-mini-2025-08-07, output", "0.549540000000000000000000000000")
    )
    files = ("--usage-file", "usage.csv", "--cost-file", "cost.csv")
    result = run("reconcile", "--provider", "openai", *OCTOBER, *files, "--format", "json")
    row = rows_of(result)["model", "gpt-5-mini", "tokens"]
    assert (row["our_cost"], row["their_cost"], row["cost_difference"]) == ("0.569788", "0.569788", "0")
    assert (row["our_units"], row["their_units"], row["state"]) == ("355762", "355762", "agrees")
    assert result.exit_code == 0


def test_both_causes_of_a_ledger_that_misses_a_day_and_a_discount_are_named(october, run):
    """The discount with its rates, and the requests that are missing with their number."""
    document = json.loads(run("reconcile", *october, "--format", "json").stdout)
    found = {finding["code"]: finding for finding in document["findings"]}
    assert set(found) == {"discount", "missed_usage"}
    assert "10.00% less" in found["discount"]["evidence"]
    rates = {rate["unit"]: (rate["price"], rate["per"]) for rate in found["discount"]["rates"]}
    assert rates == {"input_tokens": ("0.225", "1000000"), "output_tokens": ("1.8", "1000000")}
    assert "21 requests, the ledger has 20" in found["missed_usage"]["evidence"]


def test_after_booking_the_report_by_model_and_day_is_the_invoice(october, run):
    """Booked once, booked twice, shipped in between or not: the ledger is what the provider charged, day by day."""
    first = run("reconcile", *october, "--book", "--yes")
    assert "booked 4 corrections with invoice:" in first.stderr
    assert "nothing to book" in run("reconcile", *october, "--book", "--yes").stderr
    assert run("ship").exit_code == 0
    assert "nothing to book" in run("reconcile", *october, "--book", "--yes").stderr
    report = json.loads(run("report", "--by", "day,model", "--format", "json").stdout)
    costs = {row["key"]["day"]: Decimal(row["cost"]["USD"]) for row in report["rows"]}
    assert costs == {"2025-10-07": Decimal("0.1125"), "2025-10-08": Decimal("0.12375")}
    assert {row["key"]["model"] for row in report["rows"]} == {"gpt-5-mini"}


def test_corrections_say_which_invoice_they_are_of(october, run):
    """Kind, source and what they correct name the files' digest; they measure nothing and are on no account's bill."""
    run("reconcile", *october, "--book", "--yes")
    run("ship")
    rows = [json.loads(line) for line in Path("charges.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["kind"] == "correction"]
    assert len(rows) == 4
    assert len({row["record_id"] for row in rows}) == 4
    for row in rows:
        assert row["record_id"].startswith("reconcile-")
        assert row["pricing_source"].startswith("invoice:")
        assert row["corrects"] == row["pricing_source"]
        assert (row["quantity"], row["billed_cost"], row["account"], row["session_id"]) == ("0", "0", None, None)


def test_a_later_more_complete_file_books_the_rest(october, run):
    """The second file has more of the second day, and only that is booked."""
    run("reconcile", *october, "--book", "--yes")
    text = Path("cost.csv").read_text().replace("0.02475", "0.03").replace("0.099", "0.1")
    Path("cost.csv").write_text(text)
    assert "booked 2 corrections" in run("reconcile", *october, "--book", "--yes").stderr
    run("ship")
    report = json.loads(run("report", "--by", "day", "--format", "json").stdout)
    costs = {row["key"]["day"]: Decimal(row["cost"]["USD"]) for row in report["rows"]}
    assert costs == {"2025-10-07": Decimal("0.1125"), "2025-10-08": Decimal("0.13")}


def test_the_suggested_rate_card_leaves_no_difference_in_cost_after_repricing(october, run):
    """With it in front of the others and after `reprice`, the first day costs what was charged."""
    result = run("reconcile", *october, "--suggest-rate-card", "invoice.yaml")
    assert "wrote invoice.yaml" in result.stderr
    card = Path("invoice.yaml").read_text()
    run("reconcile", *october, "--suggest-rate-card", "invoice.yaml")
    assert Path("invoice.yaml").read_text() == card
    config = Path("costmeter.yaml").read_text().replace("[./rates.yaml]", "[./invoice.yaml, ./rates.yaml]")
    Path("costmeter.yaml").write_text(config)
    assert run("reprice", "--book", "--yes").exit_code == 0
    run("ship")
    until = ("--since", "2025-10-07", "--until", "2025-10-08")
    files = ("--usage-file", "usage.csv", "--cost-file", "cost.csv")
    result = run("reconcile", "--provider", "openai", *until, *files, "--format", "json")
    assert rows_of(result)["model", "gpt-5-mini", "tokens"]["cost_difference"] == "0"
    assert (result.exit_code, json.loads(result.stdout)["findings"]) == (0, [])


def test_rows_by_day_tell_the_days_apart(october, run):
    """A model has a row on each day, and only the second day's units differ."""
    document = json.loads(run("reconcile", *october, "--by", "day", "--format", "json").stdout)
    days = {row["group"]: row for row in document["rows"] if row["level"] == "model"}
    assert (days["2025-10-07"]["unit_difference"], days["2025-10-08"]["unit_difference"]) == ("0", "15000")


def test_a_key_that_is_not_mapped_is_somebody_else(october, run):
    """With `reconcile.keys` the provider's keys are ours or another client's, and rows can be told apart by them."""
    with Path("costmeter.yaml").open("a") as stream:
        stream.write("reconcile: {keys: {key_one: platform}}\n")
    with Path("usage.csv").open("a") as stream:
        stream.write(usage_row(DAY_ONE, "gpt-5-mini-2025-08-07", 7000, 100, 3, key="key_two"))
    document = json.loads(run("reconcile", *october, "--by", "key", "--format", "json").stdout)
    assert {row["group"] for row in document["rows"]} == {"platform", "other"}
    found = {finding["code"]: finding["evidence"] for finding in document["findings"]}
    assert "key_two is not among the mapped ones" in found["other_client"]


def test_work_on_accounts_own_keys_is_left_out_unless_asked_for(october, book_of, run):
    """It is on the account's invoice; the note says how much is left out."""
    book_of(usage("2025-10-07T12:00:00Z", "gpt-5-mini", (9000, 0), key_owner="acme"))
    out = run("reconcile", *october, "--format", "json")
    taken = run("reconcile", *october, "--format", "json", "--account-keys", "in")
    assert rows_of(out)["model", "gpt-5-mini", "tokens"]["our_units"] == "300000"
    assert rows_of(taken)["model", "gpt-5-mini", "tokens"]["our_units"] == "309000"
    assert "1 records of accounts' own keys are left out" in " ".join(json.loads(out.stdout)["notes"])


def test_an_alias_makes_two_names_one_model(book_of, run):
    """What the provider calls otherwise is compared under the ledger's name."""
    book_of(usage("2025-10-07T09:00:00Z", "gpt-5-mini", (1000, 0)))
    Path("usage.csv").write_text(USAGE + usage_row(DAY_ONE, "nightly", 1000, 0, 1))
    arguments = ("reconcile", "--provider", "openai", *OCTOBER, "--usage-file", "usage.csv", "--format", "json")
    assert run(*arguments).exit_code == 1
    with Path("costmeter.yaml").open("a") as stream:
        stream.write("reconcile: {aliases: {nightly: gpt-5-mini}}\n")
    result = run(*arguments)
    assert (result.exit_code, rows_of(result)["model", "gpt-5-mini", "tokens"]["state"]) == (0, "agrees")


def test_a_threshold_decides_the_exit_code(book_of, run):
    """3.9 % of the cost are within 5 % and over 1 %; units that were observed have the same threshold."""
    book_of(usage("2025-10-07T09:00:00Z", "gpt-4o", (25000, 0), basis={"input_tokens": "observed"}))
    Path("usage.csv").write_text(USAGE + usage_row(DAY_ONE, "gpt-4o", 26000, 0, 1))
    arguments = ("reconcile", "--provider", "openai", *OCTOBER, "--usage-file", "usage.csv")
    assert run(*arguments).exit_code == 0
    assert run(*arguments, "--threshold", "llm=1").exit_code == 1
    assert run(*arguments, "--threshold", "stt=1").exit_code == 0
    assert run(*arguments, "--threshold", "x=1").exit_code == 2


def test_estimates_widen_the_threshold_and_the_row_says_so(book_of, run):
    """A third is estimated: 10 % of drift are within it, and a note says why."""
    book_of(
        usage("2025-10-07T09:00:00Z", "gpt-4o", (20000, 0)),
        usage("2025-10-07T10:00:00Z", "gpt-4o", (10000, 0), basis={"input_tokens": "estimated"}),
    )
    Path("usage.csv").write_text(USAGE + usage_row(DAY_ONE, "gpt-4o", 33000, 0, 2))
    result = run("reconcile", "--provider", "openai", *OCTOBER, "--usage-file", "usage.csv")
    assert result.exit_code == 0
    assert "estimated 33.4 %, thresholds widened by it" in result.stdout


def test_csv_and_html_say_the_same_as_the_table(october, run):
    """CSV has the exact numbers in the order of the rows; the page loads and runs nothing, and escapes names."""
    with Path("usage.csv").open("a") as stream:
        stream.write(usage_row(DAY_ONE, "<script>alert(1)</script>", 5, 5, 1))
    table = list(csv.DictReader(io.StringIO(run("reconcile", *october, "--format", "csv").stdout)))
    document = json.loads(run("reconcile", *october, "--format", "json").stdout)
    assert [row["our_units"] for row in table[:-1]] == [row["our_units"] or "" for row in document["rows"]]
    assert table[-1]["level"] == "total"
    run("reconcile", *october, "--format", "html", "-o", "page.html")
    page = Path("page.html").read_text()
    assert "<script" not in page
    assert "http" not in page
    assert "&lt;script&gt;" in page
    assert "(no meter data)" in page
    assert "prefers-color-scheme: dark" in page


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        ("", (), "usage.csv:1: the file is empty"),
        ("a,b\n1,2\n", (), "usage.csv:1: not a format that is known"),
        (USAGE + usage_row(DAY_ONE, "m", 5, 5).replace("5.0", "x", 1), (), "usage.csv:2: "),
        (USAGE + usage_row(DAY_ONE, "m", 5, 5), ("--as", "nothing"), "no format is called 'nothing'"),
    ],
)
def test_bad_input_is_one_line_with_its_place_and_books_nothing(text, arguments, said, october, run, one_line):
    """Exit code 2, and the spool has nothing new."""
    Path("usage.csv").write_text(text)
    result = run("reconcile", *october, "--book", "--yes", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert one_line(result.stderr)
    assert "nothing to book" not in result.stderr
    assert not list(Path(".costmeter/spool").glob("*.seg*"))


def test_a_file_of_another_provider_is_refused(october, run):
    """It would compare two vendors."""
    result = run("reconcile", "--provider", "deepgram", *OCTOBER, "--usage-file", "usage.csv")
    assert result.exit_code == 2
    assert "the file is of openai (openai-usage-csv), not of deepgram" in result.stderr


def test_without_costs_there_is_nothing_to_book(october, run):
    """Usage alone is no invoice."""
    result = run("reconcile", "--provider", "openai", *OCTOBER, "--usage-file", "usage.csv", "--book", "--yes")
    assert result.exit_code == 2
    assert "no costs" in result.stderr


def test_a_mapping_in_the_configuration_reads_any_other_csv(book_of, run):
    """Other columns, semicolons and a decimal comma, in another provider's name."""
    book_of(usage("2025-10-07T09:00:00Z", "gpt-5-mini", (1000, 0)))
    with Path("costmeter.yaml").open("a") as stream:
        stream.write(
            "reconcile:\n  formats:\n    - name: mine\n      provider: openai\n      component: llm\n"
            "      columns: {start: Tag, model: Modell, cost: Betrag}\n      quantities: {input_tokens: Token}\n"
            '      currency: USD\n      decimal: ","\n      date_format: "%d.%m.%Y"\n'
        )
    Path("bill.csv").write_text("Tag;Modell;Token;Betrag\n07.10.2025;gpt-5-mini;1000;0,00025\n")
    arguments = ("--provider", "openai", *OCTOBER, "--usage-file", "bill.csv")
    assert run("reconcile", *arguments).exit_code == 0


def test_a_mistake_in_the_section_is_reported_with_its_line(project, run):
    """The section is read when it is needed, and checked like all others."""
    with Path("costmeter.yaml").open("a") as stream:
        stream.write("reconcile:\n  thresholds: {llm: many}\n")
    Path("usage.csv").write_text(USAGE)
    result = run("reconcile", "--provider", "openai", *OCTOBER, "--usage-file", "usage.csv")
    assert result.exit_code == 2
    assert "costmeter.yaml:8: reconcile.thresholds.llm" in result.stderr
