"""
Audio on its way to streaming speech-to-text: seconds really pushed, and seconds connected, per stream.

Invariant: what only these counters know is appended at most five seconds after it happened, and once more when the
stream ends, with the operation's total. Plugins' own figures for such streams are not used: some add idle time.
"""

from __future__ import annotations

import asyncio
import contextvars
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet, ref

from livekit_costmeter.metering.hooks.internals import component_of, tokens_under_way
from livekit_costmeter.metering.readers import Reading, seconds_text

UNREPORTED = {"tokens": "unreported"}
"""Marks the last increment of a stream without one token: where tokens are what is billed, its price is unknown."""
WINDOW = 4.0
"""Seconds between increments: with a busy loop's delay on top, a kill still loses less than five."""
Append = Callable[[Any, Reading, dict[str, str] | None], None]
"""(stream, reading, operation total on the last increment)."""


@dataclass(slots=True)
class _Counter:
    stream: ref[Any]
    context: contextvars.Context
    loop: asyncio.AbstractEventLoop | None
    operation_id: str
    window_from: float
    window_at: float
    audio: float = 0.0
    has_tokens: bool = False
    timer: asyncio.TimerHandle | None = None
    sums: dict[str, int] = field(default_factory=dict)


class StreamMeter:
    """Counts every open recognition stream of the process."""

    def __init__(
        self,
        append: Append,
        *,
        context: Callable[[], contextvars.Context] = contextvars.copy_context,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        token: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._append = append
        self._context = context
        self._clock = clock
        self._monotonic = monotonic
        self._token = token
        self._open: dict[int, _Counter] = {}
        self._closed: WeakSet[Any] = WeakSet()

    def opened(self, stream: Any) -> None:
        """Start to count a stream; its first window ends `WINDOW` seconds from now."""
        key = id(stream)
        if key in self._open:
            return
        counter = _Counter(
            # One that is closed before its task has run never says that it ended, and its id is given out again.
            ref(stream, lambda _: self._open.pop(key, None)),
            # Whoever flushes, the record belongs to the session whose task opened the stream.
            self._context(),
            _running_loop(),
            f"stt_{self._token()}",
            self._monotonic(),
            self._clock(),
        )
        self._open[key] = counter
        self._schedule(counter)

    def pushed(self, stream: Any, seconds: float) -> None:
        """Count audio; a frame may come before the stream's task has run, and after it has ended."""
        counter = self._open.get(id(stream))
        if counter is None:
            if stream in self._closed:
                return
            self.opened(stream)
            counter = self._open[id(stream)]
        counter.audio += seconds

    def transcribed(self, component: Any) -> None:
        """Note that a provider said what it bills: tokens, with a transcript of one of the component's streams."""
        for counter in list(self._open.values()):
            stream = counter.stream()
            if stream is not None and component_of(stream) is component:
                counter.has_tokens = True

    def closed(self, stream: Any) -> None:
        """Append what is left, with the operation's totals, and forget the stream."""
        counter = self._open.pop(id(stream), None)
        self._closed.add(stream)
        if counter is not None:
            if counter.timer is not None:
                counter.timer.cancel()
            self._flush(counter, last=True)

    def flush(self) -> None:
        """Append what every open stream of this loop has counted so far; those of other threads go on counting."""
        loop = _running_loop()
        for counter in list(self._open.values()):
            if counter.loop is loop:
                self._flush(counter, last=False)

    def _schedule(self, counter: _Counter) -> None:
        if counter.loop is not None:
            counter.timer = counter.loop.call_later(WINDOW, self._tick, counter)

    def _tick(self, counter: _Counter) -> None:
        self._flush(counter, last=False)
        if counter.stream() is not None:
            self._schedule(counter)

    def _flush(self, counter: _Counter, *, last: bool) -> None:
        stream, now, wall = counter.stream(), self._monotonic(), self._clock()
        seconds = {"audio_seconds": counter.audio, "connection_seconds": now - counter.window_from}
        # In the microseconds that are written, so that increments add up to the total exactly.
        counts = {unit: round(amount * 1e6) for unit, amount in seconds.items()}
        quantities = {unit: seconds_text(count / 1e6) for unit, count in counts.items() if count}
        for unit, count in counts.items():
            counter.sums[unit] = counter.sums.get(unit, 0) + count
        counter.audio, counter.window_from = 0.0, now
        started_at, counter.window_at = counter.window_at, wall
        if stream is None or not quantities:
            return
        basis = dict.fromkeys(quantities, "observed")
        total = {unit: seconds_text(count / 1e6) for unit, count in counter.sums.items() if count} if last else None
        silent = last and not counter.has_tokens and counter.sums["audio_seconds"] and not tokens_under_way(stream)
        reading = Reading(
            "stt",
            quantities,
            basis,
            counter.operation_id,
            wall,
            wall - started_at,
            complete=False,
            attributes=UNREPORTED if silent else None,
        )
        counter.context.run(self._append, stream, reading, total)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None  # audio pushed from a thread without one: counted, and appended when the stream ends
