"""
Counters that only memory knows: audio pushed, and time connected, per stream or session.

Invariant: what is counted is appended at most five seconds after it happened, and once more at the end, with the
operation's total; increments add up to the total exactly.
"""

from __future__ import annotations

import asyncio
import contextvars
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet, ref

from livekit_costmeter.metering.readers import Fields, seconds_text

WINDOW = 4.0
"""Seconds between increments: with a busy loop's delay on top, a kill still loses less than five."""
Append = Callable[[Any, Fields], None]


@dataclass(slots=True)
class Window:
    """What is counted of one stream since its last increment, and its sums (in microseconds)."""

    stream: ref[Any]
    context: contextvars.Context
    loop: asyncio.AbstractEventLoop | None
    operation_id: str
    window_from: float
    window_at: float
    audio: float = 0.0
    has_tokens: bool = False
    is_paused: bool = False
    timer: asyncio.TimerHandle | None = None
    sums: dict[str, int] = field(default_factory=dict)


class Windows:
    """Counts every open stream of one kind."""

    def __init__(
        self,
        append: Append,
        *,
        prefix: str,
        time_unit: str,
        context: Callable[[], contextvars.Context] = contextvars.copy_context,
        last_words: Callable[[Any, Window], dict[str, Any] | None] = lambda _stream, _window: None,
        ends_aloud: bool = False,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        token: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._append = append
        self._prefix = prefix
        self._time_unit = time_unit
        # Whether an end is recorded even if nothing was counted since the last increment.
        self._spoken_unit = time_unit if ends_aloud else None
        self._context = context
        self._last_words = last_words
        self._clock = clock
        self._monotonic = monotonic
        self._token = token
        self._open: dict[int, Window] = {}
        self._closed: WeakSet[Any] = WeakSet()

    def opened(self, stream: Any) -> str:
        """Start to count a stream; its first window ends `WINDOW` seconds from now. Return its operation's id."""
        key = id(stream)
        if (known := self._open.get(key)) is not None:
            # A frame came first: it is the stream's own task that knows whose it is, and has a loop.
            known.context = self._context()
            if known.loop is None:
                known.loop = _running_loop()
                self._schedule(known)
            return known.operation_id
        window = Window(
            # One that is closed before its task has run never says that it ended, and its id is given out again.
            ref(stream, lambda _: self._open.pop(key, None)),
            # Whoever flushes, the record belongs to the session whose task opened the stream.
            self._context(),
            _running_loop(),
            f"{self._prefix}_{self._token()}",
            self._monotonic(),
            self._clock(),
        )
        self._open[key] = window
        self._schedule(window)
        return window.operation_id

    def pushed(self, stream: Any, seconds: float) -> None:
        """Count audio; a frame may come before the stream's task has run, and after it has ended."""
        window = self._open.get(id(stream))
        if window is None:
            if stream in self._closed:
                return
            self.opened(stream)
            window = self._open[id(stream)]
        window.audio += seconds

    def paused(self, stream: Any, is_paused: bool) -> None:
        """Count no time of an open stream until it goes on; what was counted before is appended at once."""
        window = self._open.get(id(stream))
        if window is not None and window.is_paused != is_paused:
            self._flush(window, last=False)
            window.is_paused = is_paused

    def open_windows(self) -> Iterator[tuple[Any, Window]]:
        """Yield every open stream with its window."""
        for window in list(self._open.values()):
            if (stream := window.stream()) is not None:
                yield stream, window

    def closed(self, stream: Any, outcome: str = "completed") -> None:
        """Append what is left, with the operation's totals, and forget the stream."""
        window = self._open.pop(id(stream), None)
        self._closed.add(stream)
        if window is not None:
            if window.timer is not None:
                window.timer.cancel()
            self._flush(window, last=True, outcome=outcome)

    def dropped(self, stream: Any) -> None:
        """Count a stream no longer, and append nothing more of it."""
        window = self._open.pop(id(stream), None)
        self._closed.add(stream)
        if window is not None and window.timer is not None:
            window.timer.cancel()

    def flush(self) -> None:
        """Append what every open stream of this loop has counted so far; those of other threads go on counting."""
        loop = _running_loop()
        for window in list(self._open.values()):
            if window.loop is loop:
                self._flush(window, last=False)

    def _schedule(self, window: Window) -> None:
        if window.loop is not None:
            # A copy of the running task's context would keep alive all that the task knows of.
            window.timer = window.loop.call_later(WINDOW, self._tick, window, context=contextvars.Context())

    def _tick(self, window: Window) -> None:
        self._flush(window, last=False)
        if window.stream() is not None:
            self._schedule(window)

    def _flush(self, window: Window, *, last: bool, outcome: str = "completed") -> None:
        stream, now, wall = window.stream(), self._monotonic(), self._clock()
        elapsed = 0.0 if window.is_paused else now - window.window_from
        seconds = {"audio_seconds": window.audio, self._time_unit: elapsed}
        # In the microseconds that are written, so that increments add up to the total exactly.
        counts = {unit: round(amount * 1e6) for unit, amount in seconds.items()}
        spoken = self._spoken_unit if last else None
        quantities = {unit: seconds_text(count / 1e6) for unit, count in counts.items() if count or unit == spoken}
        for unit, count in counts.items():
            window.sums[unit] = window.sums.get(unit, 0) + count
        window.audio, window.window_from = 0.0, now
        started_at, window.window_at = window.window_at, wall
        if stream is None or not quantities:
            return
        fields: Fields = {
            "at": wall,
            "started_at": started_at,
            "outcome": outcome,
            "quantities": quantities,
            "basis": dict.fromkeys(quantities, "observed"),
            "operation_id": window.operation_id,
        }
        if last:
            fields["operation_total"] = {
                unit: seconds_text(n / 1e6) for unit, n in window.sums.items() if n or unit == spoken
            }
            if (words := self._last_words(stream, window)) is not None:
                fields["attributes"] = words
        window.context.run(self._append, stream, fields)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None  # audio pushed from a thread without one: counted, and appended when the stream ends
