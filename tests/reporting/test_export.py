"""Charges as files."""

import csv
import io
import json
import sys
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from livekit_costmeter.records import CHARGE_FIELDS, Charge, charge_fields, parse_charge
from livekit_costmeter.reporting import BINARY_FORMATS, EXPORT_FORMATS, CannotExport, write_export


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


def parquet_charges(data):
    """Return the charges of a Parquet file."""
    rows = pq.read_table(io.BytesIO(data)).to_pylist()
    return [Charge(**{**row, "labels": dict(row["labels"])}) for row in rows]


def test_parquet_reads_back_as_the_same_charges(some):
    """Decimals are exact with 18 places, instants have a time zone, labels are a map."""
    stream = io.BytesIO()
    assert write_export(some, "parquet", stream) == len(some)
    assert parquet_charges(stream.getvalue()) == some
    schema = pq.read_schema(io.BytesIO(stream.getvalue()))
    assert tuple(schema.names) == CHARGE_FIELDS
    types = {name: str(schema.field(name).type) for name in ("cost", "at", "labels", "line", "stale")}
    assert types == {
        "cost": "decimal128(38, 18)",
        "at": "timestamp[us, tz=UTC]",
        "labels": "map<string, string ('labels')>",
        "line": "int32",
        "stale": "bool",
    }


def test_an_empty_parquet_export_has_its_columns():
    """Nothing to export is still a document of its format."""
    stream = io.BytesIO()
    assert write_export([], "parquet", stream) == 0
    assert tuple(pq.read_table(io.BytesIO(stream.getvalue())).column_names) == CHARGE_FIELDS


def test_parquet_is_written_in_row_groups(charge):
    """A group is out before the next one is gathered, so that memory does not grow with the number of charges."""
    stream, out = io.BytesIO(), []

    def ledger():
        for number in range(20_001):
            if number % 10_000 == 0:
                out.append(len(stream.getvalue()))
            yield charge(record_id=f"r{number}")

    assert write_export(ledger(), "parquet", stream) == 20_001
    assert out == sorted(set(out))
    file = pq.ParquetFile(io.BytesIO(stream.getvalue()))
    assert file.num_row_groups == 3
    assert file.read(["record_id"]).column(0).to_pylist() == [f"r{number}" for number in range(20_001)]


@pytest.mark.parametrize(
    ("field", "value"),
    [("cost", Decimal("1e20")), ("unit_price", Decimal("1e-19")), ("line", 2**31), ("model", "lone \ud800")],
)
def test_a_value_that_parquet_has_no_room_for_ends_the_export(charge, field, value):
    """20 digits before the point and 18 after it; the row and the column are named, nothing is rounded."""
    with pytest.raises(CannotExport, match=f"row 2, {field}: "):
        write_export([charge(), charge(**{field: value})], "parquet", io.BytesIO())


def test_the_largest_values_that_fit_are_exact(charge):
    """Just inside of it, every digit stays."""
    widest = charge(cost=Decimal("99999999999999999999.999999999999999999"), unit_price=Decimal("1e-18"))
    stream = io.BytesIO()
    write_export([widest], "parquet", stream)
    assert parquet_charges(stream.getvalue()) == [widest]


def test_half_a_parquet_export_is_no_parquet_file(charge):
    """Whoever reads it sees that it is not whole, whatever ended it."""
    stream = io.BytesIO()

    def ledger():
        for number in range(15_000):
            yield charge(record_id=f"r{number}")
        raise OSError("the ledger went away")

    with pytest.raises(OSError, match="went away"):
        write_export(ledger(), "parquet", stream)
    assert len(stream.getvalue()) > 1000
    with pytest.raises(pa.ArrowInvalid):
        pq.ParquetFile(io.BytesIO(stream.getvalue()))


def test_parquet_without_its_library_says_what_to_install(charge, monkeypatch):
    """The extra is named."""
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(CannotExport, match=r"pip install 'livekit-costmeter\[parquet\]'"):
        write_export([charge()], "parquet", io.BytesIO())


@pytest.mark.parametrize("format", [name for name in EXPORT_FORMATS if name not in BINARY_FORMATS])
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
    with pytest.raises(ValueError, match="'xml' is not one of jsonl, json, csv, parquet"):
        write_export([charge()], "xml", stream)
    assert stream.getvalue() == ""
