"""A whole day of calls, in several processes, through the real pipeline into a ledger."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.fidelity.day import play_day

_WITHIN = Decimal("0.01")


@pytest.mark.slow
def test_a_day_of_calls_costs_what_the_providers_charge(tmp_path):
    """200 calls with interruptions, handoffs, fallbacks, tools and drops, over 4 processes: within 1 %."""
    day = play_day(tmp_path, processes=4, calls=200, seed=4711)
    assert set(day.ledger) == {"llm", "stt", "tts"}
    assert set(day.charged) == {*day.ledger, "call"}
    assert day.charged["call"] == 0  # nobody phoned: there is no carrier to pay
    assert set(day.outcomes) >= {"completed", "interrupted", "failed", "probe", "discarded"}
    off = {component: day.charged[component] / cost - 1 for component, cost in day.ledger.items()}
    total = sum(day.charged.values()) / sum(day.ledger.values()) - 1
    assert abs(total) <= _WITHIN, f"off by {total:+.2%} in all: {off}"
    # No component may hide behind another: each of them alone is off by less than two hundredths.
    assert {name: share for name, share in off.items() if abs(share) > 2 * _WITHIN} == {}
