"""The meter changes nothing: whoever misbehaves does so in the same way at the same time, metered or not."""

from __future__ import annotations

import asyncio
import weakref
from functools import partial

import pytest
from livekit.agents import llm, stt

from livekit_costmeter.metering.hooks.internals import METRICS_EVENT, RAW_EVENT
from tests.metering.hostile import components, streams
from tests.metering.hostile.sessions import Session
from tests.metering.hostile.streams import KINDS, PATIENT, SOUND, WORDS, Answer, Hangs, Plugin, Speech
from tests.metering.hostile.watch import watch

FORESEEN = (streams.HasItsOwnChannel, streams.RefusesAttributes, streams.CannotBeHashed, streams.MissesNothing)
"""Where the meter sees less, and has an error of its own to hide."""
MISBEHAVIOURS = [Plugin, *Plugin.__subclasses__()]
named = partial(pytest.mark.parametrize, ids=lambda value: getattr(value, "__name__", str(value)))


def life_of(stream_type, *mixins, way="used", component_mixins=()):
    """Return a script: open a stream, feed it, read it, close it more often than once, and feed it again."""
    kind = type("Component", (*component_mixins, KINDS[stream_type]), {})

    async def script(seen, made):
        component = kind(type("Stream", (*mixins, stream_type), {}))
        component.on("error", lambda event: seen.tell(f"error {event.recoverable}", event.error))
        component.on(METRICS_EVENT, lambda event: seen.tell("metrics", what_of(event)))
        stream = component.open()
        made(weakref.ref(stream))
        if way != "closed at once":
            feed(stream, seen)
            await read(stream, seen)
        for _ in range(2 if way != "left open" else 0):
            both = await asyncio.gather(stream.aclose(), stream.aclose(), return_exceptions=True)
            seen.tell("closed", [repr(one) for one in both])
            seen.tell("attributes", sorted(vars(stream).keys() - {"_livekit_costmeter"}))
            seen.tell("its channel's", sorted(getattr(stream._event_ch, "__dict__", ())))
            feed(stream, seen)
        await asyncio.sleep(0.5)

    return script


def what_of(event):
    return event.model_dump(include={"type", "request_id", "cancelled", "characters_count", "audio_duration"})


def feed(stream, seen):
    for name, *args in stream.feeding:
        try:
            getattr(stream, name)(*args)
        except Exception as error:
            seen.tell(name, error)


async def read(stream, seen):
    try:
        async with asyncio.timeout(1.5):
            async for item in stream:
                seen.tell("read", type(item).__name__)
        seen.tell("read all")
    except BaseException as error:
        seen.tell("reader", error)


@named("way", ["used", "closed at once", "left open"])
@named("misbehaviour", MISBEHAVIOURS)
@named("stream_type", KINDS)
def test_a_stream_lives_as_without_the_meter(make_meter, stream_type, misbehaviour, way):
    """What it says, raises, logs and leaves, when, in which tasks, and when it is gone: all of it is the same."""
    script = life_of(stream_type, misbehaviour, way=way)
    plain = watch(script)
    meter = make_meter()
    assert watch(script) == plain
    assert plain.told
    assert meter._failures == {} or misbehaviour in FORESEEN
    assert meter.emitting == set()


@named("misbehaviour", [Plugin, streams.RaisesLate, Hangs])
@named("component", components.MISBEHAVIOURS)
@named("stream_type", KINDS)
def test_a_component_works_as_without_the_meter(make_meter, stream_type, component, misbehaviour):
    """Whatever its own `emit`, its listeners and its properties do: LiveKit gets it all, and no more than that."""
    script = watched_opening(life_of(stream_type, misbehaviour, component_mixins=(component,)))
    plain = watch(script)
    make_meter()
    assert watch(script) == plain
    assert plain.told


def watched_opening(script):
    async def opening(seen, made):
        try:
            await script(seen, made)
        except ValueError as error:
            seen.tell("opened", error)

    return opening


