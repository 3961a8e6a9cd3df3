"""Look-up in rate cards and in the shipped overrides."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from livekit_costmeter.pricing.ratecards import load_overrides
from livekit_costmeter.pricing.schema import check_overlaps

ROW = {"provider": "deepgram", "model": "nova-3", "unit": "audio_seconds", "price": "5", "per": 60}


def price(card, *models, owner="unknown", at=datetime(2026, 11, 20, tzinfo=UTC), provider="deepgram", plan="ship"):
    """Return what a card says a second of audio costs, or `None`."""
    found = card.lookup(provider, models or ("nova-3",), component="stt", owner=owner, plan=plan, at=at)
    return None if found is None or "audio_seconds" not in found.rates else found.rates["audio_seconds"].unit_price


def test_an_exact_model_beats_a_glob_and_a_longer_glob_a_shorter(card):
    """The most specific pattern wins, whatever the order in the file."""
    rows = [{**ROW, "model": "nova-3", "price": "3"}, {**ROW, "model": "nova*", "price": "1"}]
    rows.append({**ROW, "model": "nova-3*", "price": "2"})
    built = card(*rows)
    assert [price(built, model) for model in ("nova-3", "nova-3-medical", "nova-2")] == [3, 2, 1]


def test_an_owners_own_rate_beats_a_general_one(card):
    """A row for one owner's keys wins for that owner and for nobody else, even with a shorter pattern."""
    built = card({**ROW, "price": "2"}, {**ROW, "model": "*", "price": "1", "key_owner": "acme"})
    assert [price(built, owner=owner) for owner in ("acme", "platform")] == [1, 2]


def test_dates_are_utc_midnights_and_the_end_is_exclusive(card):
    """A row begins at its first midnight and has ended at its last."""
    built = card({**ROW, "effective_from": "2026-06-01", "effective_to": "2026-07-01"})
    moments = [datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)]
    tick = timedelta(microseconds=1)
    assert [price(built, at=moment) for moment in moments] == [5, None]
    assert [price(built, at=moment - tick) for moment in moments] == [None, 5]


def test_a_card_may_spell_providers_and_models_as_they_are_reported(card):
    """`Deepgram` is deepgram, case does not matter, and the reported model matches as well as the canonical one."""
    assert price(card({**ROW, "provider": "Deepgram", "model": "NOVA-3"})) == 5
    azure = card({**ROW, "provider": "Azure TTS", "model": "eastus:*"})
    assert price(azure, "tts-neural", "eastus:en-US-JennyNeural", provider="azure") == 5


def test_a_host_is_found_with_and_without_its_port(card):
    """A rate for a host covers every port of it."""
    assert price(card({**ROW, "provider": "127.0.0.1"}), provider="127.0.0.1:8000") == 5


def test_the_source_names_card_digest_row_and_date(card):
    """A rate can be traced to its file and row."""
    built = card({**ROW, "model": "nova-3*", "effective_from": "2026-01-01", "key_owner": "acme"})
    rate = built.rates()[0][2]
    assert rate.printed_source() == "ratecard:acme-2026@0123456789ab#deepgram/nova-3*@2026-01-01?owner=acme"


def test_the_digest_of_a_row_changes_with_its_price(card):
    """Two rows that differ in price alone have different digests."""
    first, second = (card({**ROW, "price": text}).rates()[0][2] for text in ("1", "2"))
    assert first.digest != second.digest


def test_an_override_can_be_for_one_plan_of_the_gateway(override):
    """A gateway price of the Ship plan is not used under Scale."""
    built = override({**ROW, "id": "x", "plan": "ship"})
    assert [price(built, plan=plan) for plan in ("ship", "scale")] == [5, None]


def test_the_shipped_overrides_are_valid_and_unambiguous():
    """Every shipped file passes the schema, ids are unique, and no two rows overlap, across files."""
    rows = load_overrides()
    assert len({row.id for row in rows}) == len(rows) > 0
    check_overlaps(tuple(rows))


@pytest.mark.parametrize(
    ("provider", "model", "unit", "per_hour"),
    [
        ("cartesia", "ink-whisper", "audio_seconds", "0.18"),
        ("assemblyai", "universal-3-5-pro", "connection_seconds", "0.45"),
        ("deepgram", "flux-general-multi", "audio_seconds", "0.468"),
    ],
)
def test_the_known_mistakes_of_the_catalogs_are_overridden(provider, model, unit, per_hour):
    """The shipped overrides hold the published price where a catalog is known to be wrong or silent."""
    rows = [r for r in load_overrides() if (r.provider, r.model, r.unit) == (provider, model, unit)]
    assert [row.price * 3600 / row.per for row in rows] == [Decimal(per_hour)]
