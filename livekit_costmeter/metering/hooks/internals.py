"""
Everything of LiveKit that is private or patched: the only file to read when a LiveKit release breaks something.

Invariant: each name is looked up by feature; where one is missing, `TAPS` says what can no longer be seen, and the
functions here return what stands for "not known".
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import importlib
import operator
from collections.abc import Callable, Iterable
from typing import Any

METRICS_EVENT = "metrics_collected"
USAGE_EVENT = "usage_collected"
ERROR_EVENT = "error"
RAW_EVENT = "openai_server_event_received"

TAPS: tuple[tuple[str, str, str, str, str | None], ...] = (
    ("livekit.agents.llm", "LLM", "emit", "emit", "usage of language models"),
    ("livekit.agents.stt", "STT", "emit", "emit", "usage of speech-to-text"),
    ("livekit.agents.tts", "TTS", "emit", "emit", "usage of text-to-speech"),
    ("livekit.agents.llm", "RealtimeSession", "emit", "emit_of_session", "usage of realtime models"),
    ("livekit.agents.llm", "DuplexSession", "emit", "emit_of_session", None),
    ("livekit.agents.llm", "DecisionModel", "emit", "emit", None),
    ("livekit.agents.inference", "AdaptiveInterruptionDetector", "emit", "emit", None),
    ("livekit.agents.inference.eot.base", "_BaseStreamingTurnDetector", "emit", "emit", None),
    ("livekit.agents.llm", "LLMStream", "_main_task", "generation_work", "attempts of language models"),
    ("livekit.agents.llm", "LLMStream", "_metrics_monitor_task", "generation_report", "interrupted replies"),
    ("livekit.agents.tts", "SynthesizeStream", "_main_task", "speech_work", "characters sent to text-to-speech"),
    ("livekit.agents.tts", "SynthesizeStream", "_metrics_monitor_task", "speech_report", "interrupted speech"),
    ("livekit.agents.tts", "ChunkedStream", "_main_task", "speech_work", "attempts of text-to-speech"),
    ("livekit.agents.tts", "ChunkedStream", "_metrics_monitor_task", "speech_report", "failed speech requests"),
    ("livekit.agents.stt", "RecognizeStream", "push_frame", "audio_push", "audio sent to streaming speech-to-text"),
    ("livekit.agents.stt", "RecognizeStream", "_main_task", "recognition_work", "connection time of speech-to-text"),
    ("livekit.agents.stt", "STT", "recognize", "recognition_request", "failed speech-to-text requests"),
    ("livekit.agents.llm", "RealtimeSession", "__init__", "realtime_start", "realtime sessions and open responses"),
    ("livekit.agents.llm", "DuplexSession", "__init__", "realtime_start", None),
    ("aiohttp", "ClientWebSocketResponse", "send_str", "wire", "characters sent over websockets"),
    ("livekit.agents", "AgentSession", "start", "session_start", "which session work belongs to"),
    ("livekit.agents", "AgentSession", "update_agent", "session_call", "which session an agent works for"),
    ("livekit.agents", "AgentSession", "generate_reply", "session_text", "text messages of users"),
    ("livekit.agents", "AgentServer", "run", "server_run", "when a worker starts and stops"),
    ("livekit.agents.voice", "SpeechHandle", "_cancel", "speech_cancel", "replies discarded after they were complete"),
    ("livekit.agents.llm.fallback_adapter", "FallbackLLMStream", "_try_recovery", "probe", "recovery requests"),
    ("livekit.agents.tts.fallback_adapter", "FallbackChunkedStream", "_try_recovery", "probe", "recovery requests"),
    ("livekit.agents.tts.fallback_adapter", "FallbackSynthesizeStream", "_try_recovery", "probe", "recovery requests"),
    ("livekit.agents.stt.fallback_adapter", "FallbackAdapter", "_try_recovery", "probe", "recovery requests"),
    ("livekit.agents.stt.fallback_adapter", "FallbackRecognizeStream", "_try_recovery", "probe", "recovery requests"),
)
"""Module, class, function, tap (by name), and what cannot be seen without it (None: only newer versions have it)."""

_TASK_VARIABLES = (
    ("livekit.agents.voice.agent_activity", "_AgentActivityContextVar"),
    ("livekit.agents.voice.agent_activity", "_SpeechHandleContextVar"),
    ("livekit.agents.job", "_JobContextVar"),
)
_KEY_PATHS: tuple[Callable[[Any], Any], ...] = tuple(
    operator.attrgetter(path)
    for path in (
        *("_opts.api_key", "_client.api_key", "_api_key", "_ws._api_key", "_opts.speech_key", "_opts.auth_token"),
        *("_opts.speech_auth_token", "_opts.token", "_api_token", "_token", "_authorization", "_client._api_key"),
    )
)
_path_of: dict[type, Callable[[Any], Any]] = {}
"""Where plugins keep the key, options first: the gateway's client holds a token per request. Never `repr` a holder."""
_scope: contextvars.ContextVar[Any] = contextvars.ContextVar("livekit_costmeter_scope", default=None)
_around: contextvars.ContextVar[Any] = contextvars.ContextVar("livekit_costmeter_around", default=None)


