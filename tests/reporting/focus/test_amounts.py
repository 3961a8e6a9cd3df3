"""Costs and prices in the terms of FOCUS."""

from decimal import Context, Decimal

from hypothesis import given
from hypothesis import strategies as st

from livekit_costmeter.records import round_cost
from livekit_costmeter.reporting.focus.amounts import amounts

EXACT = Context(prec=90)


def of(charge, byok="strict", credit_currency="XXX"):
    return amounts(charge, byok, credit_currency)


def test_what_the_platform_bills_is_billed_and_effective(charge):
    """A row on the platform's key costs what is passed on."""
    found = of(charge())
    assert found.billed == found.effective == found.listed == Decimal("0.00015")
    assert (found.currency, found.pricing_currency, found.pricing_currency_effective) == ("USD", "USD", found.effective)
    assert (found.price.unit_price, found.price.quantity, found.price.per) == (
        Decimal("0.15"),
        Decimal("0.001"),
        1000000,
    )


def test_an_own_key_is_billed_nothing_and_keeps_its_estimate(own_key):
    """Strictly nothing is effective either; leniently the provider's cost is."""
    strict, lenient = of(own_key), of(own_key, "lenient")
    assert (strict.billed, strict.effective, strict.listed) == (0, 0, Decimal("0.00015"))
    assert (lenient.billed, lenient.effective, lenient.listed) == (0, Decimal("0.00015"), Decimal("0.00015"))
    assert lenient.pricing_currency_effective == Decimal("0.00015")


def test_what_the_provider_sends_the_bill_for_is_never_billed_here(charge):
    """A file bills only what its writer invoices, whatever the ledger has."""
    assert of(charge(billed_by="provider", billed_cost=Decimal(7))).billed == 0


def test_an_unknown_owner_changes_neither_reading(unknown_owner):
    """Nobody knows whether that is billed: 0, and the estimate stays in ListCost."""
    assert of(unknown_owner) == of(unknown_owner, "lenient")
    assert (of(unknown_owner).billed, of(unknown_owner).listed) == (0, Decimal("0.00015"))


def test_an_unpriced_line_has_costs_without_a_currency_or_a_unit_price(unpriced):
    """The specification wants numbers: 0, in the code for no currency."""
    found = of(unpriced())
    assert (found.billed, found.effective, found.listed, found.price) == (0, 0, 0, None)
    assert (found.currency, found.pricing_currency) == ("XXX", "XXX")


def test_a_bill_in_another_currency_takes_the_rate_of_its_plan(converted):
    """List prices are converted; the pricing currency keeps what the provider charges."""
    found = of(converted)
    assert (found.currency, found.pricing_currency) == ("INR", "USD")
    assert found.billed == found.listed == Decimal("0.012465")
    assert (found.price.unit_price, found.price.pricing_currency_unit_price) == (Decimal("12.465"), Decimal("0.15"))
    assert found.pricing_currency_effective == Decimal("0.00015")


def test_without_an_exchange_rate_nothing_is_converted(charge):
    """A bill in another currency has no list price then; one of nothing is of no currency, so the cost's is taken."""
    billed = of(charge(billed_cost=Decimal(3), billed_currency="INR"))
    assert (billed.currency, billed.listed, billed.price) == ("INR", 3, None)
    covered = of(charge(billed_cost=Decimal(0), billed_currency="INR"))
    assert (covered.currency, covered.billed, covered.listed) == ("USD", 0, Decimal("0.00015"))


def test_an_exchange_rate_of_other_currencies_is_not_taken(charge):
    """The flag names its pair."""
    source = "catalog:x@1#a/b@2026?fx=EUR-INR:90@2026-01-01"
    assert of(charge(billed_cost=Decimal(3), billed_currency="INR", pricing_source=source)).price is None


def test_credits_are_the_pricing_currency(fee, tax):
    """600 credits for 2 minutes are 300 each; the money stays in the billing currency."""
    found = of(fee, credit_currency="Credits")
    assert (found.currency, found.pricing_currency) == ("INR", "Credits")
    assert (found.billed, found.pricing_currency_effective) == (3, 600)
    assert (found.price.unit_price, found.price.pricing_currency_unit_price) == (Decimal("1.5"), 300)
    assert (of(tax).pricing_currency_effective, of(tax).price) == (108, None)


def test_the_example_of_the_specification_holds(charge):
    """25 credits at 2.70 USD are 67.50 USD."""
    money = {"unit_price": Decimal("2.70"), "price_per": Decimal(1), "cost": Decimal("67.50"), "credits": Decimal(25)}
    found = of(charge(kind="fee", billable_quantity=Decimal(25), billed_cost=Decimal("67.50"), **money))
    assert (found.pricing_currency_effective, found.billed) == (25, Decimal("67.5"))
    assert (found.price.unit_price, found.price.pricing_currency_unit_price) == (Decimal("2.7"), 1)


def test_a_credit_is_one_amount(credit):
    """All four costs of a credit are what is credited."""
    found = of(credit, "lenient")
    assert (found.billed, found.effective, found.listed, found.price) == (-5, -5, -5, None)


def test_a_cost_that_its_price_does_not_explain_has_no_unit_price(charge):
    """Rather no price than one that does not multiply."""
    assert of(charge(cost=Decimal("0.00016"))).price is None
    assert of(charge(unit_price=Decimal("-0.15"), cost=Decimal("-0.00015"))).price is None
    assert of(charge(price_per=Decimal("0.5"), cost=Decimal(300))).price is None


@given(
    quantity=st.integers(-(10**15), 10**15).map(lambda number: Decimal(number).scaleb(-9)),
    unit_price=st.integers(0, 10**12).map(lambda number: Decimal(number).scaleb(-9)),
    price_per=st.sampled_from([1, 15, 60, 1000, 3600, 1000000]).map(Decimal),
)
def test_unit_price_times_quantity_is_the_list_cost(charge, quantity, unit_price, price_per):
    """To 12 places, with prices and quantities of no more than 18."""
    cost = round_cost(EXACT.divide(EXACT.multiply(quantity, unit_price), price_per))
    found = of(charge(billable_quantity=quantity, unit_price=unit_price, price_per=price_per, cost=cost))
    assert found.listed == cost
    assert abs(EXACT.subtract(EXACT.multiply(found.price.unit_price, found.price.quantity), cost)) <= Decimal("1e-12")
    assert min(found.price.unit_price.as_tuple().exponent, found.price.quantity.as_tuple().exponent) >= -18
