"""Counters in memory: appended in time, once, and for whom they were counted."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from decimal import Decimal

import pytest

from livekit_costmeter.metering.operations.windows import WINDOW, Windows

CALLER = contextvars.ContextVar("caller", default=None)


class Stream:
    """Anything that can be counted."""


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def written():
    return []


@pytest.fixture
def windows(clock, written):
    numbers = iter(range(1000))
    return Windows(
        lambda stream, fields: written.append((stream, CALLER.get(), fields)),
        prefix="stt",
        time_unit="connection_seconds",
        clock=clock,
        monotonic=clock,
        token=lambda: str(next(numbers)),
    )


def test_a_stream_is_one_operation_with_its_total_at_the_end(windows, written, clock):
    """Every increment says which operation it is of; the last one says how much it was in all."""
    stream = Stream()
    windows.opened(stream)
    for _ in range(3):
        clock.now += 2
        windows.pushed(stream, 1.5)
        windows.flush()
    clock.now += 1
    windows.closed(stream)
    fields = [fields for _, _, fields in written]
    assert {one["operation_id"] for one in fields} == {"stt_0"}
    assert [one["quantities"] for one in fields] == [{"audio_seconds": "1.5", "connection_seconds": "2"}] * 3 + [
        {"connection_seconds": "1"}
    ]
    assert [one.get("operation_total") for one in fields[:3]] == [None] * 3
    assert fields[3]["operation_total"] == {"audio_seconds": "4.5", "connection_seconds": "7"}
    assert [(one["started_at"], one["at"]) for one in fields] == [
        (1000, 1002), (1002, 1004), (1004, 1006), (1006, 1007),
    ]  # fmt: skip


def test_a_window_in_which_nothing_happened_is_not_written(windows, written):
    """No time, no audio, no record; not even at the end."""
    stream = Stream()
    windows.opened(stream)
    windows.flush()
    windows.closed(stream)
    assert written == []


def test_to_open_or_to_close_again_changes_nothing(windows, written, clock):
    """A frame may come first, and a close may come from two sides."""
    stream = Stream()
    windows.pushed(stream, 1.0)
    windows.opened(stream)
    clock.now += 1
    windows.closed(stream)
    windows.closed(stream)
    windows.pushed(stream, 5.0)
    windows.flush()
    assert [fields["quantities"] for _, _, fields in written] == [{"audio_seconds": "1", "connection_seconds": "1"}]


def test_a_dropped_stream_is_recorded_by_somebody_else(windows, written, clock):
    """Where a provider says how long it was connected, nothing of ours is added."""
    stream = Stream()
    windows.opened(stream)
    clock.now += 3
    windows.dropped(stream)
    windows.flush()
    windows.closed(stream)
    assert written == []
    assert list(windows.open_windows()) == []


def test_increments_belong_to_who_opened_the_stream(windows, written, clock):
    """Whoever flushes or closes, the context is that of the opener."""
    one, other = Stream(), Stream()
    for stream, caller in ((one, "first"), (other, "second")):
        contextvars.copy_context().run(
            lambda stream=stream, caller=caller: (CALLER.set(caller), windows.opened(stream))
        )
    clock.now += 1
    CALLER.set("somebody else")
    windows.flush()
    clock.now += 1
    windows.closed(other)
    assert [(stream, caller) for stream, caller, _ in written] == [(one, "first"), (other, "second"), (other, "second")]


async def test_an_open_stream_is_appended_before_five_seconds_are_over(windows, written, clock):
    """A kill loses less than five seconds: the timer is armed with each window, and disarmed by the close."""
    assert WINDOW < 5
    stream = Stream()
    windows.opened(stream)
    for _ in range(3):
        window = windows._open[id(stream)]
        armed = window.timer
        assert 0 < armed.when() - asyncio.get_running_loop().time() <= WINDOW
        clock.now += WINDOW
        armed.cancel()
        windows._tick(window)
    assert [fields["quantities"] for _, _, fields in written] == [{"connection_seconds": "4"}] * 3
    last = windows._open[id(stream)].timer
    windows.closed(stream)
    assert last.cancelled()


async def test_a_stream_that_is_gone_is_forgotten_and_stops_its_timer(windows, written, clock):
    """One that never said that it ended leaves neither a window nor a timer behind, nor time to the next of its id."""
    stream = Stream()
    windows.opened(stream)
    window = windows._open[id(stream)]
    window.timer.cancel()
    del stream
    gc.collect()
    clock.now += 9
    windows._tick(window)
    assert windows._open == {}
    assert window.timer.cancelled()
    assert written == []


def test_a_flush_leaves_the_streams_of_other_loops_alone(windows, written, clock):
    """Jobs in threads share a process: a loop's windows are written by that loop only."""
    stream, opened, release = Stream(), threading.Event(), threading.Event()

    async def job():
        windows.opened(stream)
        opened.set()
        await asyncio.to_thread(release.wait)
        windows.closed(stream)

    thread = threading.Thread(target=asyncio.run, args=(job(),))
    thread.start()
    opened.wait()
    clock.now += 2

    async def flush():
        windows.flush()

    asyncio.run(flush())
    assert written == []
    release.set()
    thread.join()
    assert [fields["quantities"] for _, _, fields in written] == [{"connection_seconds": "2"}]


