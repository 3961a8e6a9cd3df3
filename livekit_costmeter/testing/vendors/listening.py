"""
The live socket of a simulated recogniser: audio in, transcripts out, seconds counted.

Invariant: `audio_seconds` is exactly the PCM received, computed from the connection's own sample rate and channels;
`connection_seconds` is how long the socket was open. Both are written when the socket closes, however it closes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Protocol

from aiohttp import WSCloseCode, WSMsgType, web

from livekit_costmeter.records import Unit, round_quantity
from livekit_costmeter.testing.ledger import Dropped, Ledger, settling
from livekit_costmeter.testing.script import Fault, ListenScript
from livekit_costmeter.testing.vendors.hearing import Ear, Heard
from livekit_costmeter.testing.vendors.service import Cues, Vendor, fault_cues, refuse

Messages = Iterable[Mapping[str, Any]]


class Dialect(Protocol):
    """How one vendor says what its recogniser heard."""

    def greet(self) -> Messages:
        """Return what is sent when the socket opens."""

    def tell(self, heard: Heard) -> Messages:
        """Return how something heard is put on the wire."""

    def answer(self, command: str, ear: Ear) -> Messages:
        """Return the answer to a command of the client."""

    def ends(self, command: str) -> bool:
        """Tell whether a command asks to close the socket."""


class Recogniser(Vendor):
    """Serves live sockets in any dialect, from one script."""

    def __init__(
        self, ledger: Ledger, script: ListenScript, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(ledger)
        self._script = script
        self._faults = fault_cues(script.faults)
        self._transcripts = Cues(script.transcripts)
        self._monotonic = monotonic

    def ear(self, *, sample_rate: int, channels: int = 1) -> Ear:
        """Return an ear for one connection; all of them share the script's transcripts."""
        return Ear(self._script, self._transcripts, sample_rate=sample_rate, channels=channels)

    async def listen(self, request: web.Request, *, model: str, ear: Ear, dialect: Dialect) -> web.StreamResponse:
        """Serve one live socket until either side ends it."""
        fault = self._faults.next()
        operation = self.begin(request, component="stt", model=model)
        if fault.status is not None:
            return refuse(operation, fault.status)
        socket = web.WebSocketResponse()
        with settling(operation):
            await socket.prepare(request)
            opened_at = self._monotonic()
            try:
                await _converse(socket, ear, dialect, fault)
            finally:
                open_for = round_quantity(Decimal(self._monotonic() - opened_at))
                operation.add(Unit.AUDIO_SECONDS, ear.seconds)
                operation.add(Unit.CONNECTION_SECONDS, open_for)
            if socket.close_code != WSCloseCode.OK:
                operation.close("aborted")
        return socket


async def _converse(socket: web.WebSocketResponse, ear: Ear, dialect: Dialect, fault: Fault) -> None:
    await _send(socket, () if fault.stall else dialect.greet())
    async for message in socket:
        if message.type is WSMsgType.BINARY:
            heard = ear.hear(message.data)
            if fault.drop_after is not None and ear.seconds >= fault.drop_after:
                raise Dropped
            said = [text for event in heard for text in dialect.tell(event)]
        else:
            command = _command(message.data)
            said = list(dialect.answer(command, ear))
            if dialect.ends(command):
                await _send(socket, said)
                await socket.close()
                return
        await _send(socket, () if fault.stall else said)


async def _send(socket: web.WebSocketResponse, messages: Messages) -> None:
    for message in messages:
        await socket.send_json(message)


def _command(text: str) -> str:
    return str(json.loads(text)["type"]) if text.startswith("{") else text
