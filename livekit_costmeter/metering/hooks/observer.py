"""
What LiveKit's taps call: the border between the file that knows LiveKit's internals and the meter.

Invariant: no method here may raise or block.
"""

from __future__ import annotations

from typing import Any, Protocol


class Observer(Protocol):
    """What the taps call; none of these may raise or block."""

    def observe(self, emitter: Any, event: Any) -> None:
        """See a metrics object before LiveKit's own listeners do."""

    def forget(self, emitter: Any, event: Any) -> None:
        """See the end of an emit: no listener can emit this object again."""

    def audio_pushed(self, stream: Any, seconds: float) -> None:
        """See audio on its way to a speech-to-text provider."""

    def stream_opened(self, stream: Any) -> None:
        """See a speech-to-text stream start."""

    def stream_closed(self, stream: Any) -> None:
        """See a speech-to-text stream end."""

    def message_sent(self, stream: Any, message: str) -> None:
        """See a websocket message of a speech synthesis stream."""

    def audio_received(self, stream: Any, seconds: float) -> None:
        """See audio come back on a speech synthesis stream."""

    def speech_ended(self, stream: Any) -> None:
        """See a speech synthesis stream end, after LiveKit has reported it (or has not)."""

    def session_starting(self, session: Any) -> Any:
        """See a session before it starts; the value returned is its scope, seen again by `current_scope`."""

    def server_running(self) -> None:
        """See the worker's main process start to serve."""

    async def server_stopped(self) -> None:
        """See the worker's main process stop."""
