"""
Realtime sessions on LiveKit's own base class, and the ways in which a plugin's session may misbehave.

Invariant: a misbehaviour is one class; `Session` itself behaves.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import ClassVar

from livekit.agents import llm


class Session(llm.RealtimeSession):
    """A realtime session without a provider."""

    arguments: ClassVar = {}

    async def aclose(self):
        await asyncio.sleep(0.1)


Session.__abstractmethods__ = frozenset()


class SessionCloseRaises(Session):
    async def aclose(self):
        raise ValueError("closing")


class SessionCloseHangs(Session):
    async def aclose(self):
        await asyncio.get_running_loop().create_future()


class SessionCloseTakesArguments(Session):
    arguments: ClassVar = {"drain": True}

    async def aclose(self, *, drain=False):
        await asyncio.sleep(0.2 if drain else 0.1)


class SessionClosesItsOwnWay(Session):
    def __init__(self, model):
        self.aclose = partial(asyncio.sleep, 0.3)
        super().__init__(model)


class SessionIsWrapped(Session):
    closed = 0

    def __init__(self, model):
        super().__init__(model)
        close = self.aclose

        async def aclose():
            self.closed += 1
            await close()

        self.aclose = aclose


class SessionFails(Session):
    def __init__(self, model):
        super().__init__(model)
        raise ValueError("no session")


class SessionRefusesAttributes(Session):
    def __setattr__(self, name, value):
        if name == "aclose":
            raise TypeError("this session knows its attributes")
        super().__setattr__(name, value)


class SessionCannotBeHashed(Session):
    __hash__ = None
