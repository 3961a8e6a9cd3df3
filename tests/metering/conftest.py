"""A meter whose records land in a list, tapped into LiveKit for the length of one test."""

from __future__ import annotations

import json

import pytest

from livekit_costmeter.metering import ContextRules, CostMeter, KeyRing, Privacy
from livekit_costmeter.pricing.providers import identify


def secret() -> bytes:
    return b"a secret of the tests"


class ListDelivery:
    """Keeps every body it is given, as the spool would."""

    def __init__(self):
        self.bodies: list[bytes] = []
        self.served = 0
        self.settled = 0

    def append(self, members: bytes, more: bytes = b"") -> str:
        self.bodies.append(b"{" + members + more)
        return f"test-{len(self.bodies) - 1}"

    def serve(self) -> None:
        self.served += 1

    async def settle(self) -> None:
        self.settled += 1

    def readback(self):
        return ListReadback(self)

    @property
    def records(self) -> list[dict]:
        """Usage of components, without calls and without the audit records at the end of sessions."""
        return [record for record in map(json.loads, self.bodies) if record["component"] != "call"]

    @property
    def calls(self) -> list[dict]:
        return [record for record in self._of_calls() if "livekit" not in record["attributes"]]

    @property
    def audits(self) -> list[dict]:
        return [record for record in self._of_calls() if "livekit" in record["attributes"]]

    def _of_calls(self):
        return [record for record in map(json.loads, self.bodies) if record["component"] == "call"]


class ListReadback:
    """Reads a list delivery, each record once."""

    complete = True

    def __init__(self, delivery):
        self._delivery = delivery
        self._read = 0

    def new(self):
        start, self._read = self._read, len(self._delivery.bodies)
        for number in range(start, self._read):
            yield b'{"id":"test-%d",%b' % (number, self._delivery.bodies[number][1:])


@pytest.fixture
def delivery():
    return ListDelivery()


@pytest.fixture
def make_meter(delivery):
    """Make a tapped meter; its taps are removed after the test."""
    meters = []

    def make(*, rules=None, keys=(), environ=None, privacy="masked"):
        meter = CostMeter(
            delivery=delivery,
            identify=identify,
            keys=KeyRing(keys, secret=secret, environ=environ or {}),
            rules=rules or ContextRules(),
            privacy=Privacy(privacy, secret=secret),
            rate=lambda _record: [],
        )
        meter.tap()
        meters.append(meter)
        return meter

    yield make
    for meter in meters:
        meter.taps.remove()


@pytest.fixture
def meter(make_meter):
    return make_meter()
