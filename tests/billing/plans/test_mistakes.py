"""Whether two selectors can be about the same work."""

import pytest

from livekit_costmeter.billing.plans.mistakes import find_mistake, overlap
from livekit_costmeter.billing.schema import PlanModel

ROW = {"component": "tts", "unit": "characters", "price": "1"}


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("flash", "flash", True),
        ("flash", "turbo", False),
        ("flash", "fl*", True),
        ("nova-2*", "nova-3*", False),
        ("*flash*", "*turbo*", True),
        ("nova*", "*medical", True),
        ("nova?", "nova-*", True),
        ("nova??", "nova", False),
        ("nova-[23]", "nova-3*", True),
        ("nova-[!3]", "nova-3", False),
        ("nova-[12]x", "nova-3?", False),
        ("*", "*", True),
        ("a*b*c", "*d", False),
        ("a*b*c", "*d*", True),
    ],
)
def test_two_globs_overlap_if_some_name_matches_both(one, other, both):
    """Names, stars, question marks and sets, either way round."""
    assert overlap(one, other) is overlap(other, one) is both


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"model": "nova-2*"}, {"model": "nova-3*"}),
        ({"model": "nova*"}, {"model": "nova-3"}),
        ({"model": "nova*"}, {"model": "nova-3*"}),
        ({"provider": "a"}, {"provider": "b"}),
        ({"unit": "characters"}, {"unit": "output_audio_seconds"}),
        ({"component": "tts"}, {"component": "realtime"}),
        ({"effective_to": "2026-07-01"}, {"effective_from": "2026-07-01"}),
    ],
)
def test_rules_that_can_be_told_apart_are_no_mistake(first, second):
    """By what they are about, by how specific they are, or by their dates."""
    rows = [{**ROW, "id": "a", **first}, {**ROW, "id": "b", **second}]
    assert find_mistake(PlanModel.model_validate({"name": "p", "currency": "USD", "rates": rows})) is None


def test_fees_add_up():
    """Each id is a fee of its own, on the same calls or not."""
    fees = [{"id": name, "per": "minute", "price": "1"} for name in ("platform", "recording")]
    assert find_mistake(PlanModel.model_validate({"name": "p", "currency": "USD", "fees": fees})) is None
