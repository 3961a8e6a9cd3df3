"""
Work that was completed and then thrown away: an answer made ahead of time, and another one given.

Its own charges say `completed`, for they were written before anybody knew. What throws it away is a later record of
the same session, speech, component and model, with nothing but zeros and the outcome `discarded`.

Invariant: memory grows with what was thrown away, never with charges; so a ledger in which there is some is read twice.
"""

from __future__ import annotations

from dataclasses import replace

from livekit_costmeter.records import Charge

_Speech = tuple[str | None, str, str, str, str]


class Discards:
    """Which speeches were thrown away, by component and model."""

    def __init__(self) -> None:
        self._speeches: set[_Speech] = set()
        self.has_grown = False

    def note(self, charge: Charge) -> bool:
        """Tell whether a charge says nothing but that finished work was thrown away, and take note of it."""
        if charge.outcome != "discarded" or charge.quantity or charge.kind != "usage":
            return False
        speech = _speech(charge)
        if speech is not None and speech not in self._speeches:
            self._speeches.add(speech)
            self.has_grown = True
        return True

    def settle(self, charge: Charge) -> Charge:
        """Return the charge with the outcome that its work had in the end."""
        if charge.outcome == "completed" and self._speeches and _speech(charge) in self._speeches:
            return replace(charge, outcome="discarded")
        return charge


def _speech(charge: Charge) -> _Speech | None:
    if charge.speech_id is None:
        return None
    return charge.session_id, charge.speech_id, charge.component, charge.provider, charge.model
