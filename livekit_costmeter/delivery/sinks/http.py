'''
The HTTP sink: charges as batches of CloudEvents 1.0 to any address that takes a POST.

    POST <url>
    Content-Type: application/cloudevents-batch+json
    Content-Encoding: gzip
    Idempotency-Key: <SHA-256 of the JSON, hexadecimal>
    Costmeter-Signature: t=<seconds since 1970>,v1=<HMAC-SHA256, hexadecimal>

    [{"specversion": "1.0", "type": "dev.livekit-costmeter.charge.v1", "source": "/livekit-costmeter/<project>",
      "id": "<record_id>:<line>", "subject": "<account>", "time": "<at>", "datacontenttype": "application/json",
      "data": {<the charge>}}, ...]

`source` and `id` together are unique: a receiver that keeps the first event of each counts nothing twice. `subject` is
missing where the account is not known. With a `secret`, the signature is made with it over `<t>.<JSON>`, the JSON being
the body before gzip, so that it can be verified behind a proxy that unpacks. A receiver verifies it so:

    def verify(header: str, body: bytes, secret: str, now: float, tolerance: float = 300) -> bool:
        """Tell whether `body`, unpacked, was signed with the secret within the last minutes."""
        parts = dict(part.split("=", 1) for part in header.split(","))
        expected = hmac.new(secret.encode(), parts["t"].encode() + b"." + body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(expected, parts["v1"]) and abs(now - int(parts["t"])) <= tolerance

What the answer means: 2xx, the batch is committed. 413, or 4xx that speaks of the content: the batch is halved until
the refused records are known, these go to the dead letters. 429 and 503 with `Retry-After`: the same request again
after it, if that is within `timeout`. Anything else, an operator mends: it is tried again later. Redirects are not
followed, because a signed batch is for one address.

Invariant: returning from `write` means that every row was in a request that was answered with 2xx.
'''

from __future__ import annotations

import gzip
import hashlib
import hmac
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_core import to_json

from livekit_costmeter.delivery.sinks import RetryableError
from livekit_costmeter.delivery.sinks.addresses import Secrets
from livekit_costmeter.delivery.sinks.halving import Refused, send_in_halves
from livekit_costmeter.delivery.sinks.private_loop import PrivateLoop, plain_reason
from livekit_costmeter.records import Charge, charge_json, format_instant

EVENT_TYPE = "dev.livekit-costmeter.charge.v1"
CONTENT_TYPE = "application/cloudevents-batch+json"