class Recognizer(stt.STT):
    """Recognises in one request, which lasts as long as `work`."""

    def __init__(self):
        super().__init__(capabilities=stt.STTCapabilities(streaming=False, interim_results=False))

    async def _recognize_impl(self, *_, **__):
        await self.work(lambda: None)
        return WORDS


@named("way", ["used", "left open", "without audio"])
@named(
    "misbehaviour",
    [kind for kind in MISBEHAVIOURS if "work" in vars(kind) and "_event_ch" not in kind.work.__code__.co_names],
)
def test_a_request_to_recognise_ends_as_without_the_meter(make_meter, misbehaviour, way):
    """It returns, raises, is cancelled or is left behind by its loop, and nothing of ours is heard of it."""

    async def script(seen, made):
        recognizer = type("Recognizer", (misbehaviour, Recognizer), {})()
        recognizer.on("error", lambda event: seen.tell(f"error {event.recoverable}", event.error))
        made(weakref.ref(recognizer))
        request = recognizer.recognize([] if way == "without audio" else SOUND, conn_options=PATIENT)
        task = asyncio.create_task(request, name="request")
        await asyncio.wait([task], timeout=0.3 if way == "left open" else 2)
        if way != "left open":
            task.cancel()
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
            seen.tell("recognised", outcome if isinstance(outcome, BaseException) else outcome.type.value)
        seen.tell("request", task.done())

    plain = watch(script)
    make_meter()
    assert watch(script) == plain


MESSAGES = (None, {}, {"type": 3}, {"type": "response.created"}, {"type": "response.done", "response": {"usage": []}})


@named("kind", [Session, *Session.__subclasses__()])
def test_a_realtime_session_lives_as_without_the_meter(make_meter, kind):
    """However it closes, how often, and whatever its provider says before and after: it is the plugin's own affair."""

    async def script(seen, made):
        try:
            session = kind(llm.RealtimeModel)
        except ValueError as error:
            return seen.tell("opened", error)
        made(weakref.ref(session))
        session.on(RAW_EVENT, lambda message: seen.tell("heard", message))
        for arguments in (session.arguments, {}, {}):
            for message in MESSAGES:
                session.emit(RAW_EVENT, message)
            try:
                await asyncio.wait_for(session.aclose(**arguments), 1)
            except Exception as error:
                seen.tell("closing", error)
            seen.tell("closed", getattr(session, "closed", None))
        return seen.tell("attributes", sorted(vars(session)))

    plain = watch(script)
    make_meter()
    assert watch(script) == plain


@named("stream_type", [Answer, Speech])
def test_a_task_that_a_listener_starts_does_not_keep_the_stream(meter, stream_type):
    """Its context is that of the monitor, which knows the operation; the operation lets go of what has ended."""
    gone = []

    async def script(seen, made):
        component = KINDS[stream_type](type("Stream", (Plugin, stream_type), {}))
        component.on(METRICS_EVENT, lambda _: tasks.append(asyncio.create_task(asyncio.sleep(5))))
        tasks, stream = [], component.open()
        ref = weakref.ref(stream)
        feed(stream, seen)
        await read(stream, seen)
        await stream.aclose()
        del stream
        await asyncio.sleep(0)
        gone.append((len(tasks), tasks[0].done(), ref() is None))

    watch(script)
    assert gone == [(1, False, True)]


async def test_what_misbehaves_is_metered_all_the_same(meter, delivery):
    """The comparison above is one with the meter at work: each kind of stream leaves records."""
    for stream_type in KINDS:
        component = KINDS[stream_type](type("Stream", (Hangs, stream_type), {}))
        stream = component.open()
        for name, *args in stream.feeding:
            getattr(stream, name)(*args)
        await asyncio.sleep(0.01)
        await stream.aclose()
    assert {record["component"] for record in delivery.records} == {"llm", "tts", "stt"}
    assert [r["outcome"] for r in delivery.records if r["component"] != "stt"] == ["interrupted"] * 3
