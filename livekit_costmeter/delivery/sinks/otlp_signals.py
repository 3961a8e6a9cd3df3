"""
What OpenTelemetry's SDK makes of charges: log records with the names of the GenAI conventions, and counters.

Invariant: every charge that `export` was given was in the request whose outcome it returns; nothing is queued, dropped
or shortened on the way, whatever limits the environment sets for the rest of the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from opentelemetry._logs import SeverityNumber
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.sdk._logs import (
    LoggerProvider,
    LogRecordLimits,
    LogRecordProcessor,
    ReadableLogRecord,
    ReadWriteLogRecord,
)
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.metrics import MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult, MetricsData
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.version import __version__ as sdk_version

from livekit_costmeter.delivery.sinks.otlp_wire import Outcome, Wire, Witness
from livekit_costmeter.delivery.sinks.series import DIMENSIONS, Sample, Series
from livekit_costmeter.records import Charge, charge_fields, charge_json

SCOPE = "livekit_costmeter"
EVENT = "costmeter.charge"

_UNLIMITED = LogRecordLimits(
    max_log_record_attributes=LogRecordLimits.UNSET, max_log_record_attribute_length=LogRecordLimits.UNSET
)
_MOST_POINTS = 1_000_000
_GEN_AI = {
    "provider": "gen_ai.provider.name",
    "model": "gen_ai.request.model",
    "reported_model": "gen_ai.response.model",
    "operation_id": "gen_ai.response.id",
    "session_id": "gen_ai.conversation.id",
    "agent": "gen_ai.agent.name",
}
_USAGE = {
    "cached_input_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_creation.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
}
_OUTPUT_TOKENS = frozenset({"output_tokens", "reasoning_tokens", "output_audio_tokens"})
_LABELS = {
    "component": "costmeter.component",
    "provider": "gen_ai.provider.name",
    "model": "gen_ai.request.model",
    "owner": "costmeter.key_owner",
    "account": "costmeter.account",
}
_COUNTERS = {
    "costmeter.cost": ("", "What the providers charge"),
    "costmeter.cost_credit": ("", "Corrections below zero of what providers charge, without their sign"),
    "costmeter.billed": ("", "What goes on the accounts' bills"),
    "costmeter.billed_credit": ("", "Corrections below zero of what goes on the accounts' bills, without their sign"),
    "costmeter.tokens": ("{token}", "Tokens"),
    "costmeter.seconds": ("s", "Seconds of audio, connections, sessions and calls"),
    "costmeter.quantity": ("", "What is measured otherwise: characters, requests, messages"),
    "costmeter.records": ("{record}", "Records of usage and other charges"),
}
_SDK = {
    "telemetry.sdk.language": "python",
    "telemetry.sdk.name": "opentelemetry",
    "telemetry.sdk.version": sdk_version,
}
_DIMENSIONS = {measure: f"costmeter.{name}" for measure, name in DIMENSIONS.items() if name}


def _resource(attributes: Mapping[str, str]) -> Resource:
    """Return what `Resource.create` does, without its executor, which takes no work while a process ends."""
    return OTELResourceDetector().detect().merge(Resource({**_SDK, **attributes}))


class Logs:
    """Log records of charges, under a provider of our own; `export` is called by one thread at a time."""

    def __init__(self, resource: Mapping[str, str], wire: Wire) -> None:
        self._wire = wire
        self._pending = _Pending()
        self._provider = LoggerProvider(
            resource=_resource(resource), shutdown_on_exit=False, log_record_limits=_UNLIMITED
        )
        self._provider.add_log_record_processor(self._pending)
        self._logger = self._provider.get_logger(SCOPE)

    def export(self, charges: Sequence[Charge]) -> Outcome:
        """Send one log record per charge and wait for the answer."""
        witness = self._pending.connected(self._wire)
        for charge in charges:
            self._emit(charge)
        if self._pending.count != len(charges):
            return Outcome(text="the OpenTelemetry SDK is switched off here (OTEL_SDK_DISABLED)")
        flushed = self._provider.force_flush(int(self._wire.timeout * 1_000))
        return witness.outcome(flushed, _rejected_records)

    def _emit(self, charge: Charge) -> None:
        whole = charge.at.replace(microsecond=0).timestamp()
        self._logger.emit(
            timestamp=int(whole) * 10**9 + charge.at.microsecond * 1_000,
            context=Context(),
            severity_number=SeverityNumber.INFO,
            severity_text="INFO",
            body=charge_json(charge).decode(),
            attributes=_attributes(charge),
            event_name=EVENT,
        )

    def disconnect(self) -> None:
        """Close the connection; the next export opens one."""
        self._pending.shutdown()


class _Pending(LogRecordProcessor):
    """Holds emitted records until they are flushed and says how that went; the SDK's own processors do not tell."""

    def __init__(self) -> None:
        self._records: list[ReadableLogRecord] = []
        self._connection: tuple[Witness, OTLPLogExporter] | None = None

    @property
    def count(self) -> int:
        return len(self._records)

    def connected(self, wire: Wire) -> Witness:
        self._records = []
        if self._connection is None:
            witness = Witness()
            self._connection = witness, OTLPLogExporter(**wire.settings(witness))
        return self._connection[0]

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        assert log_record.resource is not None
        self._records.append(
            ReadableLogRecord(
                log_record.log_record, log_record.resource, log_record.instrumentation_scope, log_record.limits
            )
        )

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - the exporter has its own
        records, self._records = self._records, []
        if self._connection is None:
            return False
        return self._connection[1].export(records) is LogRecordExportResult.SUCCESS

    def shutdown(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection[1].shutdown()  # type: ignore[no-untyped-call]


class Metrics:
    """The totals as cumulative counters, under a provider of our own that lives as long as they do."""

    def __init__(self, resource: Mapping[str, str], wire: Wire, series: Series) -> None:
        self._wire = wire
        self._series = series
        self._connection: tuple[Witness, OTLPMetricExporter] | None = None
        self._reader = InMemoryMetricReader(cardinality_limits={ObservableCounter: _MOST_POINTS})
        provider = MeterProvider([self._reader], resource=_resource(resource), shutdown_on_exit=False)
        meter = provider.get_meter(SCOPE)
        for name, (unit, text) in _COUNTERS.items():
            meter.create_observable_counter(name, [partial(self._observe, name)], unit, text)

    def _observe(self, name: str, _options: CallbackOptions) -> Iterable[Observation]:
        return [
            Observation(float(sample.value), self._point(sample))
            for sample in self._series.samples()
            if _counter(sample) == name
        ]

    def _point(self, sample: Sample) -> dict[str, str]:
        names = [_LABELS[label] for label in self._series.labels]
        attributes = {name: value for name, value in zip(names, sample.labels, strict=True) if value}
        if sample.measure in _DIMENSIONS:
            attributes[_DIMENSIONS[sample.measure]] = sample.dimension
        return attributes

    def export(self) -> Outcome:
        """Send the totals as they are now and wait for the answer."""
        if self._connection is None:
            witness = Witness()
            self._connection = witness, OTLPMetricExporter(**self._wire.settings(witness))
        witness, exporter = self._connection
        data = self._reader.get_metrics_data() or MetricsData(resource_metrics=[])
        return witness.outcome(exporter.export(data) is MetricExportResult.SUCCESS, _rejected_points)

    def disconnect(self) -> None:
        """Close the connection; the next export opens one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection[1].shutdown()


def _counter(sample: Sample) -> str:
    if sample.measure != "quantity":
        return f"costmeter.{sample.measure}"
    kind = sample.dimension.rpartition("_")[2]
    return f"costmeter.{kind if kind in ('tokens', 'seconds') else 'quantity'}"


def _attributes(charge: Charge) -> dict[str, Any]:
    fields = charge_fields(charge)
    labels = fields.pop("labels")
    found = {f"costmeter.{name}": value for name, value in fields.items()}
    found |= {f"costmeter.label.{name}": value for name, value in labels.items()}
    found |= {name: fields[field] for field, name in _GEN_AI.items()}
    if charge.component == "llm":
        found["gen_ai.operation.name"] = "chat"
    if charge.kind == "usage" and charge.unit.endswith("_tokens"):
        found |= _token_usage(charge)
    return {name: value for name, value in found.items() if value is not None}


def _token_usage(charge: Charge) -> dict[str, Any]:
    side = "output" if charge.unit in _OUTPUT_TOKENS else "input"
    names = [f"gen_ai.usage.{side}_tokens", *filter(None, [_USAGE.get(charge.unit)])]
    whole = charge.quantity == charge.quantity.to_integral_value()
    return {"gen_ai.token.type": side} | (dict.fromkeys(names, int(charge.quantity)) if whole else {})


def _rejected_records(body: bytes) -> tuple[int, str]:
    said = ExportLogsServiceResponse.FromString(body).partial_success
    return said.rejected_log_records, said.error_message


def _rejected_points(body: bytes) -> tuple[int, str]:
    said = ExportMetricsServiceResponse.FromString(body).partial_success
    return said.rejected_data_points, said.error_message
