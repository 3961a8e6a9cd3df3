"""Charges for the sinks' own tests, and engines to send them to."""

import pytest

from livekit_costmeter.records import parse_usage, usage_json
from tests.engines.engine import Engine


@pytest.fixture
def charges(rates):
    """Make the two charges of each of `count` records, one minute apart from 18:00 on."""

    def make(count, first=0):
        records = [
            parse_usage(usage_json(rates.usage(id=f"seg-{n}", at=f"2026-11-20T18:{n:02}:00Z")))
            for n in range(first, first + count)
        ]
        return [charge for record in records for charge in rates.two_charges(record)]

    return make


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    """Start `engine(name, make_command)`, where `make_command(port, directory)` returns the command line."""
    started = []

    def start(name, make_command):
        started.append(Engine(make_command, tmp_path_factory.mktemp(name)))
        return started[-1]

    yield start
    for one in started:
        one.kill()
