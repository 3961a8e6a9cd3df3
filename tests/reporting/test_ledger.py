"""Dimensions and filters of charges."""

from datetime import timedelta, timezone

import pytest

from livekit_costmeter.reporting import DIMENSIONS, UnknownDimension, dimension, select, within


def test_every_dimension_reads_the_field_of_its_name(charge, noon):
    """A dimension returns the charge's own value, under the short name that users type."""
    one = charge(
        key_owner="acme",
        account="a",
        project="p",
        session_id="s",
        agent="g",
        room="r",
        job_id="j",
        labels={"b": "2", "a": "1"},
        at=noon,
    )
    expected = {
        "component": "llm",
        "provider": "openai",
        "model": "gpt-4o-mini",
        "owner": "acme",
        "account": "a",
        "project": "p",
        "session": "s",
        "agent": "g",
        "day": "2026-11-20",
        "unit": "input_tokens",
        "outcome": "completed",
        "billed_by": "platform",
        "room": "r",
        "job": "j",
        "source": "catalog",
        "label": "a=1,b=2",
    }
    assert expected == {name: dimension(name)(one) for name in DIMENSIONS}


def test_day_is_the_utc_date(charge, noon):
    """A charge made at one in the morning in Berlin belongs to the day before in UTC."""
    berlin = noon.replace(hour=0, minute=30, tzinfo=timezone(timedelta(hours=1)))
    assert dimension("day")(charge(at=berlin)) == "2026-11-19"


def test_single_label(charge):
    """`label:<name>` reads one label and is none where the charge lacks it, also for names with a colon."""
    assert dimension("label:campaign")(charge(labels={"campaign": "q4"})) == "q4"
    assert dimension("label:campaign")(charge()) is None
    assert dimension("label:a:b")(charge(labels={"a:b": "x"})) == "x"
    assert dimension("label")(charge()) is None


@pytest.mark.parametrize("name", ["label:", "key_owner", "", "Provider"])
def test_unknown_dimension_names_the_allowed_ones(name):
    """A wrong name is refused with the list of right ones."""
    with pytest.raises(UnknownDimension, match=r"is not one of component, .*label:<name>"):
        dimension(name)


def test_select_needs_every_dimension_and_any_of_its_values(charge):
    """Filters on several dimensions narrow, several values of one widen."""
    charges = [charge(provider=provider, account=account) for provider in "abc" for account in ("x", None)]
    kept = list(select(charges, {"provider": ["a", "b"], "account": ["x"]}))
    assert [(one.provider, one.account) for one in kept] == [("a", "x"), ("b", "x")]


def test_select_by_the_absence_of_a_value(charge):
    """An empty text selects the charges that have no value there."""
    charges = [charge(account="x"), charge(account=None)]
    assert charges[1:] == list(select(charges, {"account": [""]}))


def test_select_streams(charge):
    """Filtering reads one charge at a time, so that a ledger of any size fits."""
    read = []

    def ledger():
        for number in range(10):
            read.append(number)
            yield charge(record_id=str(number))

    next(select(ledger(), {"provider": ["openai"]}))
    assert read == [0]


def test_within_includes_since_and_excludes_until(charge, noon):
    """The period is half open; a missing bound is no bound."""
    charges = [charge(at=noon + timedelta(hours=hour)) for hour in range(4)]
    assert charges[1:3] == list(within(charges, noon + timedelta(hours=1), noon + timedelta(hours=3)))
    assert charges == list(within(charges, None, None))
