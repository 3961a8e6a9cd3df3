"""Running sums: exact, independent of order, each kind where it belongs, estimates in their share."""

import random
from datetime import timedelta
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livekit_costmeter.reporting import build_report

BASES = ("reported", "observed", "estimated", "lower_bound")
MONEY = st.decimals(min_value=-(10**12), max_value=10**15, places=12)
QUANTITIES = st.decimals(min_value=0, max_value=10**15, places=9)


@st.composite
def records(draw, charge, unpriced):
    """Draw records, each a list of one to three charges that share its id."""
    drawn = []
    for number in range(draw(st.integers(0, 12))):
        shared = {
            "record_id": f"r{number}",
            "provider": draw(st.sampled_from("abc")),
            "session_id": draw(st.sampled_from((None, "s1", "s2"))),
            "kind": draw(st.sampled_from(("usage", "correction", "fee", "purchase"))),
        }
        drawn.append([draw(lines(charge, unpriced, shared, line)) for line in range(draw(st.integers(1, 3)))])
    return drawn


@st.composite
def lines(draw, charge, unpriced, shared, line):
    """Draw one charge of a record."""
    fields = {
        **shared,
        "line": line,
        "unit": draw(st.sampled_from(("input_tokens", "output_tokens", "call_seconds"))),
        "quantity": draw(QUANTITIES),
        "quantity_basis": draw(st.sampled_from(BASES)),
    }
    if draw(st.booleans()):
        return unpriced(**fields)
    money = {"cost": draw(MONEY), "currency": draw(st.sampled_from(("USD", "EUR")))}
    return charge(**fields, **money, billed_cost=draw(MONEY))


def total_of(rows, name):
    """Add up one mapping of the rows as fractions, which never round."""
    sums = {}
    for row in rows:
        for key, amount in getattr(row, name).items():
            sums[key] = sums.get(key, 0) + Fraction(amount)
    return sums


@given(data=st.data())
def test_groups_add_up_to_the_total_and_to_the_charges(charge, unpriced, data):
    """No amount is lost, doubled or rounded on the way into the groups and the total."""
    drawn = data.draw(records(charge, unpriced))
    charges = [line for record in drawn for line in record]
    report = build_report(charges, ["provider", "unit"])
    for name in ("cost", "billed_cost", "quantities"):
        total = {key: Fraction(amount) for key, amount in getattr(report.total, name).items()}
        assert total == total_of(report.rows, name)
    expected = {}
    for one in charges:
        if one.cost is not None and one.kind in ("usage", "correction"):
            expected[one.currency] = expected.get(one.currency, 0) + Fraction(one.cost)
    assert expected == {key: Fraction(amount) for key, amount in report.total.cost.items()}
    assert len(drawn) == report.total.records


@given(data=st.data(), seed=st.integers())
def test_the_order_of_records_does_not_matter(charge, unpriced, data, seed):
    """Two ledgers that hold the same records in another order give the same report."""
    drawn = data.draw(records(charge, unpriced))
    shuffled = random.Random(seed).sample(drawn, len(drawn))
    reports = [build_report([line for record in each for line in record], ["provider"]) for each in (drawn, shuffled)]
    assert reports[0] == reports[1]


@given(data=st.data())
def test_the_estimated_share_stays_within_bounds(charge, unpriced, data):
    """A share is between 0 and 1 whatever corrections say, and above 0 as soon as some cost is estimated."""
    charges = [line for record in data.draw(records(charge, unpriced)) for line in record]
    report = build_report(charges, ["provider"])
    counted = [one for one in charges if one.kind in ("usage", "correction") and one.cost]
    assert all(0 <= row.estimated_share <= 1 for row in (*report.rows, report.total))
    assert not any(one.quantity_basis in BASES[2:] for one in counted) or report.total.estimated_share > 0


