"""
What LiveKit's taps call: the border between the files that know LiveKit's internals and the meter.

Invariant: no method here may raise or block, but those of an `OperationMeter`: the taps guard these themselves and
hand what they raise to `failed`.
"""

from __future__ import annotations

from typing import Any, Protocol


class OperationMeter(Protocol):
    """Follows the operations of one kind: each a stream, with one attempt or several."""

    def begun(self, stream: Any) -> Any:
        """Return the operation of a stream; the same one each time."""

    def attempt(self, operation: Any) -> None:
        """See an attempt begin."""

    def received(self, operation: Any, item: Any) -> None:
        """See one item of a provider's answer."""

    def attempt_failed(self, operation: Any, error: BaseException) -> None:
        """See an attempt end in an error, or in a cancellation."""

    def ended(self, operation: Any) -> None:
        """See the operation end, after LiveKit has reported it (or has not)."""


class Observer(Protocol):
    """What the taps call."""

    emitting: set[int]
    """Ids of the metrics objects that are being emitted now; a nested emit of one is the same usage."""
    generations: Any
    speech: Any
    recognition: Any
    realtime: Any

    def failed(self, error: Exception) -> None:
        """Count an error of ours, and log the first of its kind."""

    def usage(self, emitter: Any, event: Any) -> None:
        """See a metrics object before LiveKit's own listeners do, once."""

    def usage_of_session(self, session: Any, event: Any) -> None:
        """See a metrics object of a realtime or duplex session."""

    def session_starting(self, session: Any) -> Any:
        """See a session before it starts; the value returned is its scope, seen again by `current_task`."""

    def session_started(self, session: Any) -> None:
        """See a session that may have a room, or has started without one; called more than once."""

    def session_failed(self, session: Any) -> None:
        """See a session whose start has failed."""

    def user_input(self, session: Any, text: Any, speech: Any) -> None:
        """See what a reply answers: a text or chat message of the user, or anything else where it answers none."""

    def session_scope(self, session: Any) -> Any:
        """Return the scope of a session, as `session_starting` does."""

    def speech_cancelled(self, speech: Any) -> None:
        """See a speech handle about to be cancelled."""

    def server_running(self) -> None:
        """See the worker's main process start to serve."""

    async def server_stopped(self) -> None:
        """See the worker's main process stop."""
