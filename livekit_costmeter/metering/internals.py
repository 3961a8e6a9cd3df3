"""
Everything of LiveKit that is private or patched: the only file to read when a LiveKit release breaks something.

Invariant: each name is looked up by feature; where one is missing, that tap is off and `Taps.missing` names what can
no longer be seen. A tap calls LiveKit's own function with the same arguments, once, and lets its exceptions through;
an exception of ours never leaves a tap.
"""

from __future__ import annotations

import contextvars
import functools
import importlib
from collections.abc import Callable
from typing import Any

from livekit_costmeter.metering.observer import Observer

METRICS_EVENT = "metrics_collected"
USAGE_EVENT = "usage_collected"

_KEY_PATHS = (
    ("_opts", "api_key"),
    ("_client", "api_key"),
    ("_api_key",),
    ("_ws", "_api_key"),
    ("_opts", "speech_key"),
    ("_opts", "auth_token"),
    ("_opts", "speech_auth_token"),
    ("_opts", "token"),
    ("_api_token",),
    ("_token",),
    ("_authorization",),
    ("_client", "_api_key"),
)
"""Where plugins keep the key. Options come first: the gateway's client holds a token that changes with every request.
Never `repr` what holds it."""


_scope: contextvars.ContextVar[Any] = contextvars.ContextVar("livekit_costmeter_scope", default=None)
_sending: contextvars.ContextVar[Any] = contextvars.ContextVar("livekit_costmeter_sending", default=None)
_reporting: contextvars.ContextVar[Any] = contextvars.ContextVar("livekit_costmeter_reporting", default=None)
_on_top_of_stream: contextvars.ContextVar[bool] = contextvars.ContextVar("livekit_costmeter_inner", default=False)


def _find(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None


def _tap_emit(observer: Observer, original: Any) -> Any:
    observe = observer.observe

    def emit(self: Any, event: Any, *args: Any) -> None:
        if args and (event == METRICS_EVENT or event == USAGE_EVENT):  # noqa: PLR1714 - a tuple costs more here
            observe(self, args[0])
        original(self, event, *args)

    return emit


def _tap_push_frame(observer: Observer, original: Any) -> Any:
    def push_frame(self: Any, frame: Any) -> None:
        original(self, frame)
        if _is_leaf_stream(self):
            observer.audio_pushed(self, frame.samples_per_channel / frame.sample_rate)

    return push_frame


def _tap_recognize(observer: Observer, original: Any) -> Any:
    async def _main_task(self: Any) -> None:
        if not _is_leaf_stream(self):
            return await original(self)
        observer.stream_opened(self)
        try:
            return await original(self)
        finally:
            observer.stream_closed(self)

    return _main_task


def _tap_synthesis(_observer: Observer, original: Any) -> Any:
    async def _main_task(self: Any) -> None:
        # Tasks that the plugin starts inherit this, so what they send can be told from other traffic. An adapter
        # sends nothing itself; the streams behind it set their own.
        leaf = type(self)._metrics_monitor_task is _find("livekit.agents.tts", "SynthesizeStream")._metrics_monitor_task
        _sending.set(self if leaf else None)
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
        token = _scope.set(observer.session_starting(self))
        try:
            return await original(self, *args, **kwargs)
        finally:
            _scope.reset(token)

    return start


def _tap_server_run(observer: Observer, original: Any) -> Any:
    async def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        observer.server_running()
        try:
            return await original(self, *args, **kwargs)
        finally:
            await observer.server_stopped()

    return run


def _is_leaf_stream(stream: Any) -> bool:
    # An adapter forwards to the streams of real providers and silences its own monitor.
    base = _recognize_stream()
    return type(stream)._metrics_monitor_task is base._metrics_monitor_task  # noqa: SLF001


@functools.cache
def _recognize_stream() -> Any:
    return _find("livekit.agents.stt", "RecognizeStream")


_TAPS: tuple[tuple[str, str, str, Callable[[Observer, Any], Any], str | None], ...] = (
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
"""Module, class, function, tap, and what cannot be seen where it is missing (None: a class that only newer ones have)."""


class Taps:
    """The patches of one process; `apply` and `remove` are exact inverses."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._originals: list[tuple[type, str, Any]] = []
        self.missing: list[str] = []

    def apply(self) -> None:
        """Patch every class that this LiveKit version has."""
        for module, name, attribute, tap, what in _TAPS:
            owner = _find(module, name)
            if owner is not None and hasattr(owner, attribute):
                self._patch(owner, attribute, tap)
            elif what is not None:
                self.missing.append(what)

    def remove(self) -> None:
        """Put LiveKit's own functions back."""
        for owner, name, original in reversed(self._originals):
            if original is None:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
        self._originals.clear()

    def _patch(self, owner: type, name: str, tap: Callable[[Observer, Any], Any]) -> None:
        original = getattr(owner, name)
        self._originals.append((owner, name, owner.__dict__.get(name)))
        setattr(owner, name, functools.wraps(original)(tap(self._observer, original)))


def livekit_version() -> str:
    """Return the version of livekit-agents."""
    return str(_find("livekit.agents.version", "__version__") or "unknown")


def unseen() -> list[str]:
    """Name what this LiveKit version hides from us; patches nothing."""
    found = ((what, _find(module, name), attribute) for module, name, attribute, _, what in _TAPS)
    return [what for what, owner, attribute in found if what is not None and not hasattr(owner, attribute)]


def repeats_inner_stream() -> bool:
    """Tell whether the current task reports what the stream below it has reported already."""
    return _on_top_of_stream.get()


def current_scope() -> Any:
    """Return the scope of the session whose `start` led to the current task, or None."""
    return _scope.get()


@functools.cache
def _variable(module: str, name: str) -> Any:
    # One that this LiveKit lacks is one that nothing has set.
    return _find(module, name) or contextvars.ContextVar(name)


def current_activity() -> Any:
    """Return the agent activity whose task is running (it has `.session` and `.agent`), or None."""
    return _variable("livekit.agents.voice.agent_activity", "_AgentActivityContextVar").get(None)


def current_speech_id() -> str | None:
    """Return the id of the speech that the current task works for."""
    handle = _variable("livekit.agents.voice.agent_activity", "_SpeechHandleContextVar").get(None)
    return None if handle is None else handle.id


def current_job() -> Any:
    """Return the job context of the current task, or None."""
    return _variable("livekit.agents.job", "_JobContextVar").get(None)


def component_behind(emitter: Any) -> Any:
    """Return the object that holds key, model and provider: a realtime session's model, else the emitter itself."""
    for name in ("_realtime_model", "_duplex_model"):
        model = getattr(emitter, name, None)
        if model is not None:
            return model
    return emitter


def api_key_of(component: Any) -> str | None:
    """Return the static key that the component holds, if any. The caller must not keep it."""
    for path in _KEY_PATHS:
        value = component
        for name in path:
            value = getattr(value, name, None)
        if isinstance(value, str) and value:
            return value.removeprefix("Basic ").removeprefix("Bearer ")
    return None


def linked_participant(session: Any) -> Any:
    """Return the remote participant whom the session listens to, or None."""
    return getattr(getattr(session, "_room_io", None), "linked_participant", None)


def component_of(stream: Any) -> Any:
    """Return the component that a recognition or synthesis stream belongs to."""
    return getattr(stream, "_stt", None) or stream._tts  # noqa: SLF001
