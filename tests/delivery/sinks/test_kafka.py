"""The Kafka sink, against librdkafka's mock cluster in a process of its own: the real protocol, a broker in memory."""

import dataclasses
import itertools
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from livekit_costmeter.delivery.sinks import RejectedRecords, RetryableError, SinkError, find_sink
from livekit_costmeter.delivery.sinks.kafka import KafkaSink
from livekit_costmeter.records import charge_json, parse_charge
from livekit_costmeter.testing.contract import check_sink

PASSWORD = "correct-horse-battery"


class Broker:
    """The mock cluster, by its pipe."""

    def __init__(self):
        child = Path(__file__).parent / "children" / "kafka_broker.py"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([sys.executable, child], text=True, **pipes)
        self.address = self.process.stdout.readline().strip()

    def tell(self, *words):
        print(*words, file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "ok\n"

    @contextmanager
    def hanging(self):
        os.kill(self.process.pid, signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)  # its threads stop one by one
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)

    @contextmanager
    def down(self):
        self.tell("down")
        try:
            yield
        finally:
            self.tell("up")

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture(scope="session")
def broker():
    """Run a cluster of one broker."""
    running = Broker()
    yield running
    running.kill()


@pytest.fixture
def topic(broker):
    """Make an empty topic."""
    name = f"charges-{secrets.token_hex(4)}"
    broker.tell("topic", name)
    broker.tell("errors")
    return name


@pytest.fixture
def make_sink(broker, topic):
    """Make sinks on the same topic, closed at the end."""
    made = []

    def make(**options):
        made.append(
            KafkaSink(KafkaSink.Options(**{"brokers": broker.address, "topic": topic, "timeout": 5, **options}))
        )
        return made[-1]

    yield make
    for sink in made:
        sink.close()


@pytest.fixture
def messages(broker, topic):
    """Consume everything that is in the topic, partition by partition."""

    def consume():
        found = []
        consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "reader", "fetch.wait.max.ms": 10})
        for number in consumer.list_topics(topic, timeout=5).topics[topic].partitions:
            place = TopicPartition(topic, number, 0)
            first, end = consumer.get_watermark_offsets(place, timeout=5)
            consumer.assign([place])
            while first < end:
                for message in consumer.consume(min(500, end - first), timeout=5):
                    assert message.error() is None
                    found.append(message)
                    first = message.offset() + 1
        consumer.close()
        return found

    return consume


@pytest.fixture
def stored(messages):
    """Read as the README tells consumers to: the first of each row."""

    def read(_=None):
        rows = {}
        for message in messages():
            header = dict(message.headers())
            rows.setdefault((header["record_id"], header["line"]), parse_charge(message.value()))
        return list(rows.values())

    return read


def keys(charges):
    return [(charge.record_id, charge.line) for charge in charges]


def test_kafka_keeps_the_contract(make_sink, stored):
    """A consumer that takes the first of each row has each once, equal in every field."""
    assert find_sink("kafka") is KafkaSink
    check_sink(make_sink, stored)


def test_message_names_its_row_and_has_the_bytes_of_every_sink(make_sink, messages, charges):
    """The key is the record's, so that its rows stay together; the headers say which row it is."""
    rows = [dataclasses.replace(row, record_id="a b:1\né") for row in charges(1)]
    make_sink().write(rows)
    found = messages()
    assert [message.value() for message in found] == [charge_json(row) for row in rows]
    assert {message.key() for message in found} == {"a b:1\né".encode()}
    assert [dict(message.headers()) for message in found] == [
        {"record_id": "a b:1\né".encode(), "line": b"0"},
        {"record_id": "a b:1\né".encode(), "line": b"1"},
    ]


def test_rows_of_a_record_are_in_one_partition_in_order(make_sink, messages, charges):
    """Whoever reads a partition sees records whole and in the order in which they were written."""
    make_sink().write([dataclasses.replace(row, record_id=f"r{n // 2}") for n, row in enumerate(charges(50))])
    found = messages()
    partitions = {}
    for message in found:
        partitions.setdefault(message.key(), set()).add(message.partition())
    assert all(len(used) == 1 for used in partitions.values())
    assert len({message.partition() for message in found}) > 1
    for number in range(4):
        order = [(int(m.key()[1:]), dict(m.headers())["line"]) for m in found if m.partition() == number]
        assert order == sorted(order)


