"""All cases that this LiveKit can play, in the order of the truth table."""

from __future__ import annotations

from inspect import signature

from livekit.agents import AgentSession

from tests.fidelity import dialogues, ears, replies, sessions, vendors, voices

_EVERY = (*replies.CASES, *sessions.CASES, *voices.CASES, *ears.CASES, *dialogues.CASES, *vendors.CASES)
_DETECTS_KEYTERMS = "stt_context_options" in signature(AgentSession.__init__).parameters

CASES = tuple(case for case in _EVERY if _DETECTS_KEYTERMS or case.code not in ("K1", "K2"))
