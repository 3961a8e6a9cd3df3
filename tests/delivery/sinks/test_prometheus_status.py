"""How delivery goes, as a scrape sees it."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from livekit_costmeter.delivery.files.status import RatingTally, SinkStatus, Status, write_status
from livekit_costmeter.delivery.sinks.prometheus import PrometheusSink
from livekit_costmeter.delivery.sinks.prometheus_status import DeliveryStatus


@pytest.fixture
def registry():
    return CollectorRegistry()


def scraped(registry):
    lines = generate_latest(registry).decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


def test_what_each_sink_took_and_lacks_is_shown(registry, tmp_path):
    """Counters and instants come from the status that the shipper keeps, per sink."""
    rating = RatingTally(appended=12, unpriced=3, estimated=2, dropped=1)
    away = SinkStatus(records=4, rows=9, retries=7, rejected=1, pending_bytes=512, oldest_at=90.0)
    write_status(tmp_path, Status(0.0, 95.0, 1, rating, {"ledger": SinkStatus(records=12, rows=30), "away": away}))
    registry.register(DeliveryStatus(tmp_path))
    seen = scraped(registry)
    assert seen['costmeter_spool_records_total{state="appended"}'] == "12.0"
    assert seen['costmeter_spool_records_total{state="dropped"}'] == "1.0"
    assert seen['costmeter_delivery_rows_total{sink="ledger"}'] == "30.0"
    assert seen['costmeter_delivery_retries_total{sink="away"}'] == "7.0"
    assert seen['costmeter_delivery_pending_bytes{sink="away"}'] == "512.0"
    assert seen['costmeter_delivery_oldest_pending_timestamp_seconds{sink="away"}'] == "90.0"
    assert 'costmeter_delivery_oldest_pending_timestamp_seconds{sink="ledger"}' not in seen


def test_a_spool_that_nobody_has_shipped_has_no_numbers(registry, tmp_path):
    """Unknown is no sample, never 0; a damaged status is as good as none."""
    registry.register(DeliveryStatus(tmp_path))
    assert scraped(registry) == {}
    (tmp_path / "status.json").write_text("{")
    assert scraped(registry) == {}


def test_the_sink_shows_the_spool_that_it_is_told(registry, tmp_path):
    """Both stand on one endpoint, and opening again registers nothing twice."""
    write_status(tmp_path, Status(0.0, 1.0, 1, RatingTally(appended=5), {}))
    options = PrometheusSink.Options(path=tmp_path)
    for _ in range(2):
        PrometheusSink(options, registry=registry, environ={}).open()
    assert scraped(registry)['costmeter_spool_records_total{state="appended"}'] == "5.0"
