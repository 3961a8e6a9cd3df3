"""Charges as OpenTelemetry log records and counters, to a receiver that decodes the protobufs."""

import dataclasses
import logging
import threading
from decimal import Decimal

import pytest
from aiohttp import web
from google.rpc.status_pb2 import Status
from opentelemetry import metrics
from opentelemetry._logs import get_logger_provider
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from pydantic import ValidationError

from livekit_costmeter.delivery.sinks import RejectedRecords, RetryableError, SinkError, find_sink
from livekit_costmeter.delivery.sinks.otlp import OtlpSink
from livekit_costmeter.records import charge_json, parse_charge
from livekit_costmeter.testing.contract import check_sink
from tests.engines.receiver import Receiver

TOKEN = "tok-93b1c2d4e5f6"
LOGS, METRICS = "/v1/logs", "/v1/metrics"


@pytest.fixture(scope="module")
def server():
    """Run one receiver."""
    receiver = Receiver()
    yield receiver
    receiver.end()


def fine(_request):
    return web.Response(body=b"", content_type="application/x-protobuf")


@pytest.fixture
def receiver(server):
    """Give the receiver, as new."""
    server.start()
    server.requests.clear()
    server.taken = []
    on_answer(server, fine)
    return server


def on_answer(receiver, script, path=""):
    """Answer requests to `path` with `script`, and keep those that were answered with 200."""

    async def answer(request):
        response = script(request) if request.path.startswith(path) else fine(request)
        response = response if isinstance(response, web.StreamResponse) else await response
        if response.status == 200:
            receiver.taken.append(request)
        return response

    receiver.script = answer


@pytest.fixture
def make_sink(receiver):
    """Make sinks that export to the receiver, closed at the end."""
    made = []

    def make(**options):
        made.append(OtlpSink(OtlpSink.Options(**{"endpoint": receiver.url, "timeout": 3, **options})))
        return made[-1]

    yield make
    for sink in made:
        sink.close()