def find(module: str, name: str) -> Any:
    """Return a name of a module, or None where this version has no such module or name."""
    try:
        return getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise  # LiveKit is there and cannot be imported: that is another thing than an older LiveKit
        return None


_base = functools.cache(find)


def is_leaf(stream: Any, module: str, base: str) -> bool:
    """Tell a stream that asks a provider from one that forwards to such streams and silences its own monitor."""
    if isinstance(stream, _base("livekit.agents.tts.tts", "_ChunkedStreamFromStream") or ()):
        return False
    return type(stream)._metrics_monitor_task is _base(module, base)._metrics_monitor_task


def is_unmonitored(stream: Any) -> bool:
    """Tell a synthesis stream that was given no text: LiveKit starts its monitor with the first."""
    return getattr(stream, "_metrics_task", None) is None


def channel_of(stream: Any) -> Any:
    """Return the channel into which a plugin puts what its provider answers."""
    return stream._event_ch


def recognizes_itself(stt: Any) -> bool:
    """Tell a recogniser from an adapter, which reports nothing of its own."""
    adapter = _base("livekit.agents.stt", "StreamAdapter")  # which reports its own as well as the other's
    return bool(getattr(stt, "_recognize_metrics_needed", True)) and not isinstance(stt, adapter or ())


def task_has_begun(stream: Any) -> bool:
    """Tell whether a synthesis stream's task ever ran: LiveKit reports requests that were closed before it did."""
    return getattr(stream, "_tts_request_span", True) is not None


def forwards(session: Any) -> bool:
    """Tell a realtime session that is no connection of its own from one that is."""
    names = (("realtime_fallback_adapter", "_FallbackRealtimeSession"), ("duplex_adapter", "_DuplexRealtimeSession"))
    return any(isinstance(session, _base(f"livekit.agents.llm.{module}", name) or ()) for module, name in names)


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


def enter_session(scope: Any) -> tuple[contextvars.Token[Any], contextvars.Token[Any]]:
    """Make a scope that of every task started from here; `leave_session` undoes it."""
    # Started from a tool of another session, its tasks inherit that session's activity: it is not theirs.
    return _around.set(_task_variables()[0].get(None)), _scope.set(scope)


def leave_session(tokens: tuple[contextvars.Token[Any], contextvars.Token[Any]]) -> None:
    """Put back what `enter_session` replaced."""
    # A start that its loop leaves behind is closed by the collector, in some other context.
    with contextlib.suppress(ValueError):
        _around.reset(tokens[0])
        _scope.reset(tokens[1])


def listening_context() -> contextvars.Context:
    """Copy the running task's context for a recognition stream: the agent that listens now, and no speech."""
    # A stream that a handoff opens is opened by a task of the agent and the speech before it, and outlives both.
    context = contextvars.copy_context()
    activity_variable, speech_variable, _ = _task_variables()
    context.run(speech_variable.set, None)
    activity, _, scope, _ = current_task()
    session = activity.session if activity is not None else getattr(scope, "session", None)
    listener = getattr(session, "_activity", None)
    if listener is not None:
        context.run(activity_variable.set, listener)
    return context


def current_job() -> Any:
    """Return the job context of the running task, or None."""
    return _task_variables()[2].get(None)


def current_speech() -> Any:
    """Return the speech handle of the running task, or None."""
    return _task_variables()[1].get(None)


def is_speculative(speech: Any) -> bool:
    """Tell whether a speech has not been chosen yet: it may still be thrown away."""
    return not getattr(speech, "scheduled", True)


def is_thrown_away(speech: Any) -> bool:
    """Tell whether a speech was dropped before it was chosen."""
    return is_speculative(speech) and bool(speech.interrupted)


def model_behind(session: Any) -> Any:
    """Return the object that holds key, model and provider of a realtime or duplex session."""
    return getattr(session, "_realtime_model", None) or getattr(session, "_duplex_model", None) or session


