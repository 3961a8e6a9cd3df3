"""
Everything of LiveKit that is private or patched: the only file to read when a LiveKit release breaks something.

Invariant: each name is looked up by feature; where one is missing, `TAPS` says what can no longer be seen. A tap
calls LiveKit's own function with the same arguments, once, and lets its exceptions through; an exception of ours never
leaves a tap.
"""

from __future__ import annotations

import contextvars
import functools
import importlib
import operator
from collections.abc import Callable
from typing import Any

from livekit_costmeter.metering.hooks.observer import Observer

METRICS_EVENT = "metrics_collected"
USAGE_EVENT = "usage_collected"
_METERED = frozenset({METRICS_EVENT, USAGE_EVENT})

_TASK_VARIABLES = (
    ("livekit.agents.voice.agent_activity", "_AgentActivityContextVar"),
    ("livekit.agents.voice.agent_activity", "_SpeechHandleContextVar"),
    ("livekit.agents.job", "_JobContextVar"),
)
_KEY_PATHS = tuple(
    operator.attrgetter(path)
    for path in (
        *("_opts.api_key", "_client.api_key", "_api_key", "_ws._api_key", "_opts.speech_key", "_opts.auth_token"),
        *("_opts.speech_auth_token", "_opts.token", "_api_token", "_token", "_authorization", "_client._api_key"),
    )
)
_path_of: dict[type, Callable[[Any], Any]] = {}
"""Where plugins keep the key. Options come first: the gateway's client holds a token that changes with every request.
Never `repr` what holds it."""

_scope: contextvars.ContextVar[Any] = contextvars.ContextVar("livekit_costmeter_scope", default=None)
_around: contextvars.ContextVar[Any] = contextvars.ContextVar("livekit_costmeter_around", default=None)
_sending: contextvars.ContextVar[Any] = contextvars.ContextVar("livekit_costmeter_sending", default=None)
_reporting: contextvars.ContextVar[Any] = contextvars.ContextVar("livekit_costmeter_reporting", default=None)
_on_top_of_stream: contextvars.ContextVar[bool] = contextvars.ContextVar("livekit_costmeter_inner", default=False)


def find(module: str, name: str) -> Any:
    """Return a name of a module, or None where this version has no such module or name."""
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None


def _tap_emit(observer: Observer, original: Any) -> Any:
    observe, forget = observer.observe, observer.forget

    def emit(self: Any, event: Any, *args: Any) -> None:
        if args and event in _METERED:
            observe(self, args[0])
            try:
                original(self, event, *args)
            finally:
                forget(self, args[0])
        else:
            original(self, event, *args)

    return emit


def _tap_push_frame(observer: Observer, original: Any) -> Any:
    def push_frame(self: Any, frame: Any) -> None:
        original(self, frame)
        if _is_leaf(self, "livekit.agents.stt", "RecognizeStream"):
            observer.audio_pushed(self, frame.samples_per_channel / frame.sample_rate)

    return push_frame


def _tap_recognize(observer: Observer, original: Any) -> Any:
    async def _main_task(self: Any) -> Any:
        if not _is_leaf(self, "livekit.agents.stt", "RecognizeStream"):
            return await original(self)
        observer.stream_opened(self)
        try:
            return await original(self)
        finally:
            observer.stream_closed(self)

    return _main_task


def _tap_synthesis(_observer: Observer, original: Any) -> Any:
    async def _main_task(self: Any) -> Any:
        # Tasks that the plugin starts inherit this, so what they send can be told from other traffic. An adapter
        # sends nothing itself; the streams behind it set their own.
        _sending.set(self if _is_leaf(self, "livekit.agents.tts", "SynthesizeStream") else None)
        return await original(self)

    return _main_task


def _tap_send(observer: Observer, original: Any) -> Any:
    async def send_str(self: Any, data: str, *args: Any, **kwargs: Any) -> None:
        await original(self, data, *args, **kwargs)
        stream = _sending.get()
        if stream is not None:
            observer.message_sent(stream, data)

    return send_str


