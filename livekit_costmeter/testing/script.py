"""
What the loopback providers say and when: replies, transcripts, pace, faults.

Invariant: a script is data and never changes; how far it has been played is the server's. Times are seconds, and
every default is chosen so that a call works without a script.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one request or connection.

    `status` refuses it with that HTTP status, and no work is done. `drop_after` breaks the connection after that many
    completion tokens (chat) or seconds of audio (speech in either direction). `stall` accepts the work and never
    answers.
    """

    status: int | None = None
    drop_after: float | None = None
    stall: bool = False


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model asks for; `arguments` is JSON text."""

    name: str
    arguments: str = "{}"


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of the chat model, with what it costs beside its text.

    `cached_tokens` of the prompt are served from the cache (never more than the prompt has), and `cache_write_tokens`
    of the rest are written to it, where the vendor bills that; `reasoning_tokens` are generated before the text and
    stay hidden.
    """

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a client asked of the chat model, for a script that answers by content."""

    model: str
    messages: Sequence[Mapping[str, Any]]
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ChatScript:
    """How the chat model behaves.

    The nth request gets the nth reply, and the last reply repeats; a callable decides by the request. The nth request
    meets the nth fault; `None` is a request without one. A refused request consumes no reply.
    `tokens_per_second=None` generates without a pause. `report_usage=False` leaves out the usage chunk, as some
    compatible servers do.
    """

    replies: Sequence[Reply | str] | Callable[[ChatRequest], Reply | str] = (
        "Of course. I have noted that down for you. Is there anything else that I can help you with today?",
    )
    faults: Sequence[Fault | None] = ()
    first_token_after: float = 0.0
    tokens_per_second: float | None = 200.0
    tokens_per_chunk: int = 1
    report_usage: bool = True


@dataclass(frozen=True, slots=True)
class VoiceScript:
    """How a voice speaks: `characters_per_second` of audio, delivered `realtime_factor` times as fast as it plays.

    `realtime_factor=None` delivers without a pause. The nth context or request meets the nth fault.
    """

    characters_per_second: float = 15.0
    realtime_factor: float | None = 20.0
    first_audio_after: float = 0.0
    chunk_seconds: float = 0.1
    faults: Sequence[Fault | None] = ()


@dataclass(frozen=True, slots=True)
class ListenScript:
    """How a recogniser hears: the nth utterance gets the nth transcript, and the last one repeats.

    An utterance ends after `silence_after` seconds of silence in the audio; an interim transcript is sent once
    `interim_after` seconds of it were heard. The nth connection or request meets the nth fault.
    """

    transcripts: Sequence[str] = ("Could you please check the status of my order?",)
    silence_after: float = 0.3
    interim_after: float = 0.2
    faults: Sequence[Fault | None] = ()


@dataclass(frozen=True, slots=True)
class RealtimeScript:
    """How a speech-to-speech model behaves.

    The nth response gets the nth reply and the nth utterance the nth transcript, and the last ones repeat; a refused
    response consumes no reply. A reply's reasoning tokens are text tokens here, as the wire has no others. The nth
    response meets the nth fault; `drop_after` counts seconds of its audio. `created_after` lies between a response's
    being asked for and `response.created`, `first_audio_after` between that and its first audio; `report_usage=False`
    leaves usage out of both kinds of event. What a client wants transcribed is, and is billed apart, unless
    `transcribe=False`. `bill="session"` bills the time that sessions were open, beside the tokens.
    """

    replies: Sequence[Reply | str] = ("Of course. I have noted that down for you. Is there anything else?",)
    transcripts: Sequence[str] = ("Could you please check the status of my order?",)
    faults: Sequence[Fault | None] = ()
    silence_after: float = 0.3
    created_after: float = 0.0
    first_audio_after: float = 0.0
    characters_per_second: float = 15.0
    realtime_factor: float | None = 20.0
    chunk_seconds: float = 0.1
    heard_tokens_per_second: int = 10
    spoken_tokens_per_second: int = 20
    transcribe: bool = True
    report_usage: bool = True
    bill: Literal["tokens", "session"] = "tokens"


@dataclass(frozen=True, slots=True)
class Script:
    """The script of all vendors.

    `chat`, `responses`, `speech`, `transcription` and `realtime` are OpenAI's, `inference_*` are LiveKit's gateway's.
    """

    chat: ChatScript = field(default_factory=ChatScript)
    responses: ChatScript = field(default_factory=ChatScript)
    realtime: RealtimeScript = field(default_factory=RealtimeScript)
    speech: VoiceScript = field(default_factory=VoiceScript)
    transcription: ListenScript = field(default_factory=ListenScript)
    deepgram: ListenScript = field(default_factory=ListenScript)
    cartesia: VoiceScript = field(default_factory=VoiceScript)
    cartesia_stt: ListenScript = field(default_factory=ListenScript)
    anthropic: ChatScript = field(default_factory=ChatScript)
    elevenlabs: VoiceScript = field(default_factory=VoiceScript)
    assemblyai: ListenScript = field(default_factory=ListenScript)
    inference_llm: ChatScript = field(default_factory=ChatScript)
    inference_stt: ListenScript = field(default_factory=ListenScript)
    inference_tts: VoiceScript = field(default_factory=VoiceScript)
