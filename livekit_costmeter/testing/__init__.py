"""
What a user needs to test an agent's cost without an account.

Loopback providers with a ledger, a call without a room, the contract test of a sink and a sink that keeps its rows.

Invariant: importing this package imports nothing else; each name is loaded when it is first used, so that testing a
sink does not import LiveKit.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from livekit_costmeter.testing.call import CallDriver, Spoken
    from livekit_costmeter.testing.contract import check_sink
    from livekit_costmeter.testing.devices import Captions, Loudspeaker, Microphone
    from livekit_costmeter.testing.ledger import Ledger, LedgerEntry, key_label
    from livekit_costmeter.testing.script import (
        ChatRequest,
        ChatScript,
        Fault,
        ListenScript,
        RealtimeScript,
        Reply,
        Script,
        ToolCall,
        VoiceScript,
    )
    from livekit_costmeter.testing.server import LoopbackProviders

__all__ = [
    "CallDriver",
    "Captions",
    "ChatRequest",
    "ChatScript",
    "Fault",
    "Ledger",
    "LedgerEntry",
    "ListenScript",
    "LoopbackProviders",
    "Loudspeaker",
    "Microphone",
    "RealtimeScript",
    "Reply",
    "Script",
    "Spoken",
    "ToolCall",
    "VoiceScript",
    "check_sink",
    "key_label",
]

_HOMES = {
    "call": ("CallDriver", "Spoken"),
    "contract": ("check_sink",),
    "devices": ("Captions", "Loudspeaker", "Microphone"),
    "ledger": ("Ledger", "LedgerEntry", "key_label"),
    "script": (
        "ChatRequest",
        "ChatScript",
        "Fault",
        "ListenScript",
        "RealtimeScript",
        "Reply",
        "Script",
        "ToolCall",
        "VoiceScript",
    ),
    "server": ("LoopbackProviders",),
}
_HOME_OF = {name: f"{__name__}.{home}" for home, names in _HOMES.items() for name in names}
_HOME_OF["MemorySink"] = "livekit_costmeter.delivery.sinks.memory"


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)