_COMMITTED = range(200, 300)
_REDIRECT = range(300, 400)
_REFUSED = range(400, 500)
_OF_THE_ENDPOINT = frozenset(
    {401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 415, 421, 423, 424, 425, 426, 428, 429, 431}
)
"""Answers of 4xx that are not about what was sent, but about how and where: rights, address, quota, time."""
_QUOTED = 200
_SHORTEST_WAIT = 0.1


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the status, how the answer begins, and how long it asks to wait."""

    status: int
    text: str
    retry_after: str | None


class HttpSink:
    """Post charges as signed batches of CloudEvents."""

    class Options(BaseModel):
        """Where to post, and how.

        `url` may hold what is secret; messages show its host alone. `secret` signs each request; `headers` are added
        (`{Authorization: "Bearer ..."}`). `gzip: false` sends plain JSON. `source` is the beginning of the events'
        `source`, before the project. A request has about `batch_events` events. `ca_file` is a PEM file of the
        authority that signed the server's certificate. `timeout` in seconds is for one batch, splitting and waiting
        included.
        """

        model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
        url: SecretStr
        secret: SecretStr | None = Field(default=None, min_length=8)
        headers: dict[str, SecretStr] = {}
        gzip: bool = True
        source: str = Field(default="/livekit-costmeter", pattern=r"^\S+$")
        batch_events: int = Field(default=500, ge=1)
        ca_file: Path | None = None
        timeout: float = Field(default=10, gt=0)

        @field_validator("url")
        @classmethod
        def _web_address(cls, url: SecretStr) -> SecretStr:
            if not _is_web_address(url.get_secret_value()):
                raise ValueError("expected an address that begins with https:// or http://")
            return url

    def __init__(
        self,
        options: Options,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._options = options
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._url = options.url.get_secret_value()
        parts = urlsplit(self._url)
        self._shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self._secrets = Secrets(_secrets(options))
        self._loop: PrivateLoop | None = None
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Get ready to connect; the first request does."""
        if self._loop is None:
            self._loop = PrivateLoop("costmeter-http")

    def write(self, charges: Sequence[Charge]) -> None:
        """Post the rows, in as many requests as the receiver makes necessary.

        Raises:
            RejectedRecords: The receiver refuses these records, each on its own.
            RetryableError: Anything else, also a wrong address or missing rights.
        """
        deadline = self._monotonic() + self._options.timeout
        send_in_halves(charges, lambda piece: self._send(piece, deadline), most=self._options.batch_events)

    def check(self) -> str:
        """Post an empty batch, which is signed like any other."""
        was_open = self._loop is not None
        try:
            self._send([], self._monotonic() + self._options.timeout)
        except Refused as error:
            return f"{error}, which may be because the batch was an empty one; it is there and lets us in"
        finally:
            if not was_open:
                self.close()
        return f"{self._shown}: takes batches"

    def close(self) -> None:
        """Disconnect; idempotent."""
        loop, self._loop = self._loop, None
        session, self._session = self._session, None
        if loop is not None:
            loop.stop(session.close if session is not None else None)

    def _send(self, charges: Sequence[Charge], deadline: float) -> None:
        body = b"[" + b",".join(_event(charge, self._options.source) for charge in charges) + b"]"
        answer = self._post(body, deadline)
        while (wait := self._wait(answer)) is not None and self._monotonic() + wait < deadline:
            self._sleep(wait)
            answer = self._post(body, deadline)
        self._judge(answer)

    def _wait(self, answer: Answer) -> float | None:
        if answer.status not in (429, 503) or answer.retry_after is None:
            return None
        seconds = _seconds(answer.retry_after, self._clock())
        return None if seconds is None else max(seconds, _SHORTEST_WAIT)

    def _judge(self, answer: Answer) -> None:
        status = answer.status
        if status in _COMMITTED:
            return
        reason = self._secrets.conceal(answer.text)[:_QUOTED]
        message = f"{self._shown}: answers {status}" + (f": {reason}" if reason else "")
        if status in _REDIRECT:
            raise RetryableError(f"{self._shown}: answers {status}, a redirect, and those are not followed")
        if status in _REFUSED and status not in _OF_THE_ENDPOINT:
            raise Refused(message)
        raise RetryableError(message)

    def _post(self, body: bytes, deadline: float) -> Answer:
        remaining = deadline - self._monotonic()
        if remaining <= 0:
            raise self._late()
        self.open()
        assert self._loop is not None
        try:
            return self._loop.run(lambda: self._exchange(body, remaining), remaining + 0.1)
        except TimeoutError:
            self._give_up()
            raise self._late() from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise RetryableError(f"{self._shown}: {self._secrets.conceal(plain_reason(error))}") from None

    def _late(self) -> RetryableError:
        return RetryableError(f"{self._shown}: not done within {self._options.timeout:g} s")

    def _give_up(self) -> None:
        # Not closed in order: what hangs there must not hold up the next attempt, which connects anew.
        loop, self._loop = self._loop, None
        session, self._session = self._session, None
        if loop is not None:
            loop.stop(session.close if session is not None else None, wait=False)

    async def _exchange(self, body: bytes, remaining: float) -> Answer:
        if self._session is None:
            self._session = _session(self._options.ca_file)
        request: dict[str, Any] = {
            "data": gzip.compress(body, mtime=0) if self._options.gzip else body,
            "headers": self._headers(body),
            "timeout": aiohttp.ClientTimeout(total=remaining),
            "allow_redirects": False,
        }
        try:
            return await _answer(self._session, self._url, request)
        except aiohttp.ServerDisconnectedError:
            # It had closed the connection that was kept from the last batch: that says nothing about this one.
            return await _answer(self._session, self._url, request)

    def _headers(self, body: bytes) -> dict[str, str]:
        headers = {name: value.get_secret_value() for name, value in self._options.headers.items()}
        headers |= {"Content-Type": CONTENT_TYPE, "Idempotency-Key": hashlib.sha256(body).hexdigest()}
        if self._options.gzip:
            headers["Content-Encoding"] = "gzip"
        if self._options.secret is not None:
            headers["Costmeter-Signature"] = _signature(self._options.secret, body, int(self._clock()))
        return headers


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # its text may quote a password that stands where a port is expected
        return False


def _event(charge: Charge, source: str) -> bytes:
    envelope = {
        "specversion": "1.0",
        "type": EVENT_TYPE,
        "source": f"{source}/{quote(charge.project, safe='')}" if charge.project else source,
        "id": f"{charge.record_id}:{charge.line}",
        **({"subject": charge.account} if charge.account else {}),
        "time": format_instant(charge.at),
        "datacontenttype": "application/json",
    }
    # The charge keeps the bytes that it has in every other sink.
    return to_json(envelope)[:-1] + b',"data":' + charge_json(charge) + b"}"


def _signature(secret: SecretStr, body: bytes, now: int) -> str:
    key = secret.get_secret_value().encode()
    return f"t={now},v1={hmac.new(key, b'%d.' % now + body, hashlib.sha256).hexdigest()}"


def _session(ca_file: Path | None) -> aiohttp.ClientSession:
    context = ssl.create_default_context(cafile=ca_file) if ca_file else True
    # One connection is enough for one thread, and cookies are none of a receiver's business.
    connector = aiohttp.TCPConnector(ssl=context, limit=1, resolver=aiohttp.ThreadedResolver())
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


async def _answer(session: aiohttp.ClientSession, url: str, request: dict[str, Any]) -> Answer:
    async with session.post(url, **request) as response:
        text = (await response.content.read(4 * _QUOTED)).decode(errors="replace")
        return Answer(response.status, text, response.headers.get("Retry-After"))


def _seconds(retry_after: str, now: float) -> float | None:
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        return parsedate_to_datetime(retry_after).timestamp() - now
    except ValueError:
        return None


def _secrets(options: HttpSink.Options) -> list[str]:
    parts = urlsplit(options.url.get_secret_value())
    in_url = [*parts.netloc.rpartition("@")[0].split(":"), parts.path.strip("/"), parts.query]
    headers = [value.get_secret_value() for value in options.headers.values()]
    in_headers = [part for text in headers for part in (text, *text.split()[-1:])]
    own = [options.secret.get_secret_value()] if options.secret else []
    return [text for text in (*own, *in_headers, *in_url) if text]
