"""
The Redis sink: one stream entry per charge.

Fields of an entry: `record_id`, `line`, `charge` (the charge's JSON). The ids are Redis' own (`*`): ids made from the
charge would have to grow, and a row that comes late would be refused as too old. Which lines of a record are in the
stream stands beside it, in the set `{<stream>}:lines:<record_id>`, which expires `remember` seconds after the record
was last written to.

Invariant: an entry and its mark in the set are added by one script, which Redis runs whole or not at all; all rows of a
record are in one call. The entry goes first, so that a refused entry leaves no mark. Redis keeps what its persistence
keeps: with `appendfsync always` everything, with `everysec` all but the last second before a power cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError

from livekit_costmeter.delivery.sinks import RetryableError, SinkError
from livekit_costmeter.delivery.sinks.addresses import Address
from livekit_costmeter.delivery.sinks.private_loop import PrivateLoop, plain_reason
from livekit_costmeter.records import Charge, charge_json

_ROWS_PER_CALL = 200
"""While a script runs, Redis serves nobody else: this many rows take about a millisecond."""
_ADD = """
for i = 3, #ARGV, 4 do
  local known, record, line, charge = KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  if redis.call('SISMEMBER', known, line) == 0 then
    redis.call('XADD', KEYS[1], '*', 'record_id', record, 'line', line, 'charge', charge)
    redis.call('SADD', known, line)
    redis.call('PEXPIRE', known, ARGV[1])
  end
end
if ARGV[2] ~= '' then redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', ARGV[2]) end
"""


class RedisSink:
    """Append charges to a Redis stream."""

    class Options(BaseModel):
        """Where the stream is and how long it is.

        `url` is `redis://[user:password@]host:port/db`, `rediss://` with TLS or `unix://path`. The stream is cut to
        about `maxlen` entries, never without it. A repeat is known for `remember` seconds, 30 days by default, at
        about 100 bytes of memory per record. `timeout` in seconds is for one batch.
        """

        model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
        url: SecretStr
        stream: str = Field(default="costmeter:charges", min_length=1, pattern=r"^[^{}]+$")
        maxlen: int | None = Field(default=None, ge=1)
        remember: float = Field(default=30 * 86_400, gt=0)
        timeout: float = Field(default=10, gt=0)

    def __init__(self, options: Options) -> None:
        self._options = options
        self._address = Address(options.url.get_secret_value())
        self._loop: PrivateLoop | None = None
        self._client: Any = None
        self._add: Any = None

    def open(self) -> None:
        """Connect."""
        self._run(self._ping)

    def write(self, charges: Sequence[Charge]) -> None:
        """Append the rows that are new.

        Raises:
            RetryableError: Redis is away, full, read-only, or refuses the user or the key.
        """
        if charges:
            self._run(lambda: self._write(charges))

    def check(self) -> str:
        """Connect, look at the stream, and at what Redis would throw away."""
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
        client, self._client = self._client, None
        if loop is not None:
            loop.stop(client.aclose if client is not None else None, wait=wait)

    def _run(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        if self._loop is None:
            self._loop = PrivateLoop("costmeter-redis")
        try:
            return self._loop.run(work, self._options.timeout)
        except Exception as error:
            failure = self._failure(error)
        self._let_go(wait=False)  # the time for this is up
        raise failure

    def _failure(self, error: Exception) -> SinkError:
        silent = isinstance(error, TimeoutError | asyncio.CancelledError)
        reason = f"no answer within {self._options.timeout:g} s" if silent else plain_reason(error)
        return RetryableError(self._address.conceal(f"{self._address.shown}: {reason}"))

    async def _connected(self) -> Any:
        if self._client is None:
            # One more try, for a connection that was closed while nothing was written; a repeat is harmless.
            retry = Retry(NoBackoff(), 1)
            self._client = Redis.from_url(self._options.url.get_secret_value(), retry=retry)
            self._add = self._client.register_script(_ADD)
        return self._client

    async def _ping(self) -> None:
        await (await self._connected()).ping()

    async def _write(self, charges: Sequence[Charge]) -> None:
        client = await self._connected()
        for part in _parts(charges):
            await self._add(*self._call(part), client=client)

    def _call(self, charges: Sequence[Charge]) -> tuple[list[str], list[Any]]:
        """Return the keys and the arguments of one run of the script."""
        stream = self._options.stream
        keys = {stream: 1}
        arguments: list[Any] = [max(1, int(self._options.remember * 1000)), self._options.maxlen or ""]
        for charge in charges:
            # In braces, so that a cluster keeps the sets where the stream is.
            known = keys.setdefault(f"{{{stream}}}:lines:{charge.record_id}", len(keys) + 1)
            arguments += (known, charge.record_id, charge.line, charge_json(charge))
        return list(keys), arguments

    async def _look(self) -> str:
        client = await self._connected()
        stream = self._options.stream
        kind = (await client.type(stream)).decode()
        if kind not in ("stream", "none"):
            raise RetryableError(f"{stream} is no stream but a {kind}")
        entries = await client.xlen(stream)
        state: dict[str, Any] = {}
        with suppress(NoPermissionError):  # a user who may only write is a good user
            state = await client.info("everything")
        if state.get("maxmemory") and state.get("maxmemory_policy") != "noeviction":
            raise RetryableError(f"maxmemory-policy {state['maxmemory_policy']} throws rows away, set noeviction")
        unsafe = "" if state.get("aof_enabled", 1) else "; appendonly is off: a crash of Redis loses the newest rows"
        return f"{entries} entries in {stream}{unsafe}"


def _parts(charges: Sequence[Charge]) -> Iterator[list[Charge]]:
    part: list[Charge] = []
    for _, rows in groupby(charges, key=lambda charge: charge.record_id):
        part += rows
        if len(part) >= _ROWS_PER_CALL:
            yield part
            part = []
    if part:
        yield part
