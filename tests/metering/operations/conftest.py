"""A call meter on a clock that stands still, its records in a list, and sessions to talk in a lobby."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from livekit.rtc import EventEmitter

from livekit_costmeter.metering import ContextRules, Privacy
from livekit_costmeter.metering.context import Scopes
from livekit_costmeter.metering.operations.calls import CallMeter
from livekit_costmeter.pricing.providers import identify
from livekit_costmeter.records import parse_usage, usage_json
from tests.metering.lobby import Lobby


class Session(EventEmitter):
    """What a call meter sees of an `AgentSession`."""

    def __init__(self, room=None, *, hears=True):
        super().__init__()
        self._started = self._closing = False
        self._activity = SimpleNamespace(agent=SimpleNamespace(id="reception"))
        self._room_io = None if room is None else SimpleNamespace(_room=room, linked_participant=None)
        self.input = SimpleNamespace(audio=object() if hears else None)
        self.output = SimpleNamespace(audio=None)

    def close(self):
        self._started, self._closing = False, True
        self.emit("close", object())


class Exchange:
    """A call meter and all that it takes to run one."""

    def __init__(self, rules=(), privacy="masked", **context):
        self.now = 1000.0
        self.written = []
        self.errors = []
        self.privacy = Privacy(privacy, secret=lambda: b"secret")
        self.scopes = Scopes(ContextRules(**context), self.privacy)
        self.meter = CallMeter(
            self._deliver, self._guarded, identify, privacy=self.privacy, rules=rules, clock=self._time,
            monotonic=self._time, soon=lambda action: action(),
        )  # fmt: skip

    def _time(self):
        return self.now

    def _guarded(self, action):
        try:
            return action()
        except Exception as error:
            self.errors.append(error)
            return None

    def _deliver(self, members, fields):
        line = b'{"id":"t-%d",%b' % (len(self.written), members + usage_json(fields)[1:])
        parse_usage(line)
        self.written.append(json.loads(line))

    def passes(self, seconds):
        self.now += seconds

    def ticks(self, seconds):
        """Let time pass as it does on a loop: what was counted is appended every four seconds."""
        for _ in range(int(seconds // 4)):
            self.now += 4
            self.meter.flush()
        self.now += seconds % 4

    def look(self, session):
        self._guarded(lambda: self.meter.look(session, self.scopes.of_session(session)))

    def starts(self, session):
        self.look(session)
        session._started = True
        self.look(session)
        return session

    def gives_up(self, session):
        self._guarded(lambda: self.meter.gave_up(session, self.scopes.of_session(session)))

    def types(self, session, text):
        self.meter.typed(session, self.scopes.of_session(session), text, SimpleNamespace(id="speech_1"))

    def states(self, operation=None):
        records = [r for r in self.written if operation in (None, r.get("operation_id"))]
        return [(r["attributes"]["leg"], r["attributes"]["state"], r["quantities"]["call_seconds"]) for r in records]


@pytest.fixture
def exchange():
    return Exchange()


@pytest.fixture
def make_exchange():
    return Exchange


@pytest.fixture
async def lobby():
    return Lobby()


@pytest.fixture
def make_session():
    return Session
