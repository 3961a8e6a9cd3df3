"""All cases, in the order of the truth table."""

from __future__ import annotations

from tests.fidelity import dialogues, ears, replies, sessions, vendors, voices

CASES = (*replies.CASES, *sessions.CASES, *voices.CASES, *ears.CASES, *dialogues.CASES, *vendors.CASES)