def transcriber_of(session: Any) -> str | None:
    """Return the model that transcribes what a realtime session hears, as far as its options say."""
    options = getattr(session, "_opts", None) or getattr(model_behind(session), "_opts", None)
    return getattr(getattr(options, "input_audio_transcription", None), "model", None)


def key_path(component: Any) -> Callable[[Any], Any] | None:
    """Return where the component keeps its static key now, if it has one."""
    known = _path_of.get(type(component))
    paths = _KEY_PATHS if known is None else (known, *_KEY_PATHS)
    for path in paths:
        if _text_at(component, path) is not None:
            _path_of[type(component)] = path
            return path
    return None


def api_key_of(component: Any) -> str | None:
    """Return the static key that the component holds, if any. The caller must not keep it."""
    path = key_path(component)
    return None if path is None else _text_at(component, path)


def _text_at(component: Any, path: Callable[[Any], Any]) -> str | None:
    try:
        value = path(component)
    except AttributeError:
        return None
    return value.removeprefix("Basic ").removeprefix("Bearer ") if isinstance(value, str) and value else None


def agent_of(session: Any) -> Any:
    """Return the agent that speaks in a session now, or None before it starts."""
    return getattr(getattr(session, "_activity", None), "agent", None)


def realtime_session_of(agent: Any) -> Any:
    """Return the realtime session of a running agent, or None."""
    return getattr(getattr(agent, "_activity", None), "realtime_llm_session", None)


def linked_participant(session: Any) -> Any:
    """Return the remote participant whom the session listens to, or None."""
    return getattr(getattr(session, "_room_io", None), "linked_participant", None)


def room_of(session: Any) -> Any:
    """Return the room that a session talks in until it closes, or None; known as soon as its start first waits."""
    return None if getattr(session, "_closing", False) else getattr(getattr(session, "_room_io", None), "_room", None)


def has_started(session: Any) -> bool:
    """Tell whether a session has started and is not closing."""
    return bool(getattr(session, "_started", False)) and not getattr(session, "_closing", False)


def was_spoken(session: Any, text: Any) -> bool:
    """Tell what a user said, and an agent hands on (as when somebody does not stop), from what was typed."""
    task = getattr(getattr(session, "_activity", None), "_user_turn_exceeded_atask", None)
    is_cut_short = task is not None and task is asyncio.current_task()
    return is_cut_short or getattr(text, "transcript_confidence", None) is not None


def text_given(stream: Any) -> str:
    """Return all the text that a synthesis stream was given."""
    return str(getattr(stream, "_pushed_text", "") or getattr(stream, "_input_text", ""))


def is_request(stream: Any) -> bool:
    """Tell a synthesis request, which carries the whole text at once, from a stream of text."""
    return getattr(stream, "_input_text", None) is not None


def speech_has_begun(stream: Any) -> bool:
    """Tell whether a synthesis stream's plugin has sent text, as far as it says."""
    return bool(getattr(stream, "_started_time", 0))


def tokens_under_way(stream: Any) -> bool:
    """Tell whether a recognition stream holds usage with tokens that LiveKit has not looked at yet."""
    waiting = getattr(getattr(stream, "_event_ch", None), "_queue", ())
    return any(getattr(getattr(event, "recognition_usage", None), "input_tokens", 0) for event in list(waiting))


def language_of(component: Any) -> str:
    """Return the language that a speech-to-text component is set to, or an empty text."""
    language = getattr(getattr(component, "_opts", None), "language", None) or ""
    return ",".join(map(str, language)) if isinstance(language, list) else str(language)


def component_of(stream: Any) -> Any:
    """Return the component that an operation belongs to."""
    names = ("_llm", "_stt", "_tts", "_realtime_model", "_duplex_model")
    return next((part for name in names if (part := getattr(stream, name, None)) is not None), stream)


def prompt_of(stream: Any) -> tuple[Iterable[Any], Iterable[Any]]:
    """Return the items of an LLM stream's chat context, and its tools."""
    return getattr(stream._chat_ctx, "items", ()), getattr(stream, "_tools", None) or ()


def prompt_of_session(session: Any) -> tuple[Iterable[Any], Iterable[Any], str]:
    """Return the items of a realtime session's conversation, its tools and its instructions."""
    try:
        tools = getattr(session.tools, "function_tools", None) or {}
        return session.chat_ctx.items, tools.values(), str(getattr(session, "_instructions", None) or "")
    except Exception:
        return (), (), ""  # it is closed already, and a plugin may have let go of everything
