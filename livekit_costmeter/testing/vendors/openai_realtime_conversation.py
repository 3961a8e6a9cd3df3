"""
The conversation of a realtime session: its items in order, and what reading all of them costs.

Invariant: every response reads the whole conversation, so an item is paid for again with each response until it is
deleted; spoken items cost audio tokens and no text tokens, also the ones that the model spoke.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from livekit_costmeter.testing.vendors.tokens import count_prompt


class UnknownItem(LookupError):
    """An item that the conversation does not have."""


@dataclass(slots=True)
class Item:
    """One item as it is on the wire, with the audio tokens that reading it costs."""

    wire: dict[str, Any]
    audio_tokens: int = 0

    @property
    def id(self) -> str:
        """The item's id."""
        return str(self.wire["id"])

    def as_message(self) -> dict[str, Any]:
        """Return what of the item is read as text."""
        texts = [part.get("text") or "" for part in self.wire.get("content", ())]
        named = {name: value for name, value in self.wire.items() if name in {"name", "arguments", "output"}}
        return {**named, "content": "".join(texts)}


class Conversation:
    """The items of one session, oldest first."""

    def __init__(self) -> None:
        self._items: list[Item] = []

    def has(self, id: str) -> bool:
        """Tell whether there is such an item."""
        return any(item.id == id for item in self._items)

    def add(self, item: Item, *, after: str | None = None) -> str | None:
        """Put an item after another, at the front (`after="root"`) or at the end; return the id of the one before it.

        Raises:
            UnknownItem: There is no item to put it after.
        """
        match after:
            case None:
                place = len(self._items)
            case "root":
                place = 0
            case id:
                place = self._place(id) + 1
        self._items.insert(place, item)
        return self._items[place - 1].id if place else None

    def delete(self, id: str) -> None:
        """Forget an item.

        Raises:
            UnknownItem: There is none.
        """
        del self._items[self._place(id)]

    def truncate(self, id: str, audio_tokens: int) -> None:
        """Shorten a spoken item to what was heard of it; it never grows.

        Raises:
            UnknownItem: There is none.
        """
        item = self._items[self._place(id)]
        item.audio_tokens = min(item.audio_tokens, audio_tokens)

    def read(self, instructions: str, tools: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
        """Return the text tokens and the audio tokens of everything that a response reads."""
        messages = [{"content": instructions}] if instructions else []
        text = count_prompt([*messages, *(item.as_message() for item in self._items)], tools)
        return text, sum(item.audio_tokens for item in self._items)

    def _place(self, id: str) -> int:
        for place, item in enumerate(self._items):
            if item.id == id:
                return place
        raise UnknownItem(id)