def _tap_speech_monitor(observer: Observer, original: Any) -> Any:
    async def _metrics_monitor_task(self: Any, event_aiter: Any) -> None:
        _reporting.set(self)
        try:
            await original(self, _counted(observer, self, event_aiter))
        finally:
            observer.speech_ended(self)

    return _metrics_monitor_task


async def _counted(observer: Observer, stream: Any, events: Any) -> Any:
    async for event in events:
        observer.audio_received(stream, event.frame.duration)
        yield event


def reporting_stream() -> Any:
    """Return the synthesis stream whose metrics the current task reports, or None."""
    return _reporting.get()


def _tap_stream_behind_chunks(_observer: Observer, original: Any) -> Any:
    async def _metrics_monitor_task(self: Any, event_aiter: Any) -> None:
        # The stream it is built on reports the same characters; this task has a context of its own.
        _on_top_of_stream.set(True)
        await original(self, event_aiter)

    return _metrics_monitor_task


def _tap_session_start(observer: Observer, original: Any) -> Any:
    async def start(self: Any, *args: Any, **kwargs: Any) -> Any:
        # Started from a tool of another session, its tasks inherit that session's activity: it is not theirs.
        around, token = _around.set(_task_variables()[0].get(None)), _scope.set(observer.session_starting(self))
        try:
            return await original(self, *args, **kwargs)
        finally:
            _scope.reset(token)
            _around.reset(around)

    return start


def _tap_server_run(observer: Observer, original: Any) -> Any:
    async def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        observer.server_running()
        try:
            return await original(self, *args, **kwargs)
        finally:
            await observer.server_stopped()

    return run


def _is_leaf(stream: Any, module: str, base: str) -> bool:
    # An adapter forwards to the streams of real providers and silences its own monitor.
    return type(stream)._metrics_monitor_task is _base(module, base)._metrics_monitor_task


_base = functools.cache(find)


TAPS: tuple[tuple[str, str, str, Callable[[Observer, Any], Any], str | None], ...] = (
    ("livekit.agents.llm", "LLM", "emit", _tap_emit, "usage of language models"),
    ("livekit.agents.stt", "STT", "emit", _tap_emit, "usage of speech-to-text"),
    ("livekit.agents.tts", "TTS", "emit", _tap_emit, "usage of text-to-speech"),
    ("livekit.agents.llm", "RealtimeSession", "emit", _tap_emit, "usage of realtime models"),
    ("livekit.agents.llm", "DuplexSession", "emit", _tap_emit, None),
    ("livekit.agents.llm", "DecisionModel", "emit", _tap_emit, None),
    ("livekit.agents.inference", "AdaptiveInterruptionDetector", "emit", _tap_emit, None),
    ("livekit.agents.inference.eot.base", "_BaseStreamingTurnDetector", "emit", _tap_emit, None),
    ("livekit.agents.stt", "RecognizeStream", "push_frame", _tap_push_frame, "audio sent to streaming speech-to-text"),
    ("livekit.agents.stt", "RecognizeStream", "_main_task", _tap_recognize, "connection time of speech-to-text"),
    ("livekit.agents.tts", "SynthesizeStream", "_main_task", _tap_synthesis, "characters sent to text-to-speech"),
    ("livekit.agents.tts", "SynthesizeStream", "_metrics_monitor_task", _tap_speech_monitor, "interrupted speech"),
    ("livekit.agents.tts.tts", "_ChunkedStreamFromStream", "_metrics_monitor_task", _tap_stream_behind_chunks, None),
    ("aiohttp", "ClientWebSocketResponse", "send_str", _tap_send, "characters sent over websockets"),
    ("livekit.agents", "AgentSession", "start", _tap_session_start, "which session work belongs to"),
    ("livekit.agents", "AgentServer", "run", _tap_server_run, "when a worker starts and stops"),
)
"""Module, class, function, tap, and what cannot be seen where it is missing (None: only newer versions have it)."""


