"""
The OpenTelemetry sink: charges as log records, and their totals as metrics, over OTLP/HTTP with protobuf.

One log record per charge, event name `costmeter.charge`, at the charge's instant. Its body is the charge's JSON, with
the bytes that it has in every sink. Its attributes are `costmeter.<field>` for each field that is known (decimals as
text, because OTLP's numbers are floats), `costmeter.label.<name>`, and, where the GenAI conventions have a name:

    gen_ai.provider.name, gen_ai.request.model, gen_ai.response.model, gen_ai.response.id, gen_ai.operation.name,
    gen_ai.conversation.id (session), gen_ai.agent.name, gen_ai.token.type,
    gen_ai.usage.input_tokens, gen_ai.usage.output_tokens       on each row that is a part of it: their sum is the total
    gen_ai.usage.cache_read.input_tokens, gen_ai.usage.cache_creation.input_tokens, gen_ai.usage.reasoning.output_tokens

Metrics are cumulative counters: `costmeter.cost` (what providers charge) and `costmeter.billed` (what goes on bills; of
both, `.._credit` has the amounts below zero, without their sign) by `costmeter.currency`, `costmeter.tokens` and
`costmeter.seconds` and `costmeter.quantity` (anything else) by `costmeter.unit`, `costmeter.records`; under the chosen
labels and no more combinations of them than `max_series`.

Invariant: returning from `write` means that the collector answered that it has the log records and the totals with
them. `costmeter.record_id` and `costmeter.line` are the key by which a repeat is told. In the metrics a row is counted
once per process, which has a `service.instance.id` of its own and begins at 0; the batch that a killed process had not
acknowledged is counted by the next one too. The providers are this sink's own, never the process's global ones.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Literal
from urllib.parse import urlsplit
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from livekit_costmeter.delivery.sinks import RetryableError
from livekit_costmeter.delivery.sinks.addresses import Secrets
from livekit_costmeter.delivery.sinks.halving import Refused, send_in_halves
from livekit_costmeter.delivery.sinks.otlp_signals import Logs, Metrics
from livekit_costmeter.delivery.sinks.otlp_wire import EXPORT_THREAD, Outcome, Wire
from livekit_costmeter.delivery.sinks.series import LABELS, Label, Recent, Series
from livekit_costmeter.records import Charge

Signal = Literal["logs", "metrics"]
_COMMITTED = range(200, 300)
_REFUSED = frozenset({400, 413, 422})
_QUOTED = 200
_GOODBYE = 0.9


class OtlpSink:
    """Export charges to an OpenTelemetry collector."""

    class Options(BaseModel):
        """Where the collector is, and what it gets.

        `endpoint` is the base address of OTLP/HTTP, without `/v1/logs` and without secrets: they belong into `headers`.
        `signals` are logs, metrics or both. `service_name` is the resource's. `labels` and `max_series` bound the
        attributes of the metrics: some of component, provider, model, owner, account; over `max_series` combinations,
        values become `other`, beginning with the last label. A request has about `batch_records` log records.
        `timeout` in seconds is for one batch. The SDK's own variables (`OTEL_EXPORTER_OTLP_HEADERS`, `..._CERTIFICATE`,
        `OTEL_RESOURCE_ATTRIBUTES`, ...) hold where nothing is said here.
        """

        model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
        endpoint: str = "http://localhost:4318"
        headers: dict[str, SecretStr] = {}
        signals: tuple[Signal, ...] = Field(default=("logs", "metrics"), min_length=1)
        service_name: str = Field(default="livekit-costmeter", min_length=1)
        labels: tuple[Label, ...] = LABELS
        max_series: int = Field(default=1_000, ge=2, le=100_000)
        batch_records: int = Field(default=500, ge=1)
        compression: Literal["gzip", "none"] = "gzip"
        timeout: float = Field(default=10, gt=0)

        @field_validator("endpoint")
        @classmethod
        def _without_secrets(cls, endpoint: str) -> str:
            try:
                parts = urlsplit(endpoint)
                known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
            except ValueError:  # its text may quote what stands where a port is expected
                known = False
            if not known:
                raise ValueError("expected an address that begins with http:// or https://")
            if "@" in parts.netloc or parts.query or parts.fragment:
                # The SDK's own log lines quote the address.
                raise ValueError("holds credentials or a query; they belong into `headers`")
            return endpoint.rstrip("/")

    def __init__(
        self,
        options: Options | None = None,
        *,
        instance_id: Callable[[], str] = lambda: str(uuid4()),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options or self.Options()
        self._monotonic = monotonic
        self._resource = {"service.name": self._options.service_name, "service.instance.id": instance_id()}
        self._series = Series(self._options.labels, self._options.max_series)
        self._exported = Recent()
        self._secrets = Secrets(part for text in self._headers().values() for part in (text, *text.split()[-1:]))
        self._is_open = False
        self._logs: Logs | None = None
        self._metrics: Metrics | None = None

    def open(self) -> None:
        """Get ready; the first export connects."""
        self._is_open = True
        self._provide()

    def _provide(self) -> None:
        # Made once: counters that began anew without beginning at 0 would be counted twice.
        if "logs" in self._options.signals and self._logs is None:
            self._logs = Logs(self._resource, self._wire("logs"))
        if "metrics" in self._options.signals and self._metrics is None:
            self._metrics = Metrics(self._resource, self._wire("metrics"), self._series)

    def _wire(self, signal: Signal) -> Wire:
        options = self._options
        return Wire(f"{options.endpoint}/v1/{signal}", self._headers(), options.timeout, options.compression == "gzip")

    def _headers(self) -> dict[str, str]:
        return {name: value.get_secret_value() for name, value in self._options.headers.items()}

    def write(self, charges: Sequence[Charge]) -> None:
        """Export the rows that this process has not exported yet, then the totals.

        Raises:
            RejectedRecords: The collector refuses these log records, each record on its own.
            RetryableError: Anything else, also a wrong address or missing rights.
        """
        self.open()
        if not charges:
            return
        deadline = self._monotonic() + self._options.timeout
        new: dict[tuple[str, int], Charge] = {}
        for charge in charges:
            if charge not in self._exported:
                new.setdefault((charge.record_id, charge.line), charge)
        send_in_halves([*new.values()], partial(self._export_logs, deadline), most=self._options.batch_records)
        self._export_metrics(deadline)

    def _export_logs(self, deadline: float, charges: Sequence[Charge]) -> None:
        logs = self._logs
        if logs is not None:
            self._judge("logs", self._within(deadline, lambda: logs.export(charges)))
        for charge in charges:
            self._exported.add(charge)
        self._series.add(charges)

    def _export_metrics(self, deadline: float) -> None:
        if self._metrics is not None:
            try:
                self._judge("metrics", self._within(deadline, self._metrics.export))
            except Refused as error:
                # Totals are nobody's record: an operator mends the collector, or leaves this signal out.
                raise RetryableError(str(error)) from None

    def _within(self, deadline: float, export: Callable[[], Outcome]) -> Outcome:
        """Export in a thread of its own: the SDK's timeout is one of each read, and looks at the wall clock."""
        done: Future[Outcome] = Future()
        thread = threading.Thread(target=_settle, args=(done, export), name=EXPORT_THREAD, daemon=True)
        thread.start()
        try:
            return done.result(max(0.0, deadline - self._monotonic()))
        except TimeoutError:
            self._let_go(wait=False)
            raise RetryableError(f"{self._options.endpoint}: not done within {self._options.timeout:g} s") from None

    def _judge(self, signal: Signal, outcome: Outcome) -> None:
        shown = f"{self._options.endpoint}/v1/{signal}"
        text = self._secrets.conceal(outcome.text)[:_QUOTED]
        if outcome.status is None:
            raise RetryableError(f"{shown}: {text or 'no answer'}")
        if outcome.status not in _COMMITTED:
            kind = Refused if outcome.status in _REFUSED else RetryableError
            raise kind(f"{shown}: answers {outcome.status}" + (f": {text}" if text else ""))
        if outcome.rejected:
            raise Refused(f"{shown}: rejects {outcome.rejected} of them" + (f": {text}" if text else ""))

    def check(self) -> str:
        """Send each signal an empty export."""
        self._provide()
        deadline = self._monotonic() + self._options.timeout
        try:
            if self._logs is not None:
                self._judge("logs", self._within(deadline, partial(self._logs.export, ())))
            self._export_metrics(deadline)
        except Refused as error:
            raise RetryableError(str(error)) from None
        finally:
            if not self._is_open:
                self.close()
        return f"{self._options.endpoint}: takes {' and '.join(self._options.signals)}"

    def close(self) -> None:
        """Disconnect; idempotent. Everything was exported when `write` returned."""
        self._is_open = False
        self._let_go(wait=True)

    def _let_go(self, *, wait: bool) -> None:
        for signal in (self._logs, self._metrics):
            if signal is not None:
                thread = threading.Thread(target=signal.disconnect, name="costmeter-otlp-close", daemon=True)
                thread.start()
                if wait:
                    thread.join(_GOODBYE)


def _settle(done: Future[Outcome], export: Callable[[], Outcome]) -> None:
    try:
        done.set_result(export())
    except BaseException as error:
        done.set_exception(error)