def test_threads_that_open_and_close_streams_lose_none(windows, written, clock):
    """Two loops at once: every stream has its record, and none is left open."""

    async def job():
        for _ in range(200):
            stream = Stream()
            windows.opened(stream)
            windows.pushed(stream, 0.25)
            windows.flush()
            windows.pushed(stream, 0.25)
            windows.closed(stream)

    threads = [threading.Thread(target=asyncio.run, args=(job(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(Decimal(fields["quantities"]["audio_seconds"]) for _, _, fields in written) == 4 * 200 * Decimal("0.5")
    assert windows._open == {}


def test_last_words_are_said_with_the_last_increment_alone(clock, written):
    """What only the whole stream can tell is told at its end."""
    windows = Windows(
        lambda _stream, fields: written.append(fields.get("attributes")),
        prefix="stt",
        time_unit="connection_seconds",
        last_words=lambda _stream, window: {"heard": window.sums["audio_seconds"]},
        clock=clock,
        monotonic=clock,
    )
    stream = Stream()
    windows.opened(stream)
    for _ in range(2):
        clock.now += 1
        windows.pushed(stream, 0.5)
        windows.flush()
    clock.now += 1
    windows.closed(stream)
    assert written == [None, None, {"heard": 1_000_000}]


def test_a_pause_is_not_counted(windows, written, clock):
    """What was counted is appended as the pause begins; ticks in between append nothing."""
    stream = Stream()
    windows.opened(stream)
    clock.now += 3
    for _ in range(2):
        windows.paused(stream, True)
        clock.now += 50
        windows.flush()
    windows.paused(stream, False)
    clock.now += 2
    windows.closed(stream)
    windows.paused(stream, True)
    assert [fields["quantities"] for _, _, fields in written] == [
        {"connection_seconds": "3"},
        {"connection_seconds": "2"},
    ]
    assert written[-1][2]["operation_total"] == {"connection_seconds": "5"}


@pytest.mark.parametrize("aloud", [True, False])
def test_an_end_right_after_an_increment_is_said_where_it_matters(written, clock, aloud):
    """The last increment may be of nothing: it still closes the operation, if ends are to be said aloud."""
    windows = Windows(
        lambda _stream, fields: written.append(fields),
        prefix="call",
        time_unit="call_seconds",
        ends_aloud=aloud,
        clock=clock,
        monotonic=clock,
    )
    stream = Stream()
    operation = windows.opened(stream)
    assert windows.opened(stream) == operation
    clock.now += 3
    windows.flush()
    windows.closed(stream)
    last = {"quantities": {"call_seconds": "0"}, "operation_total": {"call_seconds": "3"}}
    assert [{name: fields.get(name) for name in last} for fields in written[1:]] == [last] * aloud
