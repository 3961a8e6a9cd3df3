"""The charges file: what is read back equals what was written."""

import dataclasses
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType

import pytest

from livekit_costmeter.delivery.backlog import opened
from livekit_costmeter.delivery.files.charges import (
    HEADER,
    charge_lines,
    decode_charges,
    encode_charges,
    has_header,
    source_offset,
)
from livekit_costmeter.records import Unit, parse_usage, usage_json


@pytest.fixture
def charge(rates):
    """Make one charge."""
    return rates.two_charges(parse_usage(usage_json(rates.usage(id="seg-0"))))[0]


def payload(line):
    """Return what a line frames."""
    return line[9:-1]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"cost": Decimal("0.000000000001"), "quantity": Decimal("1E+15"), "billed_cost": Decimal("-0.5")},
        {"cost": None, "unit_price": None, "price_per": None, "currency": None, "account": None},
        {"account": "Zoë — 株式会社 🎧\n\t\"'\\", "labels": {"Ключ": ""}},
        {"started_at": datetime(1999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), "stale": True},
        {"at": datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))},
        {"labels": MappingProxyType({"a": "b"}), "unit": Unit.CHARACTERS},
    ],
)
def test_charge_comes_back_equal(charge, changes):
    """Decimals are exact, null stays null, instants stay the same moment."""
    written = dataclasses.replace(charge, **changes)
    end, (found,) = decode_charges(payload(encode_charges(77, [written])))
    assert end == 77
    assert dataclasses.replace(found, labels=dict(found.labels)) == dataclasses.replace(
        written, labels=dict(written.labels)
    )
    assert found.at.utcoffset() == timedelta(0)


def test_file_begins_with_its_fields(tmp_path, charge):
    """A file of a release with other fields is told from one of this release, and reading starts behind the header."""
    path, other = tmp_path / "a.charges", tmp_path / "b.charges"
    path.write_bytes(HEADER + encode_charges(10, [charge]) + encode_charges(20, []))
    other.write_bytes(HEADER.replace(b"corrects", b"corrupts") + encode_charges(10, [charge]))
    with opened(path) as descriptor:
        assert has_header(descriptor)
        assert [source_offset(found) for _, found in charge_lines(descriptor, 0)] == [10, 20]
    with opened(other) as descriptor:
        assert not has_header(descriptor)
