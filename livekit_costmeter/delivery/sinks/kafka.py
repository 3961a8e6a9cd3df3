"""
The Kafka sink: one message per charge.

The value is the charge's JSON, the key its record id; headers `record_id` and `line` as UTF-8. All rows of a record are
in one partition, in order.

Invariant: returning from `write` means that all in-sync replicas have every message (`acks=all`, idempotent producer:
a retry inside the client doubles and reorders nothing). A batch that is sent again, after a failure or by another
process, sends messages again, less those that are known to be there. Kafka keeps both, so a consumer takes the first of
each (`record_id`, `line`). The topic must not be compacted: compaction keeps one row per record.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from pydantic import BaseModel, ConfigDict, Field, field_validator

from livekit_costmeter.delivery.sinks import RejectedRecords, RetryableError, SinkError
from livekit_costmeter.delivery.sinks.addresses import Secrets
from livekit_costmeter.records import Charge, charge_json

Key = tuple[str, int]
_OURS = frozenset(
    {"bootstrap.servers", "metadata.broker.list", "enable.idempotence", "acks", "request.required.acks"}
    | {"error_cb", "on_delivery", "delivery.timeout.ms", "message.timeout.ms"}
)
_SECRET = re.compile(r"password|secret|key|token|jaas|oauthbearer\.config", re.IGNORECASE)
_REFUSALS = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD})
_HOPELESS = frozenset({KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError._FATAL})  # noqa: SLF001 - public names
_ALL_DOWN = KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001 - a public name
_STEP = 0.1
_GOODBYE = 1.0


class KafkaSink:
    """Produce charges to a Kafka topic."""

    class Options(BaseModel):
        """Where the topic is, and what else librdkafka has to know.

        `brokers` is `host:port`, several separated by commas. `config` is handed to librdkafka as it is, for example
        `security.protocol: SASL_SSL`, `sasl.mechanisms`, `sasl.username`, `sasl.password`. The topic is made by
        whoever runs the brokers, or by them on first use. `timeout` in seconds is for one batch.
        """

        model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
        brokers: str = Field(min_length=1)
        topic: str = Field(default="costmeter.charges", pattern="^[A-Za-z0-9._-]+$", max_length=249)
        config: dict[str, str | int | float | bool] = Field(default_factory=dict, repr=False)
        timeout: float = Field(default=10, gt=0)

        @field_validator("config")
        @classmethod
        def _leave_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
            if taken := sorted(_OURS & value.keys()):
                raise ValueError(f"{', '.join(taken)}: set by the sink itself")
            return value

    def __init__(self, options: Options, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._options = options
        self._monotonic = monotonic
        self._secrets = Secrets(str(value) for name, value in options.config.items() if _SECRET.search(name))
        self._producer: Any = None
        self._heard: KafkaError | None = None
        self._stored: set[Key] = set()

    def open(self) -> None:
        """Set up the producer; it connects by itself, and says in `write` if it cannot."""
        if self._producer is not None:
            return
        self._heard = None
        settings: dict[str, Any] = {"log_level": 0, "client.id": "livekit-costmeter", **self._options.config}
        settings |= {
            "bootstrap.servers": self._options.brokers,
            "enable.idempotence": True,
            "message.timeout.ms": max(1, int(self._options.timeout * 1000)),
            "error_cb": self._hear,
        }
        try:
            self._producer = Producer(settings)
        except (KafkaException, TypeError, ValueError) as error:
            raise self._failure(SinkError, _text(error)) from None

    def write(self, charges: Sequence[Charge]) -> None:
        """Produce the rows and wait until each is reported as stored.

        Raises:
            RejectedRecords: Rows that are too large, or that the broker refuses one by one.
            RetryableError: Anything else, also a missing topic or missing rights.
        """
        deadline = self._monotonic() + self._options.timeout
        self._heard = None
        self.open()
        rows = {(charge.record_id, charge.line): charge for charge in reversed(charges)}
        rest = [(key, rows[key]) for key in reversed(rows) if key not in self._stored]
        refused = self._send(rest, deadline)
        if len(refused) > 1:
            # A broker refuses a whole request for one message of it, so each has to be asked for on its own.
            refused = {
                key: why for row in rest if row[0] in refused for key, why in self._send([row], deadline).items()
            }
        if refused:
            raise RejectedRecords(
                {record_id: self._secrets.conceal(why.str()) for (record_id, _), why in refused.items()}
            )
        self._stored.clear()

    def _send(self, rows: Sequence[tuple[Key, Charge]], deadline: float) -> dict[Key, KafkaError]:
        """Produce rows and await their reports; return those that were refused.

        Raises:
            RetryableError: Not all could be sent, for another reason; `_stored` has those that were.
        """
        failed: dict[Key, KafkaError] = {}
        try:
            for key, charge in rows:
                self._produce(key, charge, failed, deadline)
            while self._producer.flush(_STEP) and not self._is_over(deadline):
                continue
        except KafkaException as error:
            self._let_go(wait=False)
            raise self._failure(RetryableError, _text(error)) from None
        missing = [key for key, _ in rows if key not in self._stored and key not in failed]
        others = [why for why in failed.values() if why.code() not in _REFUSALS]
        if missing or others:
            self._let_go(wait=False)  # the time for this is up
            raise self._failure(RetryableError, self._reason(others[0] if others else None))
        return failed

    def _produce(self, key: Key, charge: Charge, failed: dict[Key, KafkaError], deadline: float) -> None:
        while not self._is_over(deadline):
            try:
                self._producer.produce(
                    self._options.topic,
                    key=charge.record_id.encode(),
                    value=charge_json(charge),
                    headers=[("record_id", charge.record_id.encode()), ("line", str(charge.line).encode())],
                    on_delivery=partial(self._report, key, failed),
                )
            except BufferError:
                self._producer.poll(_STEP)
            except KafkaException as error:
                if error.args[0].code() not in _REFUSALS:
                    raise
                failed[key] = error.args[0]
                return
            else:
                return

    def _is_over(self, deadline: float) -> bool:
        return self._monotonic() >= deadline or (self._heard is not None and self._heard.code() in _HOPELESS)

    def _report(self, key: Key, failed: dict[Key, KafkaError], error: KafkaError | None, _message: Any) -> None:
        if error is None:
            self._stored.add(key)
        else:
            failed[key] = error

    def _hear(self, error: KafkaError) -> None:
        # The first that goes wrong says why; that all brokers are down only follows from it.
        if self._heard is None or error.code() in _HOPELESS or self._heard.code() == _ALL_DOWN:
            self._heard = error

    def _reason(self, error: KafkaError | None) -> str:
        if self._heard is not None and (error is None or error.code() == KafkaError._MSG_TIMED_OUT):  # noqa: SLF001
            return str(self._heard.str())
        return str(error.str()) if error is not None else f"no answer within {self._options.timeout:g} s"

    def _failure(self, kind: type[SinkError], reason: str) -> SinkError:
        return kind(self._secrets.conceal(f"kafka {self._options.brokers}: {reason}"))

    def check(self) -> str:
        """Ask the brokers for the topic."""
        was_open = self._producer is not None
        self.open()
        topic = self._options.topic
        try:
            found = self._producer.list_topics(topic, timeout=self._options.timeout)
            self._producer.poll(0)
        except KafkaException as error:
            self._producer.poll(0)
            raise self._failure(RetryableError, self._reason(None) if self._heard else _text(error)) from None
        finally:
            if not was_open:
                self.close()
        if found.topics[topic].error is not None:
            raise self._failure(RetryableError, f"topic {topic}: {found.topics[topic].error.str()}")
        partitions = len(found.topics[topic].partitions)
        return (
            f"kafka {self._options.brokers}: topic {topic} with {partitions} partitions on {len(found.brokers)} brokers"
        )

    def close(self) -> None:
        """Drop the producer and what it has not sent; idempotent."""
        self._let_go(wait=True)

    def _let_go(self, *, wait: bool) -> None:
        # Taking a producer down waits for its own threads, so a thread does it that keeps nobody.
        producers = [self._producer] if self._producer is not None else []
        self._producer = None
        if producers:
            thread = threading.Thread(target=_take_down, args=(producers,), name="costmeter-kafka-close", daemon=True)
            thread.start()
            thread.join(_GOODBYE if wait else 0)


def _take_down(producers: list[Any]) -> None:
    producers[0].purge(blocking=False)
    producers[0].poll(0)
    producers.clear()


def _text(error: Exception) -> str:
    first = error.args[0] if error.args else error
    return str(first.str() if isinstance(first, KafkaError) else first)
