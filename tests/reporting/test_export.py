"""Charges as files."""

import csv
import io
import json
from decimal import Decimal

import pytest

from livekit_costmeter.records import CHARGE_FIELDS, charge_fields, parse_charge
from livekit_costmeter.reporting import EXPORT_FORMATS, write_export


def exported(charges, format):
    """Return the text of an export and the count it reports."""
    stream = io.StringIO()
    return write_export(charges, format, stream), stream.getvalue()


@pytest.fixture
def some(charge, unpriced):
    """Return charges with what is hard to write: commas, quotes, newlines, other scripts, tiny and null values."""
    return [
        charge(record_id="a", labels={"k": 'x,"y"\nz', "ü": "日本"}, cost=Decimal("1E-12"), stale=True),
        unpriced(record_id="b", account="a,b"),
    ]


def test_jsonl_reads_back_as_the_same_charges(some):
    """One charge per line, nothing lost."""
    count, text = exported(some, "jsonl")
    assert some == [parse_charge(line) for line in text.splitlines()]
    assert len(some) == count


def test_json_is_one_array_of_the_same_objects(some):
    """`json` holds what `jsonl` holds."""
    count, text = exported(some, "json")
    assert [charge_fields(one) for one in some] == json.loads(text)
    assert len(some) == count


def test_csv_has_every_column_in_order(some):
    """Null is empty, a boolean is a word, labels are JSON, decimals are plain."""
    count, text = exported(some, "csv")
    header, first, second = csv.reader(io.StringIO(text))
    assert list(CHARGE_FIELDS) == header
    row = dict(zip(header, first, strict=True))
    assert (row["stale"], row["cost"]) == ("true", "0.000000000001")
    assert some[0].labels == json.loads(row["labels"])
    assert dict(zip(header, second, strict=True))["cost"] == ""
    assert len(some) == count


@pytest.mark.parametrize(
    ("format", "expected"), [("jsonl", ""), ("json", "[]\n"), ("csv", ",".join(CHARGE_FIELDS) + "\n")]
)
def test_an_empty_export_is_a_valid_file(format, expected):
    """Nothing to export is still a document of its format."""
    assert (0, expected) == exported([], format)


@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_exports_stream_in_the_order_read(charge, format):
    """Each charge is on its way before the next one is read, so that memory stays flat."""
    stream = io.StringIO()
    lengths = []

    def ledger():
        for number in (3, 1, 2):
            lengths.append(len(stream.getvalue()))
            yield charge(record_id=f"r{number}")

    assert write_export(ledger(), format, stream) == 3
    assert lengths == sorted(set(lengths))
    text = stream.getvalue()
    assert text.index("r3") < text.index("r1") < text.index("r2")


def test_an_unknown_format_names_the_known_ones(charge):
    """A wrong format is refused before anything is written."""
    stream = io.StringIO()
    with pytest.raises(ValueError, match="'xml' is not one of jsonl, json, csv"):
        write_export([charge()], "xml", stream)
    assert stream.getvalue() == ""
