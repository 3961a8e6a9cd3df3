"""
The Prometheus sink: counters beside those of the worker, on the worker's own endpoint.

    costmeter_cost_total{currency, <labels>}          what the providers charge
    costmeter_cost_credit_total{currency, <labels>}   corrections below zero, without their sign
    costmeter_billed_total{currency, <labels>}        what goes on the accounts' bills, and likewise billed_credit
    costmeter_quantity_total{unit, <labels>}          what was measured
    costmeter_records_total{<labels>}

LiveKit's worker serves the default registry on `prometheus_port`; with `PROMETHEUS_MULTIPROC_DIR` it serves what the
files in that directory hold instead. There the totals are put into `counter_costmeter-<process id>.db`, in
prometheus_client's own format:

    int32 bytes used, 4 bytes padding, then per sample: int32 length of the key, the key padded with blanks to eight
    bytes, float64 value, float64 time (0); the key is JSON: [metric, sample, {label: value}, help]

The file is replaced as a whole and never mapped: a full disk is an error of a write, not a signal that kills the
worker, and it is written anew when LiveKit clears the directory as it starts. What a former process of the same id left
in it is carried on, so that the sum over all files never falls. `costmeter ship`, which has no endpoint, is seen on the
worker's if both have the same directory.

Invariant: one set of counters per process and registry, whoever writes into it; a row is counted once in it, and before
`write` returns. Counters begin at 0 with the process, as counters do, which `rate()` and `increase()` allow for. The
batch that a killed process had counted but not acknowledged is counted again by the next one: the ledger is exact, this
is for dashboards and alerts. Sums are exact decimals; the wire format makes floats of them.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.registry import Collector
from pydantic import BaseModel, ConfigDict, Field, field_validator

from livekit_costmeter.delivery.sinks import RetryableError, SinkError
from livekit_costmeter.delivery.sinks.prometheus_status import DeliveryStatus
from livekit_costmeter.delivery.sinks.series import DIMENSIONS, LABELS, Label, Sample, Series
from livekit_costmeter.records import Charge

_HELP = {
    "cost": "What the providers charge, by currency",
    "cost_credit": "Corrections below zero of what providers charge, without their sign, by currency",
    "billed": "What goes on the accounts' bills, by currency",
    "billed_credit": "Corrections below zero of what goes on the accounts' bills, without their sign, by currency",
    "quantity": "What was measured, by unit",
    "records": "Records of usage and other charges",
}
_HEAD = struct.Struct("=i4x")
_LENGTH = struct.Struct("=i")
_VALUE = struct.Struct("=dd")


class PrometheusSink:
    """Count charges in this process's Prometheus registry."""

    class Options(BaseModel):
        """Which labels the counters have, and how many combinations of their values at most.

        `labels` are some of component, provider, model, owner and account, no others: what is different in each call
        (session, room, participant) would make a series of each call. Over `max_series`, values become `other`,
        beginning with the last label; the counters together have at most `max_series` times the units and currencies
        in use. `path` is a spool directory whose delivery is shown too (see `prometheus_status`); not with several
        processes, whose endpoint knows files only.
        """

        model_config = ConfigDict(extra="forbid")
        labels: tuple[Label, ...] = LABELS
        max_series: int = Field(default=1_000, ge=2, le=100_000)
        path: Path | None = None

        @field_validator("labels")
        @classmethod
        def _each_once(cls, labels: tuple[Label, ...]) -> tuple[Label, ...]:
            if len(set(labels)) != len(labels):
                raise ValueError("names a label twice")
            return labels

    def __init__(
        self,
        options: Options | None = None,
        *,
        registry: CollectorRegistry = REGISTRY,
        environ: Mapping[str, str] = os.environ,
        process_id: Callable[[], int] = os.getpid,
    ) -> None:
        self._options = options or self.Options()
        self._registry = registry
        self._environ = environ
        self._process_id = process_id

    def open(self) -> None:
        """Register the counters, where no sink of this process has yet.

        Raises:
            SinkError: Another sink has registered them with other labels.
        """
        self._exposed()

    def write(self, charges: Sequence[Charge]) -> None:
        """Count the rows that were not counted yet.

        Raises:
            RetryableError: The directory for several processes cannot be written.
        """
        exposed = self._exposed()
        if not charges:
            return
        exposed.series.add(charges)
        directory = self._environ.get("PROMETHEUS_MULTIPROC_DIR")
        if directory:
            self._put(Path(directory), exposed)

    def check(self) -> str:
        """Say where the counters are to be seen."""
        exposed = self._exposed()
        directory = self._environ.get("PROMETHEUS_MULTIPROC_DIR")
        if directory and not os.access(directory, os.W_OK | os.X_OK):
            raise SinkError(f"{directory}: cannot be written (PROMETHEUS_MULTIPROC_DIR)")
        place = directory or "this process's registry"
        return f"{exposed.series.combinations} of at most {self._options.max_series} label combinations, in {place}"

    def close(self) -> None:
        """Leave the counters in place: they are to be scraped while the sink is away."""

    def _exposed(self) -> _Exposed:
        with _REGISTERING:
            exposed = _EXPOSED.get(self._registry)
            if exposed is None:
                exposed = _EXPOSED[self._registry] = _Exposed(self._options)
                self._registry.register(exposed)
                if self._options.path is not None:
                    self._registry.register(DeliveryStatus(self._options.path))
        if (exposed.series.labels, exposed.series.max_series) != (self._options.labels, self._options.max_series):
            raise SinkError("another prometheus sink of this process has other labels or another max_series")
        exposed.belong_to(self._process_id())
        return exposed

    def _put(self, directory: Path, exposed: _Exposed) -> None:
        path = directory / f"counter_costmeter-{self._process_id()}.db"
        part = path.with_suffix(".part")
        try:
            part.write_bytes(b"".join(_file(exposed.entries(path))))
            part.replace(path)
        except OSError as error:
            raise RetryableError(f"{directory}: {error.strerror or error} (PROMETHEUS_MULTIPROC_DIR)") from None


