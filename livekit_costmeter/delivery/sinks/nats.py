"""
The NATS sink: one JetStream message per charge.

The body is the charge's JSON. Headers: `Nats-Msg-Id` is `<record_id>:<line>`, the record id percent-encoded where it
holds anything but letters, digits and `_.-~`. The stream is made by the first write, where it is missing and `create`
allows it.

Invariant: returning from `write` means that the server has acknowledged every message as stored. JetStream itself drops
a message whose id it has seen within the stream's `duplicate_window`, also from another writer and after a restart of
the server; later than that, a repeat is a second message with the same id. Rows are published in order; a record is
whole when `write` has returned, not before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nats.errors
from nats.aio.client import Client
from nats.js.api import StorageType, StreamConfig
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from livekit_costmeter.delivery.sinks import RejectedRecords, RetryableError, SinkError
from livekit_costmeter.delivery.sinks.addresses import Address
from livekit_costmeter.delivery.sinks.private_loop import PrivateLoop, plain_reason
from livekit_costmeter.records import Charge, charge_json

_IN_FLIGHT = 500
_MESSAGE_TOO_LARGE = 10054
_NAME_IN_USE = 10058
_RETRY_AT_ONCE = 0.05
"""Seconds between the attempts on one server; waiting is the courier's work."""