def test_two_writers_at_once_lose_nothing(make_sink, stored, charges):
    """Two shippers with the same rows: a consumer has each once."""
    rows = charges(40)
    threads = [threading.Thread(target=make_sink().write, args=(rows[start:],)) for start in (0, 20, 40, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(keys(stored())) == sorted(keys(rows))


def test_brokers_that_are_down_are_retryable(make_sink, broker, stored, charges):
    """Rows wait while no broker is there, and arrive when one is back."""
    sink = make_sink(timeout=1.5)
    sink.write(charges(2))
    with broker.down():
        for attempt in (lambda: sink.write(charges(4)), lambda: make_sink(timeout=1.5).write(charges(4)), sink.check):
            with pytest.raises(RetryableError, match=r"^kafka 127.0.0.1:\d+: .*(refused|Disconnected|closed)"):
                attempt()
    retried(lambda: sink.write(charges(4)))
    assert keys(by_row(stored())) == keys(charges(4))


def retried(attempt, times=20):
    for _ in range(times - 1):
        try:
            return attempt()
        except RetryableError:
            time.sleep(0.1)
    return attempt()


def by_row(rows):
    return sorted(rows, key=lambda row: (row.record_id, row.line))


def test_broker_that_dies_in_the_middle_has_every_row_in_the_end(make_sink, broker, stored, charges):
    """What was on its way when the broker went is sent again."""
    wanted = [dataclasses.replace(row, record_id=f"r{n // 2}") for n, row in enumerate(charges(50) * 40)]
    sink = make_sink(timeout=3)
    sink.write(wanted[:100])
    failures, begun = [], threading.Event()

    def write():
        begun.set()
        try:
            for start in itertools.cycle(range(0, len(wanted), 500)):
                sink.write(wanted[start : start + 500])
        except RetryableError as error:
            failures.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    begun.wait()
    with broker.down():
        thread.join()
    assert failures
    for start in range(0, len(wanted), 500):
        retried(lambda start=start: sink.write(wanted[start : start + 500]))
    assert sorted(keys(stored())) == sorted(keys(wanted))


def test_broker_that_hangs_holds_nobody_up(make_sink, broker, stored, charges):
    """A write ends after `timeout`, a close at once; afterwards the rows arrive."""
    sink, fresh = make_sink(timeout=1.5), make_sink(timeout=1.5)
    sink.write(charges(1))
    with broker.hanging():
        for attempt in (lambda: sink.write(charges(3)), lambda: fresh.write(charges(3)), fresh.check):
            started = time.monotonic()
            with pytest.raises(RetryableError, match=r"no answer within 1\.5 s|timed out|transport failure"):
                attempt()
            assert time.monotonic() - started < 2.5
        fresh.open()
        started = time.monotonic()
        fresh.close()
        sink.close()
        assert time.monotonic() - started < 2.5
    retried(lambda: sink.write(charges(3)))
    assert keys(by_row(stored())) == keys(charges(3))


def test_record_that_is_too_large_is_refused_alone(make_sink, stored, charges):
    """A row over the limit names its record, and the others are there."""
    rows = charges(3)
    rows[2] = dataclasses.replace(rows[2], room="r" * 5000)
    sink = make_sink(config={"message.max.bytes": 4000})
    with pytest.raises(RejectedRecords, match="too large") as caught:
        sink.write(rows)
    assert set(caught.value.rejected) == {"seg-1"}
    sink.write([row for row in rows if row.record_id != "seg-1"])
    assert set(keys(stored())) >= {("seg-0", 0), ("seg-0", 1), ("seg-2", 0), ("seg-2", 1)}


@pytest.mark.parametrize("code", [KafkaError.INVALID_RECORD, KafkaError.MSG_SIZE_TOO_LARGE])
def test_record_that_the_broker_refuses_is_found_among_the_others(make_sink, broker, messages, charges, code):
    """A broker refuses a whole request for one message of it; only that record is given up."""
    sink = make_sink()
    sink.write(charges(1))
    rows = [dataclasses.replace(row, record_id="seg-9") for row in charges(2)]
    rows = [dataclasses.replace(row, line=line) for line, row in enumerate(rows)]
    broker.tell("errors", code, 0, code, 0)
    with pytest.raises(RejectedRecords) as caught:
        sink.write(rows)
    assert set(caught.value.rejected) == {"seg-9"}
    broker.tell("errors", code)
    sink.write([dataclasses.replace(row, record_id="seg-8") for row in rows])
    assert sorted(m.value() for m in messages() if m.key() == b"seg-8") == sorted(
        charge_json(dataclasses.replace(row, record_id="seg-8")) for row in rows
    )


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "Topic authorization failed"),
        (KafkaError.CLUSTER_AUTHORIZATION_FAILED, "Cluster authorization failed"),
        (KafkaError.INVALID_TIMESTAMP, "Invalid timestamp"),
        (KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT, "Message format"),
    ],
)
def test_broker_that_refuses_everything_is_retryable(make_sink, broker, stored, charges, code, said):
    """Missing rights, or a clock that is far off, are the operator's to mend: no row is given up."""
    sink = make_sink(timeout=2)
    sink.write(charges(1))
    broker.tell("errors", *[code] * 4)
    with pytest.raises(RetryableError, match=said):
        sink.write(charges(3))
    retried(lambda: sink.write(charges(3)))
    assert keys(by_row(stored())) == keys(charges(3))


