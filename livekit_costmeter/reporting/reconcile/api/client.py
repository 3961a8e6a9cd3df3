"""
One question over HTTP, and the answer to it.

Invariant: an answer is whole or there is none; it is read up to a bound, redirects are not followed, so that a key
goes to one address only, and cookies are not kept.
"""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp
from yarl import URL

from livekit_costmeter.reporting.reconcile.api.reports import Answer, LastingError, PassingError
from livekit_costmeter.reporting.reconcile.reading.documents import LARGEST_DOCUMENT

_BLOCK = 1 << 16


class HttpClient:
    """A client of aiohttp; made where an event loop runs."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, seconds: float
    ) -> Answer:
        """See `Client`."""
        timeout = aiohttp.ClientTimeout(total=seconds)
        # The address is encoded already, and goes out as it is.
        asked = self._session.request(
            method, URL(url, encoded=True), headers=headers, data=body, timeout=timeout, allow_redirects=False
        )
        try:
            async with asked as response:
                text = await _body(response)
                return Answer(response.status, response.content_type, response.headers.get("Retry-After"), text)
        except TimeoutError:
            raise PassingError(f"no answer within {seconds:.0f} s") from None
        except aiohttp.ClientPayloadError:
            raise PassingError("the answer broke off") from None
        except aiohttp.ServerDisconnectedError:
            raise PassingError("the connection was closed") from None
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError):
            raise LastingError("its certificate is not trusted, or it speaks no TLS") from None
        except aiohttp.ClientConnectorError as error:
            raise PassingError(error.os_error.strerror or "cannot connect") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # The text of these may quote headers.
            raise PassingError(type(error).__name__) from None

    async def close(self) -> None:
        """See `Client`."""
        await self._session.close()


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for block in response.content.iter_chunked(_BLOCK):
        body += block
        if len(body) > LARGEST_DOCUMENT:
            raise LastingError("answers a page of more than 16 MiB; fetch fewer days at a time")
    return bytes(body)
