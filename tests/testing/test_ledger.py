"""The ledger of the loopback providers."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from livekit_costmeter.records import Unit
from livekit_costmeter.testing.ledger import Dropped, Ledger, key_label, settling

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def ledger_with(*operations):
    """Make a ledger in which these operations have ended."""
    ledger = Ledger(clock=lambda: NOON)
    for component, model, key, unit, quantity, outcome in operations:
        operation = ledger.begin(provider="openai", component=component, model=model, key=key, id="op")
        operation.add(Unit(unit), quantity)
        operation.close(outcome)
    return ledger


def test_a_total_adds_up_what_matches():
    """Totals can be narrowed by component, model, key and outcome, and a unit nobody used adds up to 0."""
    ledger = ledger_with(
        ("llm", "a", "key-a", "input_tokens", 5, "completed"),
        ("llm", "b", "key-a", "input_tokens", 7, "aborted"),
        ("llm", "a", "key-b", "input_tokens", 11, "completed"),
        ("tts", "a", "key-a", "characters", 13, "completed"),
    )
    assert ledger.total(unit="input_tokens") == 23
    assert ledger.total(unit="input_tokens", key="key-a") == 12
    assert ledger.total(unit="input_tokens", key="key-a", model="a") == 5
    assert ledger.total(unit="input_tokens", outcome="aborted") == 7
    assert ledger.total(unit="characters", component="llm") == Decimal(0)
    assert ledger.total(unit="characters", component="tts", provider="openai") == 13


def test_totals_list_every_model_of_every_key():
    """The whole bill is a line per provider, model and key label."""
    ledger = ledger_with(
        ("llm", "a", "key-a", "input_tokens", 5, "completed"),
        ("llm", "a", "key-a", "input_tokens", 6, "completed"),
        ("llm", "a", "key-b", "input_tokens", 1, "completed"),
    )
    assert ledger.totals() == {
        ("openai", "a", key_label("key-a")): {"input_tokens": 11},
        ("openai", "a", key_label("key-b")): {"input_tokens": 1},
    }


def test_the_ledger_never_holds_a_key():
    """Neither an open operation nor an entry contains the key."""
    ledger = Ledger()
    operation = ledger.begin(provider="openai", component="llm", model="a", key="sk-very-secret", id="op")
    operation.close()
    assert "very-secret" not in repr((vars(ledger), operation, ledger.entries))
    assert ledger.entries[0].key == key_label("sk-very-secret")


def test_an_entry_is_written_once():
    """Closing an operation again changes nothing."""
    ledger = Ledger(clock=lambda: NOON)
    operation = ledger.begin(provider="openai", component="llm", model="a", key="k", id="op")
    operation.close("failed")
    operation.close("completed")
    assert [(entry.outcome, entry.at) for entry in ledger.entries] == [("failed", NOON)]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (asyncio.CancelledError, "aborted"),
        (ConnectionResetError, "aborted"),
        (Dropped, "failed"),
        (KeyError, "failed"),
    ],
)
def test_the_end_of_a_block_decides_the_outcome(error, outcome):
    """A client that leaves aborts its operation; the vendor's own end fails it."""
    ledger = Ledger()
    operation = ledger.begin(provider="openai", component="llm", model="a", key="k", id="op")
    with pytest.raises(error), settling(operation):
        raise error
    assert [entry.outcome for entry in ledger.entries] == [outcome]


async def test_settled_waits_for_open_operations():
    """The totals are final once `settled` returns; an operation that stays open is an error."""
    ledger = Ledger()
    operation = ledger.begin(provider="openai", component="llm", model="a", key="k", id="op")
    assert ledger.under_way == 1
    with pytest.raises(TimeoutError):
        await ledger.settled(timeout=0.01)
    operation.close()
    await ledger.settled(timeout=0.01)
    assert ledger.under_way == 0