def test_full_disk_of_the_broker_delays_rows(make_sink, broker, stored, charges):
    """A broker that cannot store is asked again until the time is up; then the batch waits."""
    sink = make_sink(timeout=1.5)
    sink.write(charges(1))
    broker.tell("errors", *[56] * 60)  # KAFKA_STORAGE_ERROR
    with pytest.raises(RetryableError):
        sink.write(charges(3))
    broker.tell("errors")
    retried(lambda: sink.write(charges(3)), times=60)
    assert keys(by_row(stored())) == keys(charges(3))


def test_rows_known_to_be_there_are_not_sent_again(make_sink, broker, messages, charges):
    """When a batch comes again after a part of it was refused, the other part is not doubled."""
    sink = make_sink(config={"message.max.bytes": 4000})
    rows = charges(2)
    large = dataclasses.replace(rows[0], record_id="large", room="r" * 5000)
    with pytest.raises(RejectedRecords):
        sink.write([*rows, large])
    sink.write(rows)
    assert len(messages()) == 4


def test_wrong_authentication_is_said_without_waiting_and_without_the_secret(make_sink, charges):
    """Credentials that the broker does not take are told at once."""
    config = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanisms": "PLAIN",
        "sasl.username": "meter",
        "sasl.password": PASSWORD,
    }
    sink = make_sink(config=config, timeout=60)
    with pytest.raises(RetryableError, match="SASL") as caught:
        sink.write(charges(1))
    assert PASSWORD not in str(caught.value)
    with pytest.raises(RetryableError, match="SASL"):
        make_sink(config=config, timeout=1).check()


def test_check_names_the_topic(make_sink, topic):
    """One line says what is there."""
    assert make_sink().check().endswith(f"topic {topic} with 4 partitions on 1 brokers")


def test_setting_that_does_not_exist_is_said(make_sink):
    """A mistake in `config` is named, without the values around it."""
    sink = make_sink(config={"sasl.passwort": PASSWORD})
    for attempt in (sink.open, sink.check):
        with pytest.raises(SinkError, match=r"No such configuration property.*sasl\.passwort") as caught:
            attempt()
        assert PASSWORD not in str(caught.value)


def test_settings_that_keep_the_promise_cannot_be_changed():
    """What makes a write safe is not up to `config`."""
    with pytest.raises(ValueError, match=r"acks, enable\.idempotence: set by the sink"):
        KafkaSink.Options(brokers="127.0.0.1:1", config={"acks": 0, "enable.idempotence": False})


def test_options_keep_their_secret():
    """Neither the options nor the sink nor a refused option show the password."""
    options = KafkaSink.Options(brokers="127.0.0.1:1", config={"sasl.password": PASSWORD})
    for text in (repr(options), str(options), repr(KafkaSink(options)), str(vars(KafkaSink(options)))):
        assert PASSWORD not in text
    with pytest.raises(ValueError, match="Extra inputs") as caught:
        KafkaSink.Options(brokers="127.0.0.1:1", pasword=PASSWORD)
    assert PASSWORD not in str(caught.value)
