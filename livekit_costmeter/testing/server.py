"""
The loopback providers: all vendors simulated on one free port of 127.0.0.1, with one ledger.

Invariant: nothing leaves this machine, and when the server is closed no task and no socket of it is left.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Handler

from livekit_costmeter.testing.ledger import Dropped, Ledger
from livekit_costmeter.testing.script import Script
from livekit_costmeter.testing.vendors.anthropic import Anthropic
from livekit_costmeter.testing.vendors.assemblyai import AssemblyAI
from livekit_costmeter.testing.vendors.cartesia import Cartesia
from livekit_costmeter.testing.vendors.cartesia_stt import CartesiaRecognition
from livekit_costmeter.testing.vendors.deepgram import Deepgram
from livekit_costmeter.testing.vendors.elevenlabs import ElevenLabs
from livekit_costmeter.testing.vendors.inference import GatewayChat, GatewayRecognition, GatewayVoices
from livekit_costmeter.testing.vendors.openai import OpenAIChat
from livekit_costmeter.testing.vendors.openai_audio import OpenAIAudio
from livekit_costmeter.testing.vendors.openai_realtime import OpenAIRealtime
from livekit_costmeter.testing.vendors.openai_responses import OpenAIResponses

_HOST = "127.0.0.1"


class LoopbackProviders:
    """Serves the simulated vendors while its block runs.

    Example:
        ```python
        async with LoopbackProviders() as providers:
            llm = openai.LLM(model="gpt-4o-mini", base_url=providers.openai_url, api_key="key-a")
            ...
            providers.ledger.total(component="llm", unit="input_tokens", key="key-a")
        ```
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        ledger: Ledger | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.script = script or Script()
        self.ledger = ledger or Ledger()
        self._monotonic = monotonic
        self._handlers: set[asyncio.Task[object]] = set()
        self._runner: web.AppRunner | None = None
        self._http_session: aiohttp.ClientSession | None = None
        self._root = ""

    @property
    def openai_url(self) -> str:
        """The `base_url` for the OpenAI plugin, its `responses.LLM` included."""
        return f"{self._root}/openai/v1"

    @property
    def realtime_url(self) -> str:
        """The `base_url` for `openai.realtime.RealtimeModel`."""
        return f"{self.openai_url}/realtime"

    @property
    def inference_url(self) -> str:
        """The `base_url` for `livekit.agents.inference`."""
        return f"{self._root}/inference/v1"

    def openai_client(self, api_key: str) -> Any:
        """Return a client for the OpenAI plugin (`client=`) that asks api.openai.com and is answered here.

        So the plugin reports OpenAI as its provider, and prices are OpenAI's. The caller closes the client.
        """
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        port = int(self._root.rpartition(":")[2])

        async def redirect(request: Any) -> None:
            request.url = request.url.copy_with(scheme="http", host=_HOST, port=port, path=f"/openai{request.url.path}")

        http_client = DefaultAsyncHttpxClient(event_hooks={"request": [redirect]})
        return AsyncOpenAI(api_key=api_key, base_url="https://api.openai.com/v1", http_client=http_client)

    @property
    def deepgram_url(self) -> str:
        """The `base_url` for `deepgram.STT`."""
        return f"{self._root}/deepgram/v1/listen"

    @property
    def deepgram_flux_url(self) -> str:
        """The `base_url` for `deepgram.STTv2`."""
        return f"{self._root}/deepgram/v2/listen"

    @property
    def cartesia_url(self) -> str:
        """The `base_url` for the Cartesia plugin."""
        return f"{self._root}/cartesia"

    @property
    def anthropic_url(self) -> str:
        """The `base_url` for the Anthropic plugin."""
        return f"{self._root}/anthropic"

    @property
    def elevenlabs_url(self) -> str:
        """The `base_url` for `elevenlabs.TTS`."""
        return f"{self._root}/elevenlabs/v1"

    @property
    def assemblyai_url(self) -> str:
        """The `base_url` for `assemblyai.STT`."""
        return f"{self._root}/assemblyai"

    @property
    def http_session(self) -> aiohttp.ClientSession:
        """A client session to hand to plugins outside a job; closed with the server."""
        assert self._http_session is not None, "the providers are not running"
        return self._http_session

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Listen on a free port."""
        app = web.Application(middlewares=[self._supervise], client_max_size=64 * 2**20)
        app.add_routes(self._routes())
        app.on_shutdown.append(self._end_handlers)
        # Cancelled handlers notice a client's leaving at once, also while they stall.
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, _HOST, 0)
        await site.start()
        self._root = f"http://{_HOST}:{self._runner.addresses[0][1]}"
        self._http_session = aiohttp.ClientSession()

    async def aclose(self) -> None:
        """End every connection and stop listening; idempotent."""
        if self._http_session is not None:
            await self._http_session.close()
        if self._runner is not None:
            await self._runner.cleanup()

    def _routes(self) -> list[web.RouteDef]:
        script, ledger = self.script, self.ledger
        return [
            *OpenAIChat(ledger, script.chat).routes("/openai/v1"),
            *OpenAIResponses(ledger, script.responses).routes("/openai/v1"),
            *OpenAIRealtime(ledger, script.realtime, monotonic=self._monotonic).routes("/openai/v1"),
            *OpenAIAudio(ledger, script.speech, script.transcription).routes("/openai/v1"),
            *Deepgram(ledger, script.deepgram, monotonic=self._monotonic).routes("/deepgram"),
            *Cartesia(ledger, script.cartesia).routes("/cartesia"),
            *CartesiaRecognition(ledger, script.cartesia_stt, monotonic=self._monotonic).routes("/cartesia"),
            *Anthropic(ledger, script.anthropic).routes("/anthropic"),
            *ElevenLabs(ledger, script.elevenlabs).routes("/elevenlabs/v1"),
            *AssemblyAI(ledger, script.assemblyai, monotonic=self._monotonic).routes("/assemblyai"),
            *GatewayChat(ledger, script.inference_llm).routes("/inference/v1"),
            *GatewayRecognition(ledger, script.inference_stt, monotonic=self._monotonic).routes("/inference/v1"),
            *GatewayVoices(ledger, script.inference_tts).routes("/inference/v1"),
        ]

    @web.middleware
    async def _supervise(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            return await handler(request)
        except Dropped:
            if request.transport is not None:
                request.transport.close()
            return web.Response()
        finally:
            self._handlers.discard(task)

    async def _end_handlers(self, _app: web.Application) -> None:
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)
