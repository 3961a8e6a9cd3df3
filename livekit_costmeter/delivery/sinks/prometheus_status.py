"""
How delivery goes, as Prometheus metrics: the numbers of a spool's `status.json`, read at each scrape.

    costmeter_spool_records_total{state}           appended, unpriced, estimated, rejected, dropped, corrupt, torn, gaps
    costmeter_delivery_records_total{sink}         records that a sink has taken; `..._rows_total` the charges
    costmeter_delivery_retries_total{sink}         batches that were sent again
    costmeter_delivery_rejected_total{sink}        records that a sink refused for good
    costmeter_delivery_pending_bytes{sink}         usage that a sink still lacks
    costmeter_delivery_oldest_pending_timestamp_seconds{sink}      when it was used; its age is time() minus that

Invariant: labels are states and the names of configured sinks, nothing else; where nobody has shipped yet there is no
sample, because unknown is not 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from livekit_costmeter.delivery.files.status import RatingTally, read_status

_STATES = tuple(name for name in RatingTally.__dataclass_fields__ if name != "charges")
_COUNTED = {
    "records": "Records that a sink has taken",
    "rows": "Charges that a sink has taken",
    "retries": "Batches that were sent to a sink again",
    "rejected": "Records that a sink refused for good",
}


class DeliveryStatus(Collector):
    """Shows the status of one spool directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def describe(self) -> list[Metric]:
        """Name the metrics, without a look at the disk."""
        return [self._records(), *self._counted().values(), self._pending(), self._oldest()]

    def collect(self) -> Iterator[Metric]:
        """Read the status as it was last written."""
        status = read_status(self._directory)
        if status is None:
            return
        records, counted, pending, oldest = self._records(), self._counted(), self._pending(), self._oldest()
        for state in _STATES:
            records.add_metric([state], getattr(status.rating, state))
        for name, sink in status.sinks.items():
            for figure, family in counted.items():
                family.add_metric([name], getattr(sink, figure))
            pending.add_metric([name], sink.pending_bytes)
            if sink.oldest_at is not None:
                oldest.add_metric([name], sink.oldest_at)
        yield from (records, *counted.values(), pending, oldest)

    @staticmethod
    def _records() -> CounterMetricFamily:
        return CounterMetricFamily("costmeter_spool_records", "Records found in the spool, by state", labels=["state"])

    @staticmethod
    def _counted() -> dict[str, CounterMetricFamily]:
        return {
            figure: CounterMetricFamily(f"costmeter_delivery_{figure}", text, labels=["sink"])
            for figure, text in _COUNTED.items()
        }

    @staticmethod
    def _pending() -> GaugeMetricFamily:
        return GaugeMetricFamily("costmeter_delivery_pending_bytes", "Usage that a sink still lacks", labels=["sink"])

    @staticmethod
    def _oldest() -> GaugeMetricFamily:
        text = "When the oldest usage that a sink still lacks was recorded"
        return GaugeMetricFamily("costmeter_delivery_oldest_pending_timestamp_seconds", text, labels=["sink"])
