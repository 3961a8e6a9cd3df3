"""
A call without a room: an `AgentSession` between a microphone and a loudspeaker, driven turn by turn.

Invariant: turns are taken on events of the session and never on guesses about time; what is spoken is real audio
that goes through the real plugins. Turns end by the endpoint of the recogniser, or of a speech-to-speech model, so
that the same script gives the same turns on every run.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from livekit.agents import Agent, AgentSession, CloseEvent, ConversationItemAddedEvent, SpeechCreatedEvent
from livekit.agents import llm as lk_llm
from livekit.agents import stt as lk_stt
from livekit.agents import tts as lk_tts
from livekit.agents.utils import http_context
from livekit.agents.voice import SpeechHandle
from livekit.agents.voice.turn import TurnHandlingOptions

from livekit_costmeter.testing.devices import Captions, Loudspeaker, Microphone

_TURN_HANDLING: TurnHandlingOptions = {
    "endpointing": {"min_delay": 0.0, "max_delay": 0.0},
    # Without a mode LiveKit would ask its cloud whether an interruption is one.
    "interruption": {"mode": "vad", "false_interruption_timeout": 2.0},
}

_DEFAULTS: dict[str, Any] = {
    "vad": None,
    "aec_warmup_duration": None,
    "user_away_timeout": None,
    # How long hanging up waits for a last transcript; nobody speaks after it here.
    "session_close_transcript_timeout": 0.2,
}


def _turn_handling(model: object) -> TurnHandlingOptions:
    """Let a speech-to-speech model hear turns itself, and the recogniser otherwise."""
    return {**_TURN_HANDLING, "turn_detection": "realtime_llm" if isinstance(model, lk_llm.RealtimeModel) else "stt"}


@dataclass(frozen=True, slots=True)
class Spoken:
    """One thing said in the call; of an interrupted answer, `text` is what the session kept."""

    role: str
    text: str
    interrupted: bool


class CallDriver:
    """Runs one call: speaks for the caller and waits for the agent.

    It owns the components it is given and closes them with the call; components made without an `http_session` get
    one for the length of the call. `speed` compresses the time of the caller and of the loudspeaker, not that of the
    providers. `session_options` go to `AgentSession`.

    Example:
        ```python
        async with CallDriver(stt=stt, llm=llm, tts=tts) as call:
            await call.turn()
            await call.speak(1.0)
            await call.barge_in(after=0.5)
            print(call.transcript)
        ```
    """

    def __init__(
        self,
        *,
        stt: lk_stt.STT[Any] | None = None,
        llm: lk_llm.LLM[Any] | lk_llm.RealtimeModel | None = None,
        tts: lk_tts.TTS[Any] | None = None,
        agent: Agent | None = None,
        speed: float = 4.0,
        timeout: float = 20.0,
        owns_components: bool = True,
        **session_options: Any,
    ) -> None:
        self.microphone, self.loudspeaker = Microphone(speed=speed), Loudspeaker(speed=speed)
        self.captions = Captions()
        self.transcript: list[Spoken] = []
        self._agent = agent or Agent(instructions="You are a helpful voice assistant.")
        self._components = {name: part for name, part in {"stt": stt, "llm": llm, "tts": tts}.items() if part}
        self._owns_components = owns_components
        self._session_options = session_options
        self._speed, self._timeout = speed, timeout
        self._session: AgentSession[Any] | None = None
        self._closed: CloseEvent | None = None
        self._speeches: list[SpeechHandle] = []
        self._spoken_anew = asyncio.Event()
        self._stack = AsyncExitStack()

    @property
    def session(self) -> AgentSession[Any]:
        """The session of the call, from its start on."""
        assert self._session is not None, "the call has not started"
        return self._session

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Start the session with our devices in place of a room."""
        try:
            await self._stack.enter_async_context(http_context.open())
            for part in self._components.values() if self._owns_components else ():
                self._stack.push_async_callback(part.aclose)
            self._session = self._connect()
            self._stack.push_async_callback(self._session.aclose)
            await self._session.start(self._agent)
        except BaseException:
            await self._stack.aclose()
            raise

    async def aclose(self) -> None:
        """Hang up: close the session, the owned components and their connections; idempotent."""
        await self._stack.aclose()

    def _connect(self) -> AgentSession[Any]:
        defaults = {**_DEFAULTS, "turn_handling": _turn_handling(self._components.get("llm"))}
        session: AgentSession[Any] = AgentSession(**{**defaults, **self._components, **self._session_options})
        session.on("speech_created", self._on_speech)
        session.on("conversation_item_added", self._on_item)
        session.on("close", self._on_close)
        session.input.audio = self.microphone
        session.output.audio = self.loudspeaker
        session.output.transcription = self.captions
        return session

    async def speak(self, seconds: float = 1.0) -> None:
        """Say something as the caller, and return when the agent's answer has been created.

        Raises:
            TimeoutError: No answer came; does the recogniser's script have a transcript?
        """
        before = len(self._speeches)
        self.microphone.speak(seconds)
        async with asyncio.timeout(self._timeout):
            await self.microphone.spoken()
            while len(self._speeches) == before:
                self._check_open()
                self._spoken_anew.clear()
                await self._spoken_anew.wait()

    async def turn(self, seconds: float = 1.0) -> Spoken | None:
        """Say something and hear the agent's answer out; `None` if it said nothing."""
        await self.speak(seconds)
        await self.hear_out()
        last = self.transcript[-1] if self.transcript else None
        return last if last and last.role == "assistant" else None

    async def barge_in(self, *, after: float = 0.5, seconds: float = 1.0) -> Spoken | None:
        """Talk over the agent once it was heard for `after` seconds, and hear its next answer out."""
        await self.hear(after)
        return await self.turn(seconds)

    async def hear(self, seconds: float) -> None:
        """Wait until the agent was heard for that long in what it is saying now.

        Raises:
            TimeoutError: It is not saying that much.
        """
        async with asyncio.timeout(self._timeout):
            while (left := seconds - self.loudspeaker.position) > 0:
                self._check_open()
                await asyncio.sleep(left / self._speed)

    async def hear_out(self) -> None:
        """Wait until the agent has said what it has to say."""
        async with asyncio.timeout(self._timeout):
            for speech in self._speeches:
                await speech.wait_for_playout()

    def _check_open(self) -> None:
        if self._closed is not None:
            raise RuntimeError(f"the session has closed: {self._closed.reason.value}")

    def _on_close(self, event: CloseEvent) -> None:
        self._closed = event
        self._spoken_anew.set()

    def _on_speech(self, event: SpeechCreatedEvent) -> None:
        self._speeches.append(event.speech_handle)
        self._spoken_anew.set()

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        if isinstance(event.item, lk_llm.ChatMessage):
            message = event.item
            self.transcript.append(Spoken(message.role, message.text_content or "", message.interrupted))