def repeats_inner_stream() -> bool:
    """Tell whether the current task reports what the stream below it has reported already."""
    return _on_top_of_stream.get()


@functools.cache
def _task_variables() -> tuple[contextvars.ContextVar[Any], ...]:
    found = (find(module, name) for module, name in _TASK_VARIABLES)
    # One that this LiveKit lacks is one that nothing has set.
    return tuple(variable or contextvars.ContextVar("absent") for variable in found)


def current_task() -> tuple[Any, Any, Any, Any]:
    """Return the agent activity, the speech handle, the scope of the `start` that led here and the job, or Nones."""
    activity_variable, speech_variable, job_variable = _task_variables()
    activity = activity_variable.get(None)
    scope = _scope.get()
    if activity is not None and scope is not None and activity is _around.get():
        return None, None, scope, job_variable.get(None)
    return activity, speech_variable.get(None), scope, job_variable.get(None)


def listening_context() -> contextvars.Context:
    """Copy the running task's context for a recognition stream: the agent that listens now, and no speech."""
    # A stream that a handoff opens is opened by a task of the agent and the speech before it, and outlives both.
    context = contextvars.copy_context()
    activity_variable, speech_variable, _ = _task_variables()
    context.run(speech_variable.set, None)
    activity = current_task()[0]
    listener = getattr(activity and activity.session, "_activity", None)
    if listener is not None:
        context.run(activity_variable.set, listener)
    return context


def current_job() -> Any:
    """Return the job context of the running task, or None."""
    return _task_variables()[2].get(None)


def component_behind(emitter: Any) -> Any:
    """Return the object that holds key, model and provider: a realtime session's model, else the emitter itself."""
    kind: Any = type(emitter)
    name = _model_attribute(kind)
    return emitter if name is None else getattr(emitter, name)


@functools.lru_cache(maxsize=256)
def _model_attribute(kind: Any) -> str | None:
    for base, name in (("RealtimeSession", "_realtime_model"), ("DuplexSession", "_duplex_model")):
        session = find("livekit.agents.llm", base)
        if session is not None and issubclass(kind, session):
            return name
    return None


def api_key_of(component: Any) -> str | None:
    """Return the static key that the component holds, if any. The caller must not keep it."""
    kind = type(component)
    if (known := _path_of.get(kind)) is not None and (key := _text_at(component, known)) is not None:
        return key
    for path in _KEY_PATHS:
        if (key := _text_at(component, path)) is not None:
            _path_of[kind] = path
            return key
    return None


def _text_at(component: Any, path: Callable[[Any], Any]) -> str | None:
    try:
        value = path(component)
    except AttributeError:
        return None
    return value.removeprefix("Basic ").removeprefix("Bearer ") if isinstance(value, str) and value else None


def linked_participant(session: Any) -> Any:
    """Return the remote participant whom the session listens to, or None."""
    return getattr(getattr(session, "_room_io", None), "linked_participant", None)


def pushed_text(stream: Any) -> str:
    """Return all the text that a synthesis stream was given."""
    return getattr(stream, "_pushed_text", "")


def tokens_under_way(stream: Any) -> bool:
    """Tell whether a recognition stream holds usage with tokens that LiveKit has not looked at yet."""
    waiting = getattr(getattr(stream, "_event_ch", None), "_queue", ())
    return any(getattr(getattr(event, "recognition_usage", None), "input_tokens", 0) for event in list(waiting))


def language_of(component: Any) -> str:
    """Return the language that a speech-to-text component is set to, or an empty text."""
    return str(getattr(getattr(component, "_opts", None), "language", None) or "")


def component_of(stream: Any) -> Any:
    """Return the component that a recognition or synthesis stream belongs to."""
    return getattr(stream, "_stt", None) or stream._tts