class _Exposed(Collector):
    """The totals of one registry, as it wants to see them; those of a forked child are its own."""

    def __init__(self, options: PrometheusSink.Options) -> None:
        self.series = Series(options.labels, options.max_series)
        self._owner: int | None = None
        self._carried: dict[str, float] = {}
        self._carried_from: Path | None = None

    def belong_to(self, process_id: int) -> None:
        if self._owner not in (None, process_id):
            self.series = Series(self.series.labels, self.series.max_series)
        self._owner = process_id

    def entries(self, path: Path) -> dict[str, float]:
        """Return what is to stand in a file: what stood there when this process began, and the totals."""
        if path != self._carried_from:
            found: Any = MmapedDict.read_all_values_from_file(path) if path.exists() else ()  # type: ignore[no-untyped-call]
            self._carried = {key.rstrip(): value for key, value, *_ in found}
            self._carried_from = path
        entries = dict(self._carried)
        for sample in self.series.samples():
            key = _key(sample, self.series.labels)
            entries[key] = entries.get(key, 0.0) + float(sample.value)
        return entries

    def describe(self) -> list[CounterMetricFamily]:
        return list(self._families().values())

    def collect(self) -> Iterator[CounterMetricFamily]:
        families = self._families()
        for sample in self.series.samples():
            families[sample.measure].add_metric(_label_values(sample), float(sample.value))
        yield from families.values()

    def _families(self) -> dict[str, CounterMetricFamily]:
        return {
            measure: CounterMetricFamily(
                f"costmeter_{measure}", _HELP[measure], labels=_label_names(measure, self.series.labels)
            )
            for measure in DIMENSIONS
        }


_REGISTERING = threading.Lock()
_EXPOSED: WeakKeyDictionary[CollectorRegistry, _Exposed] = WeakKeyDictionary()


def _label_names(measure: str, labels: Sequence[str]) -> list[str]:
    return [DIMENSIONS[measure], *labels] if DIMENSIONS[measure] else [*labels]


def _label_values(sample: Sample) -> list[str]:
    return [sample.dimension, *sample.labels] if DIMENSIONS[sample.measure] else [*sample.labels]


def _key(sample: Sample, names: Sequence[str]) -> str:
    labels = dict(zip(_label_names(sample.measure, names), _label_values(sample), strict=True))
    name = f"costmeter_{sample.measure}"
    return mmap_key(name, f"{name}_total", [*labels], [*labels.values()], _HELP[sample.measure])


def _file(entries: Mapping[str, float]) -> Iterator[bytes]:
    parts = [_entry(key.encode(), value) for key, value in entries.items()]
    yield _HEAD.pack(_HEAD.size + sum(map(len, parts)))
    yield from parts


def _entry(key: bytes, value: float) -> bytes:
    padded = key + b" " * (8 - (len(key) + _LENGTH.size) % 8)
    return _LENGTH.pack(len(key)) + padded + _VALUE.pack(value, 0.0)
