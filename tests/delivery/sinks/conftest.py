"""Charges for the sinks' own tests."""

import pytest

from livekit_costmeter.records import parse_usage, usage_json


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
