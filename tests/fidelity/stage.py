"""
The stage of one case: simulated providers that share a ledger, calls, and a meter whose records are kept.

Invariant: everything that a case opens is closed, and the ledger has settled, before a number is read; LiveKit's
`session.usage` is read after its session has closed, when it can grow no more.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from decimal import Decimal
from typing import Any

from livekit.agents import llm as lk_llm
from livekit.agents.metrics import ModelUsageCollector
from livekit.agents.utils import http_context
from livekit.agents.voice import io

from livekit_costmeter.metering import ContextRules, CostMeter, KeyRing, Privacy
from livekit_costmeter.metering.estimates import Calibration
from livekit_costmeter.pricing.providers import identify
from livekit_costmeter.testing import CallDriver, Ledger, LoopbackProviders, Script

COMPRESSED = 8.0
PATIENCE = 20.0


class Kept:
    """A delivery that keeps every record it is given."""

    def __init__(self):
        self.records: list[dict[str, Any]] = []

    def append(self, members: bytes, more: bytes = b"") -> str:
        """Keep one record."""
        name = f"kept-{len(self.records)}"
        self.records.append({"id": name, **json.loads(b"{" + members + more)})
        return name

    def serve(self) -> None:
        """Ship nothing."""

    async def settle(self) -> None:
        """Hold nothing back."""

    def readback(self):
        """Read back what was kept, as a meter does that audits its sessions."""
        return _Readback(self.records)


class _Readback:
    complete = True

    def __init__(self, records: list[dict[str, Any]]):
        self._records, self._read = records, 0

    def new(self) -> list[bytes]:
        """Return the records since the last call, as JSON."""
        fresh = self._records[self._read :]
        self._read += len(fresh)
        return [json.dumps(record).encode() for record in fresh]


@contextmanager
def metered(learned: Calibration):
    """Tap a meter of its own into LiveKit that estimates by what was learned, and yield what it records."""
    kept = Kept()
    meter = CostMeter(
        delivery=kept,
        identify=identify,
        keys=KeyRing((), secret=lambda: b"a secret of the tests", environ={}),
        rules=ContextRules(),
        privacy=Privacy("masked", secret=lambda: b"a secret of the tests"),
        rate=lambda _record: [],
        calibration=learned,
    )
    meter.tap()
    kept.failures = meter._failures
    try:
        yield kept
    finally:
        meter.taps.remove()


class Muted(io.AudioInput):
    """A microphone that is switched off: it gives no frame at all."""

    def __init__(self):
        super().__init__(label="muted")

    async def __anext__(self):
        """Wait for good."""
        return await asyncio.get_running_loop().create_future()


class Providers(LoopbackProviders):
    """Providers that close the clients they gave out."""

    def __init__(self, script: Script, ledger: Ledger):
        super().__init__(script, ledger=ledger)
        self._clients: list[Any] = []

    def openai_client(self, api_key: str) -> Any:
        """Return a client that asks api.openai.com, is answered here, and does not retry by itself."""
        client = super().openai_client(api_key)
        self._clients.append(client)
        return client.with_options(max_retries=0)

    async def aclose(self) -> None:
        """Close the clients, then the providers."""
        for client in self._clients:
            await client.close()
        await super().aclose()


class _Call(CallDriver):
    def __init__(self, stage, *, muted=False, **options):
        super().__init__(**options)
        self.microphone = Muted() if muted else self.microphone
        self._stage = stage
        speech_to_speech = isinstance(options.get("llm"), lk_llm.RealtimeModel)
        self._heard, self._spoken = "stt" in options or speech_to_speech, "tts" in options or speech_to_speech

    def _connect(self):
        session = super()._connect()
        # A loudspeaker without a voice ends an answer at its first word.
        session.output.audio = session.output.audio if self._spoken else None
        session.input.audio = session.input.audio if self._heard else None
        return session

    async def start(self):
        await super().start()
        self._stage.sessions.append(self.session)


class Stage:
    """What a case plays on."""

    def __init__(self, *, speed: float, monotonic: Callable[[], float] = time.monotonic):
        self.speed = speed
        self.ledger = Ledger()
        self.sessions: list[Any] = []
        self.collector = ModelUsageCollector()
        self._monotonic = monotonic
        self._stack = AsyncExitStack()

    async def providers(self, script: Script | None = None, **scripts: Any) -> LoopbackProviders:
        """Start providers of their own script on this stage's ledger; they close with the stage."""
        return await self._stack.enter_async_context(Providers(script or Script(**scripts), self.ledger))

    def call(self, **options: Any) -> CallDriver:
        """Prepare a call; enter it to begin."""
        return _Call(self, **{"speed": self.speed, **options})

    def listen(self, emitter: Any) -> Any:
        """Have LiveKit's own collector listen to a component that works outside any session, and return it."""
        emitter.on("metrics_collected", self.collector.collect)
        return emitter

    def usage(self) -> list[Any]:
        """Return what LiveKit's collectors have: those of the sessions, and ours where there is none."""
        sessions = [usage for session in self.sessions for usage in session.usage.model_usage]
        return [*sessions, *self.collector.flatten()]

    def seen(self, unit: str, component: str | None = None) -> Decimal:
        """Add up a unit over all operations of the providers, those under way included."""
        under_way = [op for op in self.ledger._open if component in (None, op.component)]
        ended = self.ledger.total(unit=unit, component=component)
        return ended + sum((op.quantities.get(unit, Decimal(0)) for op in under_way), Decimal(0))

    async def until(self, reached: Callable[[], bool], what: str = "the providers") -> None:
        """Wait until something has come to pass.

        Raises:
            TimeoutError: It has not, for longer than any case should take.
        """
        ends = self._monotonic() + PATIENCE
        while not reached():
            if self._monotonic() > ends:
                raise TimeoutError(f"waited in vain for {what}")
            await asyncio.sleep(0.002)

    async def until_seen(self, unit: str, amount: float, component: str | None = None) -> None:
        """Wait until the providers have done that much, work under way included."""
        await self.until(lambda: self.seen(unit, component) >= amount, f"{amount} {unit}")

    async def until_idle(self) -> None:
        """Wait until the providers have nothing under way."""
        await self.ledger.settled(timeout=PATIENCE)


@asynccontextmanager
async def staged(*, speed: float = COMPRESSED) -> AsyncIterator[Stage]:
    """Open a stage, and close everything on it; at `speed`, that many seconds of a call take one."""
    stage = Stage(speed=speed)
    async with stage._stack:
        await stage._stack.enter_async_context(http_context.open())
        yield stage
    await stage.ledger.settled(timeout=PATIENCE)
