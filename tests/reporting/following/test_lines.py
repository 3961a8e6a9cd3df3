"""Operations as lines."""

import json
from datetime import timedelta
from decimal import Decimal

from livekit_costmeter.reporting.following import (
    Operations,
    operation_json,
    operation_line,
    total_json,
    total_line,
)


def lines(charges, by=("session",), line=operation_line):
    return [line(operation) for operation in Operations(by).of(iter(charges))]


def test_a_line_says_what_how_much_from_where_and_the_total_so_far(charge, noon):
    """One compact line per operation."""
    charges = [
        charge(at=noon + timedelta(milliseconds=7), session_id="s", account="acme"),
        charge(line=1, unit="output_tokens", quantity=Decimal(100), session_id="s", account="acme"),
    ]
    assert lines(charges) == [
        (
            "12:00:00.007Z  llm  openai/gpt-4o-mini  1000 input_tokens, 100 output_tokens  0.0003 USD  catalog"
            "  owner=platform  account=acme  session=s  so far 0.0003 USD"
        )
    ]


def test_a_line_marks_what_is_uncertain(charge, unpriced):
    """Estimates carry a tilde, unpriced parts their reason and a bound, odd kinds and outcomes a word."""
    (nothing,) = lines([unpriced(quantity_basis="estimated", session_id="s")])
    assert "~1000 input_tokens  unpriced (no_match)  owner=platform  session=s  so far unpriced" in nothing
    (part,) = lines([charge(), unpriced(line=1, unit="output_tokens")])
    assert "  >= 0.00015 USD (no_match)  catalog  " in part
    (odd,) = lines([charge(kind="correction", outcome="interrupted")])
    assert "  correction  interrupted  catalog  " in odd


def test_a_fee_is_billed_and_no_cost_of_a_provider(charge):
    """It says what is billed, and adds nothing to what providers cost."""
    (line,) = lines([charge(kind="fee", session_id="s", billed_cost=Decimal("0.5"))])
    assert "  billed 0.5 USD  fee  " in line
    assert line.endswith("so far n/a")


def test_a_line_names_what_its_total_is_of(charge):
    """By anything but the session."""
    (line,) = lines([charge(account="acme", labels={"campaign": "q4"})], by=("account", "label:campaign"))
    assert line.endswith("  account=acme label:campaign=q4 so far 0.00015 USD")


def test_a_line_stays_one_line(charge):
    """Names from outside cannot break it."""
    (line,) = lines([charge(model="x\ny", session_id="a\nb", cost=Decimal(0))])
    assert "openai/x\\ny  " in line
    assert "\n" not in line


def test_a_json_line_has_the_documented_keys(charge, unpriced):
    """Decimals are text, sums stand by currency, what is not known is absent."""
    charges = [charge(session_id="s", operation_id="op"), unpriced(line=1, session_id="s", operation_id="op")]
    found = json.loads(lines(charges, line=operation_json)[0])
    assert list(found) == [
        *("type", "at", "session", "component", "provider", "model", "operation_id", "kind", "outcome", "owner"),
        *("account", "quantities", "estimated_units", "sources", "reasons"),
        *("cost", "billed_cost", "records", "unpriced_records", "estimated_share", "key", "running"),
    ]
    assert (found["type"], found["key"], found["quantities"]) == (
        "operation",
        {"session": "s"},
        {"input_tokens": "2000"},
    )
    assert found["running"] == {
        "cost": {"USD": "0.00015"},
        "billed_cost": {"USD": "0.00015"},
        "records": 1,
        "unpriced_records": 1,
        "estimated_share": "0",
    }


def test_the_end_is_a_total_of_everything(charge, unpriced):
    """Records, sessions, and what lacks a price."""
    seen = Operations(["session"])
    assert total_line(seen) == "total: nothing so far"
    list(seen.of(iter([charge(session_id="s"), unpriced(record_id="b", session_id="t"), charge(record_id="c")])))
    assert total_line(seen) == "total: >= 0.0003 USD in 3 records of 2 sessions, 1 of them unpriced"
    found = json.loads(total_json(seen))
    assert (found["type"], found["sessions"], found["records"], found["cost"]) == ("total", 2, 3, {"USD": "0.0003"})
