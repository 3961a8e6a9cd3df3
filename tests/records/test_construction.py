"""Records that are made quickly are the records that their class makes."""

import dataclasses
from decimal import Decimal

import pytest

from livekit_costmeter.records import Charge, UsageRecord, make_charge
from livekit_costmeter.records.construction import quickly

VALUES = tuple(f"value of {field.name}" for field in dataclasses.fields(Charge))


def test_what_is_made_is_of_the_class_and_equal():
    """By position or by name, in type, fields and hash."""
    named = dict(zip((field.name for field in dataclasses.fields(Charge)), VALUES, strict=True))
    made = make_charge(*VALUES)
    assert type(made) is Charge
    assert made == Charge(*VALUES) == make_charge(**named)
    assert hash(made) == hash(Charge(*VALUES))
    assert repr(made) == repr(Charge(*VALUES))
    assert dataclasses.replace(made, cost=Decimal(1)).cost == 1


def test_what_is_made_is_frozen():
    """A charge never changes, however it was made."""
    made = make_charge(*VALUES)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.cost = Decimal(0)
    with pytest.raises((AttributeError, TypeError)):
        made.novelty = 1


def test_defaults_are_those_of_the_class():
    """Each record gets a mapping of its own."""
    make = quickly(UsageRecord)
    first, second = (make("id", None, "llm", "openai", "gpt-4o-mini", {}) for _ in range(2))
    assert first == second == UsageRecord("id", None, "llm", "openai", "gpt-4o-mini", {})
    assert first.labels is not second.labels


@pytest.mark.parametrize("values", [VALUES[1:], (*VALUES, "more")])
def test_wrong_number_of_fields_is_an_error(values):
    """As with the class itself."""
    with pytest.raises(TypeError):
        make_charge(*values)