def log_records(receiver):
    """List every log record that was taken, repeats included."""
    found = [ExportLogsServiceRequest.FromString(r.body) for r in receiver.taken if r.path == LOGS]
    return [
        record
        for export in found
        for resource in export.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


def attributes(owner):
    """Read attributes as a dictionary."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in owner.attributes}


def kept(receiver):
    """Do what a reader does: take the first log record of each record id and line."""
    store = {}
    for record in log_records(receiver):
        found = attributes(record)
        store.setdefault((found["costmeter.record_id"], found["costmeter.line"]), record.body.string_value)
    return [parse_charge(body) for body in store.values()]


def last_export(receiver):
    return ExportMetricsServiceRequest.FromString([r for r in receiver.taken if r.path == METRICS][-1].body)


def points(receiver, name):
    """Read one counter of the last export, by its attributes."""
    found = [
        metric.sum
        for resource in last_export(receiver).resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
    ]
    assert all(one.is_monotonic and one.aggregation_temporality == 2 for one in found)
    return {frozenset(attributes(p).items()): p.as_double for one in found for p in one.data_points}


def starts(receiver):
    """Read since when each counter counts."""
    [resource] = last_export(receiver).resource_metrics
    [scope] = resource.scope_metrics
    return {metric.name: {p.start_time_unix_nano for p in metric.sum.data_points} for metric in scope.metrics}


def total(receiver, name):
    return sum(points(receiver, name).values())


def refusing(*records, status=400, partial=False):
    """Refuse each export that holds one of these records."""

    def script(request):
        export = ExportLogsServiceRequest.FromString(request.body)
        held = [r for rl in export.resource_logs for sl in rl.scope_logs for r in sl.log_records]
        bad = sum(attributes(record)["costmeter.record_id"] in records for record in held)
        if not bad:
            return fine(request)
        if not partial:
            body = Status(code=3, message="odd\nrecord").SerializeToString()
            return web.Response(status=status, body=body, content_type="application/x-protobuf")
        answer = ExportLogsServiceResponse()
        answer.partial_success.rejected_log_records = bad
        answer.partial_success.error_message = "too odd"
        return web.Response(status=200, body=answer.SerializeToString(), content_type="application/x-protobuf")

    return script


def test_contract_is_kept(receiver, make_sink):
    """A reader that tells log records apart by record id and line has each charge once, every field as it was."""
    check_sink(make_sink, lambda _sink: kept(receiver))


def test_type_is_declared():
    """The YAML's `otlp` is this sink."""
    assert find_sink("otlp") is OtlpSink


def test_log_record_has_the_names_of_the_conventions(receiver, make_sink, charges):
    """A log record says in OpenTelemetry's words what the charge says, and has the charge itself as its body."""
    charge = dataclasses.replace(
        charges(1)[0],
        component="llm",
        unit="cached_input_tokens",
        quantity=Decimal(40),
        agent="Receptionist",
        session_id="session-1",
        reported_model="gpt-4o-mini-2024-07-18",
        operation_id="chatcmpl-1",
        room=None,
    )
    make_sink().write([charge])
    [record] = log_records(receiver)
    found = attributes(record)
    assert record.body.string_value.encode() == charge_json(charge)
    assert record.event_name == "costmeter.charge"
    assert record.time_unix_nano == int(charge.at.timestamp()) * 10**9
    assert found["costmeter.record_id"] == charge.record_id
    assert found["costmeter.line"] == charge.line
    assert found["costmeter.cost"] == str(charge.cost.normalize())
    assert found["costmeter.label.campaign"] == "q4"
    assert "costmeter.room" not in found
    assert {name: value for name, value in found.items() if name.startswith("gen_ai.")} == {
        "gen_ai.provider.name": charge.provider,
        "gen_ai.request.model": charge.model,
        "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.operation.name": "chat",
        "gen_ai.conversation.id": "session-1",
        "gen_ai.agent.name": "Receptionist",
        "gen_ai.token.type": "input",
        "gen_ai.usage.input_tokens": 40,
        "gen_ai.usage.cache_read.input_tokens": 40,
    }


def test_counters_add_up(receiver, make_sink, charges):
    """Cost, tokens, seconds and the rest are counters under the chosen labels; corrections never lower a counter."""
    one = dataclasses.replace(charges(1)[0], key_owner="acme", account="a1", provider="p", model="m", component="llm")
    rows = [
        dataclasses.replace(one, line=0, unit="input_tokens", quantity=Decimal(10), cost=Decimal("0.5")),
        dataclasses.replace(one, line=1, unit="audio_seconds", quantity=Decimal("1.5"), cost=None, currency=None),
        dataclasses.replace(one, line=2, unit="characters", quantity=Decimal(7), cost=Decimal("0.25")),
        dataclasses.replace(one, line=3, kind="correction", cost=Decimal("-0.125")),
    ]
    make_sink(labels=["provider", "owner"]).write(rows)
    labels = {("gen_ai.provider.name", "p"), ("costmeter.key_owner", "acme")}
    assert points(receiver, "costmeter.cost") == {frozenset({*labels, ("costmeter.currency", "USD")}): 0.75}
    assert points(receiver, "costmeter.cost_credit") == {frozenset({*labels, ("costmeter.currency", "USD")}): 0.125}
    assert points(receiver, "costmeter.tokens") == {frozenset({*labels, ("costmeter.unit", "input_tokens")}): 10}
    assert points(receiver, "costmeter.seconds") == {frozenset({*labels, ("costmeter.unit", "audio_seconds")}): 1.5}
    assert points(receiver, "costmeter.quantity") == {frozenset({*labels, ("costmeter.unit", "characters")}): 7}
    assert points(receiver, "costmeter.records") == {frozenset(labels): 1}


def test_counters_count_a_row_once(receiver, make_sink, charges):
    """Repeats and a closed connection change no counter; its beginning stays the same, so it is no reset."""
    sink = make_sink()
    sink.write(charges(3))
    first = total(receiver, "costmeter.records")
    begun = starts(receiver)
    sink.write(charges(3))
    sink.close()
    sink.open()
    sink.write(charges(4))
    assert (first, total(receiver, "costmeter.records")) == (3, 4)
    assert starts(receiver) == begun


def test_each_process_is_an_instance_of_its_own(receiver, make_sink, charges):
    """Two writers at once make one set of log records, and counters that do not run into each other."""
    sinks = [make_sink(batch_records=4, service_name="costs") for _ in range(2)]
    threads = [threading.Thread(target=sink.write, args=(charges(20),)) for sink in sinks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(log_records(receiver)) == 80
    assert len(kept(receiver)) == 40
    resources = {
        tuple(sorted((k, v) for k, v in attributes(rm.resource).items() if k.startswith("service.")))
        for request in receiver.taken
        if request.path == METRICS
        for rm in ExportMetricsServiceRequest.FromString(request.body).resource_metrics
    }
    assert len(resources) == 2
    assert {dict(resource)["service.name"] for resource in resources} == {"costs"}


def test_series_stay_few(receiver, make_sink, charges):
    """However many accounts and sessions there are, a counter has no more points than `max_series` combinations."""
    one = charges(1)[0]
    sink = make_sink(max_series=20, signals=["metrics"])
    for start in range(0, 2_000, 500):
        numbers = range(start, start + 500)
        sink.write([dataclasses.replace(one, record_id=f"r{n}", account=f"a{n}", session_id=f"s{n}") for n in numbers])
    assert len(points(receiver, "costmeter.records")) <= 20
    assert total(receiver, "costmeter.records") == 2_000


@pytest.mark.parametrize("signal", ["logs", "metrics"])
def test_one_signal_is_enough(receiver, make_sink, charges, signal):
    """What is not asked for is not sent."""
    make_sink(signals=[signal]).write(charges(2))
    assert {request.path for request in receiver.requests} == {f"/v1/{signal}"}


def test_global_providers_are_left_alone(receiver, make_sink, charges):
    """The process's own OpenTelemetry set-up neither gets these nor is changed."""
    before = (metrics.get_meter_provider(), get_logger_provider())
    make_sink().write(charges(1))
    assert (metrics.get_meter_provider(), get_logger_provider()) == before


def test_limits_of_the_environment_shorten_nothing(receiver, make_sink, charges, monkeypatch):
    """Limits that the process has for its own attributes do not cut a charge."""
    monkeypatch.setenv("OTEL_ATTRIBUTE_COUNT_LIMIT", "3")
    monkeypatch.setenv("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "2")
    many = {f"label-{n}": "long enough" for n in range(200)}
    make_sink().write([dataclasses.replace(charges(1)[0], labels=many)])
    found = attributes(log_records(receiver)[0])
    assert found["costmeter.label.label-199"] == "long enough"


def test_disabled_sdk_is_no_commit(make_sink, charges, monkeypatch):
    """Where the SDK is switched off, nothing is acknowledged."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with pytest.raises(RetryableError, match="OTEL_SDK_DISABLED"):
        make_sink().write(charges(1))


@pytest.mark.parametrize("partial", [False, True])
def test_refused_record_is_found(receiver, make_sink, charges, partial):
    """A 400 and a partial success both end with the one record that is refused, and the collector's reason."""
    on_answer(receiver, refusing("seg-5", partial=partial), LOGS)
    sink = make_sink()
    with pytest.raises(RejectedRecords) as caught:
        sink.write(charges(12))
    assert list(caught.value.rejected) == ["seg-5"]
    assert "odd" in caught.value.rejected["seg-5"]
    assert "\n" not in caught.value.rejected["seg-5"]
    sink.write([charge for charge in charges(12) if charge.record_id != "seg-5"])
    assert total(receiver, "costmeter.records") == 11
    assert {charge.record_id for charge in kept(receiver)} >= {f"seg-{n}" for n in range(12) if n != 5}


def test_refusal_of_everything_names_every_record(receiver, make_sink, charges):
    """A collector that takes nothing at all makes dead letters of all, each with its reason."""
    on_answer(receiver, lambda _request: web.Response(status=400), LOGS)
    with pytest.raises(RejectedRecords) as caught:
        make_sink().write(charges(5))
    assert set(caught.value.rejected) == {f"seg-{n}" for n in range(5)}


def test_too_large_export_is_split(receiver, make_sink, charges):
    """A 413 halves the batch until it fits."""

    def script(request):
        export = ExportLogsServiceRequest.FromString(request.body)
        count = len(export.resource_logs[0].scope_logs[0].log_records)
        return fine(request) if count <= 4 else web.Response(status=413)

    on_answer(receiver, script, LOGS)
    make_sink().write(charges(10))
    assert len(kept(receiver)) == 20


@pytest.mark.parametrize("status", [401, 403, 404, 302, 500, 507])
def test_what_an_operator_mends_is_retryable(receiver, make_sink, charges, status):
    """Rights, a wrong address, a redirect and a broken collector cost no record."""
    on_answer(receiver, lambda _request: web.Response(status=status))
    sink = make_sink()
    for attempt in (sink.check, lambda: sink.write(charges(2))):
        with pytest.raises(RetryableError, match=f"/v1/logs: answers {status}"):
            attempt()
    on_answer(receiver, fine)
    sink.write(charges(2))
    assert len(log_records(receiver)) == 4


@pytest.mark.parametrize("status", [400, 404])
def test_failing_metrics_do_not_repeat_log_records(receiver, make_sink, charges, status):
    """A collector without a pipeline for metrics holds the batch up, and gets its log records no second time."""
    on_answer(receiver, lambda _request: web.Response(status=status), METRICS)
    sink = make_sink()
    for _ in range(3):
        with pytest.raises(RetryableError, match=f"/v1/metrics: answers {status}"):
            sink.write(charges(2))
    on_answer(receiver, fine)
    sink.write(charges(2))
    assert len(log_records(receiver)) == 4
    assert total(receiver, "costmeter.records") == 2


def test_busy_collector_is_asked_again(receiver, make_sink, charges):
    """The exporter of the SDK waits as `Retry-After` says, within `timeout`."""
    left = [503]
    on_answer(
        receiver,
        lambda request: web.Response(status=left.pop(), headers={"Retry-After": "0"}) if left else fine(request),
    )
    make_sink().write(charges(1))
    assert len(log_records(receiver)) == 2


def test_down_at_start_is_retryable(receiver, make_sink, charges):
    """Nobody listens: the batch waits, and goes when somebody does."""
    receiver.stop()
    sink = make_sink(timeout=0.5)
    sink.open()
    for attempt in (sink.check, lambda: sink.write(charges(1))):
        with pytest.raises(RetryableError, match=r"/v1/logs: .*refused|not done"):
            attempt()
    receiver.start()
    sink.write(charges(1))
    assert len(kept(receiver)) == 2


def test_death_in_the_middle_is_retryable(receiver, make_sink, charges):
    """A connection that ends without an answer commits nothing; the batch comes again."""
    on_answer(receiver, receiver.hang_up)
    sink = make_sink(timeout=0.5)
    with pytest.raises(RetryableError):
        sink.write(charges(2))
    on_answer(receiver, fine)
    sink.write(charges(2))
    assert len(kept(receiver)) == 4


def test_hanging_collector_holds_nobody_up(receiver, make_sink, charges):
    """Who never answers is given up after `timeout`, and `close` does not wait for it."""
    for script in (receiver.hang, receiver.drip):
        on_answer(receiver, script)
        sink = make_sink(timeout=0.3)
        with pytest.raises(RetryableError):
            sink.write(charges(1))
        sink.close()
    on_answer(receiver, fine)
    make_sink().write(charges(1))
    assert len(kept(receiver)) == 2


def test_clock_that_steps_back_delays_nothing(receiver, make_sink, charges, monkeypatch):
    """The deadline of a batch does not look at the wall clock, which the SDK's own does."""
    on_answer(receiver, receiver.hang)
    times = iter(range(2_000_000_000, 0, -1_000))
    monkeypatch.setattr("opentelemetry.exporter.otlp.common.http.time.time", lambda: float(next(times)))
    with pytest.raises(RetryableError):
        make_sink(timeout=0.3).write(charges(1))
    monkeypatch.undo()
    on_answer(receiver, fine)
    make_sink().write(charges(1))
    assert len(kept(receiver)) == 2


def test_failures_are_told_once(receiver, make_sink, charges, caplog):
    """The SDK's own lines about our exports are left out: the error says it. Those of other exporters stay."""
    on_answer(receiver, lambda _request: web.Response(status=500))
    with pytest.raises(RetryableError):
        make_sink().write(charges(1))
    assert caplog.text == ""
    logging.getLogger("opentelemetry.exporter.otlp.proto.http._log_exporter").error("somebody else's failure")
    assert "somebody else's failure" in caplog.text


def test_check_says_that_all_is_well(receiver, make_sink):
    """One line, for both signals."""
    assert make_sink().check() == f"{receiver.url}: takes logs and metrics"
    assert {request.path for request in receiver.requests} == {LOGS, METRICS}
    assert log_records(receiver) == []


def test_secrets_are_in_no_message(receiver, make_sink, charges, caplog):
    """The token of a header is in no error, health line, repr or log line."""
    sink = make_sink(headers={"Authorization": f"Bearer {TOKEN}"})
    on_answer(receiver, lambda request: web.Response(status=500, text=request.headers["Authorization"]))
    texts = [repr(sink), repr(sink._options), str(sink._options)]
    for attempt in (sink.check, lambda: sink.write(charges(1))):
        with pytest.raises(SinkError) as caught:
            attempt()
        texts.append(str(caught.value))
    assert receiver.requests[-1].headers["Authorization"] == f"Bearer {TOKEN}"
    assert texts[-1].endswith("answers 500: ***")
    assert not [text for text in (*texts, caplog.text) if TOKEN in text]


@pytest.mark.parametrize(
    "endpoint", ["localhost:4318", f"http://user:{TOKEN}@collector", f"http://c/?key={TOKEN}", f"http://c:{TOKEN}/"]
)
def test_address_is_checked_beforehand(endpoint):
    """What is no address, or holds a secret that the SDK would log, is refused without quoting it."""
    with pytest.raises(ValidationError) as caught:
        OtlpSink.Options(endpoint=endpoint)
    assert TOKEN not in str(caught.value)
