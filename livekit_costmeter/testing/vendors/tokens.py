"""
The tokenizer of the simulated chat models.

Invariant: deterministic, and the pieces joined give the text. It is neither words nor a number of characters: frequent
words are one token, other words break into pieces of up to three syllables, digits go in threes, punctuation in runs,
and anything outside ASCII is a token per character. Tokens per character therefore vary with the text (about one per
four in English prose, as with real ones), so that an estimate from characters cannot agree with it by construction.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_FREQUENT_WORDS = """
the of and to in is you that it he was for on are as with his they at be this have from or one had by but not
what all were we when your can said there use an each which she do how their if will up other about out many
then them these so some her would make like him into time has look two more go see no way could people my than
first been call who its now find long down day did get come made may part i a
"""
_FREQUENT = frozenset(_FREQUENT_WORDS.split())
_RUN = re.compile(r" ?[A-Za-z]+|\d{1,3}| ?[!-/:-@\[-`{-~]+|\s+|.", re.DOTALL)
_SYLLABLE = re.compile(r" ?(?:[^aeiouy ]*[aeiouy]{1,2}(?:[^aeiouy ](?![aeiouy]))?|[^aeiouy ]+)", re.IGNORECASE)
_SYLLABLES = 3
_PER_MESSAGE = 3
_PRIMING = 3


def pieces(text: str) -> list[str]:
    """Split text into tokens; joined, they are the text again."""
    found: list[str] = []
    for run in _RUN.findall(text):
        if run.strip().lower() in _FREQUENT or not run.strip().isascii() or not run.strip().isalpha():
            found.append(run)
        else:
            syllables = _SYLLABLE.findall(run)
            found.extend("".join(syllables[i : i + _SYLLABLES]) for i in range(0, len(syllables), _SYLLABLES))
    return found


def count(text: str) -> int:
    """Count the tokens of a text."""
    return len(pieces(text))


def count_prompt(messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] = ()) -> int:
    """Count the tokens of a chat prompt: three per message and three to prime the answer, beside the texts."""
    total = _PRIMING
    for message in messages:
        values = [value for name, value in message.items() if name != "role" and value is not None]
        total += _PER_MESSAGE + sum(count(_as_text(value)) for value in values)
    return total + sum(count(_as_text(tool)) for tool in tools)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