def test_sums_are_exact_under_a_callers_own_decimal_context(charge):
    """A program that runs with 4 digits of precision still gets every digit of its costs."""
    with localcontext(prec=4):
        report = build_report([charge(cost=Decimal("123456.000000000001"))] * 3, [])
    assert {"USD": Decimal("370368.000000000003")} == report.total.cost


@pytest.mark.parametrize(
    ("kind", "cost", "billed", "tokens"),
    [
        ("usage", "1", "1", "1000"),
        ("correction", "1", "1", None),
        ("fee", None, "1", None),
        ("tax", None, "1", None),
        ("purchase", None, None, None),
        ("credit", None, None, None),
    ],
)
def test_kinds_count_where_they_belong(charge, kind, cost, billed, tokens):
    """Usage and corrections are cost, fees and taxes are on the bill, and only usage was measured."""
    total = build_report([charge(kind=kind, cost=Decimal(1), billed_cost=Decimal(1))], []).total
    sums = (total.cost.get("USD"), total.billed_cost.get("USD"), total.quantities.get("input_tokens"))
    assert tuple(value and Decimal(value) for value in (cost, billed, tokens)) == sums


def test_estimated_share_is_the_share_of_the_cost(charge):
    """A quarter of the cost rests on estimates and lower bounds, whatever share of the quantity that is."""
    charges = [
        charge(cost=Decimal(6), quantity=Decimal(1)),
        charge(cost=Decimal(1), quantity=Decimal(50), quantity_basis="estimated"),
        charge(cost=Decimal(1), quantity=Decimal(50), quantity_basis="lower_bound"),
    ]
    assert Decimal("0.25") == build_report(charges, []).total.estimated_share


def test_estimated_share_without_a_cost_is_the_share_of_the_quantity(unpriced):
    """Where nothing is priced, the most estimated unit decides."""
    charges = [
        unpriced(quantity=Decimal(30)),
        unpriced(quantity=Decimal(10), quantity_basis="estimated"),
        unpriced(unit="characters", quantity=Decimal(5)),
    ]
    assert Decimal("0.25") == build_report(charges, []).total.estimated_share


def test_an_unpriced_estimate_is_no_share_of_a_known_cost(charge, unpriced):
    """Where some cost is known, only cost is weighed; the unpriced part is told by its own count."""
    charges = [charge(), unpriced(record_id="b", quantity_basis="estimated")]
    total = build_report(charges, []).total
    assert (total.estimated_share, total.unpriced_records) == (0, 1)


def test_a_tiny_estimated_part_does_not_read_as_none(charge):
    """The share is rounded up, because 0 means that nothing is estimated."""
    charges = [charge(cost=Decimal(10**9)), charge(cost=Decimal("1e-12"), quantity_basis="estimated")]
    assert Decimal("0.000001") == build_report(charges, []).total.estimated_share


@pytest.mark.parametrize(
    ("spans", "minutes"),
    [
        ([("a", 0, 300), ("b", 120, 240)], 5),
        ([("a", 0, 300), ("b", 240, 600)], 10),
        ([("a", 0, 60), ("b", 120, 180)], 2),
        ([("a", 0, 300), ("b", 60, 120), ("c", 100, 360)], 6),
    ],
)
def test_a_transfer_adds_only_the_time_that_its_call_has_not_had(charge, noon, spans, minutes):
    """Legs at the same time are one call: what a second leg lasts beyond the first is all that it adds."""
    charges = [
        charge(
            record_id=f"{name}{start}",
            session_id="s",
            component="call",
            unit="call_seconds",
            operation_id=name,
            quantity=Decimal(20),
            cost=Decimal(0),
            started_at=noon + timedelta(seconds=start),
            at=noon + timedelta(seconds=start + 20),
        )
        for name, begin, end in spans
        for start in range(begin, end, 20)
    ]
    assert build_report(charges, []).total.minutes == minutes
    assert build_report(charges[::-1], []).total.minutes == minutes
