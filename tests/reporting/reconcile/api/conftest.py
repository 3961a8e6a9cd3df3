"""Loopback APIs, and a clock that sleeping moves."""

import asyncio
import dataclasses
from datetime import timedelta

import pytest

from livekit_costmeter.reporting.reconcile.api import ApiSettings, Means
from tests.engines.receiver import Receiver
from tests.reporting.reconcile.api.simulators import UNTIL


@pytest.fixture(scope="module")
def receiver():
    """Run one server."""
    server = Receiver()
    yield server
    server.end()


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self):
        self.slept = []
        self.told = []

    def monotonic(self):
        return sum(self.slept)

    async def sleep(self, seconds):
        self.slept.append(seconds)
        await asyncio.sleep(0)

    def means(self, simulator, **changes):
        means = Means(
            environment=simulator.environment,
            now=lambda: UNTIL + timedelta(days=30),
            monotonic=self.monotonic,
            sleep=self.sleep,
            chance=lambda: 0.0,
            progress=self.told.append,
        )
        return dataclasses.replace(means, **changes)


@pytest.fixture
def clock():
    """Give a clock."""
    return Clock()


@pytest.fixture
def at():
    """Make settings that lead to a simulator."""
    return lambda simulator: ApiSettings(url=simulator.url)