class _Connection:
    """One connection to the server; what it hears beside the answers ends the wait for them."""

    def __init__(self) -> None:
        self.client: Any = Client()
        self.stream: Any = None
        self.heard: Exception | None = None
        self.is_new = True
        self._lost: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    async def connect(self, urls: list[str], options: NatsSink.Options) -> None:
        """Connect once; trying again is the courier's work."""
        await self.client.connect(
            urls,
            name="livekit-costmeter",
            error_cb=self._hear,
            closed_cb=self._hear,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=_RETRY_AT_ONCE,
            connect_timeout=options.timeout,
            user_credentials=str(options.credentials) if options.credentials else None,
        )
        self.heard = None
        self.stream = self.client.jetstream(timeout=options.timeout)

    async def _hear(self, error: Exception | None = None) -> None:
        self.heard = error or self.heard or nats.errors.ConnectionClosedError()
        if not self._lost.done():
            self._lost.set_result(self.heard)

    async def answer(self, wanted: Awaitable[Any]) -> Any:
        """Wait for an answer, or raise what was heard: missing rights are told beside it, and it never comes."""
        waiting = asyncio.ensure_future(wanted)
        await asyncio.wait({waiting, self._lost}, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
        waiting.cancel()
        raise self._lost.result()


class NatsSink:
    """Publish charges to a JetStream stream."""

    class Options(BaseModel):
        """Where the stream is, and how it is made if it is missing.

        `url` may hold a user and password or a token, and may be several, separated by commas; `tls://` encrypts;
        `credentials` is a `.creds` file. With `create`, a missing `stream` is made for `subject`, on disk, with
        `replicas` copies, keeping messages for `max_age` seconds (for ever without it) and refusing repeats for
        `duplicate_window` seconds: the server keeps each id in memory that long. `timeout` in seconds is for one batch.
        """

        model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
        url: SecretStr
        credentials: Path | None = None
        stream: str = Field(default="COSTMETER", pattern=r"^[^\s.*>/\\]+$")
        subject: str = Field(default="costmeter.charges", pattern=r"^[^\s.*>]+(\.[^\s.*>]+)*$")
        create: bool = True
        replicas: int = Field(default=1, ge=1, le=5)
        max_age: float | None = Field(default=None, gt=0)
        duplicate_window: float = Field(default=86_400, gt=0)
        timeout: float = Field(default=10, gt=0)

    def __init__(self, options: Options) -> None:
        self._options = options
        self._address = Address(options.url.get_secret_value())
        self._loop: PrivateLoop | None = None
        self._connection: _Connection | None = None

    def open(self) -> None:
        """Connect."""
        self._run(self._connected)

    def write(self, charges: Sequence[Charge]) -> None:
        """Publish the rows and wait until each is acknowledged.

        Raises:
            RejectedRecords: Rows that are larger than the server or the stream takes.
            RetryableError: Anything else, also a missing stream, rights or room.
        """
        if charges:
            self._run(lambda: self._write(charges))

    def check(self) -> str:
        """Connect and look at the stream; neither makes it nor writes."""
        was_open = self._loop is not None
        try:
            return f"{self._address.shown}: {self._run(self._look)}"
        finally:
            if not was_open:
                self.close()

    def close(self) -> None:
        """Disconnect; idempotent."""
        self._let_go(wait=True)

    def _let_go(self, *, wait: bool) -> None:
        loop, self._loop = self._loop, None
        connection, self._connection = self._connection, None
        if loop is not None:
            loop.stop(connection.client.close if connection is not None else None, wait=wait)

    def _run(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        if self._loop is None:
            self._loop = PrivateLoop("costmeter-nats")
        try:
            return self._loop.run(work, self._options.timeout)
        except RejectedRecords:
            raise
        except Exception as error:
            failure = self._failure(error)
        self._let_go(wait=False)  # the time for this is up
        raise failure

    def _failure(self, error: Exception) -> SinkError:
        kind = type(error) if isinstance(error, SinkError) else RetryableError
        return kind(self._address.conceal(f"{self._address.shown}: {self._reason(error)}"))

    def _reason(self, error: Exception) -> str:
        if isinstance(error, (nats.errors.NoServersError, TimeoutError)):
            # These only say that it did not work; what was heard meanwhile says why.
            error = (self._connection and self._connection.heard) or error
        if isinstance(error, APIError):
            return f"{error.description} ({error.err_code})"
        if isinstance(error, TimeoutError):
            return f"no answer within {self._options.timeout:g} s"
        return plain_reason(error).removeprefix("nats: ").strip("'")

    async def _connected(self) -> _Connection:
        if self._connection is None or not self._connection.client.is_connected:
            self._connection = _Connection()
            await self._connection.connect(self._address.urls, self._options)
        return self._connection

    async def _write(self, charges: Sequence[Charge]) -> None:
        outcomes = await self._publish(charges)
        if self._options.create and any(isinstance(outcome, NoStreamResponseError) for outcome in outcomes):
            await self._make_stream()
            outcomes = await self._publish(charges)
        failures = [(charge, one) for charge, one in zip(charges, outcomes, strict=True) if isinstance(one, Exception)]
        for _, failure in failures:
            if isinstance(failure, NoStreamResponseError):
                raise RetryableError(f"no stream takes {self._options.subject}")
            if not _is_refusal(failure):
                raise failure
        if failures:
            raise RejectedRecords({charge.record_id: self._reason(failure) for charge, failure in failures})

    async def _publish(self, charges: Sequence[Charge]) -> list[Any]:
        connection = await self._connected()
        outcomes: list[Any] = []
        # A connection's first request subscribes to the answers, and others could overtake it meanwhile.
        start, end = 0, 1 if connection.is_new else _IN_FLIGHT
        while start < len(charges):
            acks = [self._acknowledged(connection, charge) for charge in charges[start:end]]
            outcomes += await connection.answer(asyncio.gather(*acks, return_exceptions=True))
            connection.is_new = False
            start, end = end, end + _IN_FLIGHT
        return outcomes

    async def _acknowledged(self, connection: _Connection, charge: Charge) -> None:
        # Not publish_async: with nats-py 2.16, what it returns never ends when the server answers with an error.
        await connection.stream.publish(
            self._options.subject,
            charge_json(charge),
            timeout=self._options.timeout,
            stream=self._options.stream,
            headers={"Nats-Msg-Id": f"{quote(charge.record_id, safe='')}:{charge.line}"},
        )

    async def _make_stream(self) -> None:
        options = self._options
        window = min(options.duplicate_window, options.max_age or options.duplicate_window)
        config = StreamConfig(
            name=options.stream,
            description="Charges of livekit-costmeter, one per message",
            subjects=[options.subject],
            storage=StorageType.FILE,
            num_replicas=options.replicas,
            max_age=options.max_age,
            duplicate_window=window,
        )
        try:
            connection = await self._connected()
            await connection.answer(connection.stream.add_stream(config))
        except APIError as error:
            if error.err_code != _NAME_IN_USE:  # somebody else has made it meanwhile, in their own way
                raise

    async def _look(self) -> str:
        name = self._options.stream
        connection = await self._connected()
        try:
            info = await connection.answer(connection.stream.stream_info(name))
        except NotFoundError:
            if not self._options.create:
                raise RetryableError(f"there is no stream {name}, and `create` is off") from None
            return f"stream {name} is not there yet, the first write makes it"
        if not any(_covers(pattern, self._options.subject) for pattern in info.config.subjects or ()):
            raise RetryableError(f"stream {name} does not take {self._options.subject}")
        if info.config.sealed or info.config.no_ack:
            raise RetryableError(f"stream {name} {'is sealed' if info.config.sealed else 'acknowledges nothing'}")
        window = timedelta(seconds=info.config.duplicate_window)
        return f"stream {name}: {info.state.messages} messages, repeats are dropped for {window}"


def _is_refusal(failure: Exception) -> bool:
    too_large = isinstance(failure, APIError) and failure.err_code == _MESSAGE_TOO_LARGE
    return too_large or isinstance(failure, nats.errors.MaxPayloadError)


def _covers(pattern: str, subject: str) -> bool:
    wanted = pattern.split(".")
    given = subject.split(".")
    if wanted[-1] == ">":
        wanted, given = wanted[:-1], given[: len(wanted) - 1]
    return len(wanted) == len(given) and all(want in ("*", have) for want, have in zip(wanted, given, strict=True))
