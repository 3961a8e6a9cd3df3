"""FOCUS files: CSV and Parquet."""

import csv
import io
from collections import defaultdict
from decimal import Decimal

import pyarrow.parquet as pq
import pytest

from livekit_costmeter.reporting import FOCUS_VERSIONS, CannotExport, write_focus
from livekit_costmeter.reporting.focus import focus_columns


def written(charges, version="1.4", **options):
    stream = io.BytesIO()
    summary = write_focus(charges, stream, version, **options)
    return summary, stream.getvalue()


def csv_rows(data):
    return list(csv.DictReader(io.StringIO(data.decode())))


@pytest.mark.parametrize("version", FOCUS_VERSIONS)
def test_both_kinds_of_file_hold_the_same(situations, version):
    """Every value of the CSV, read by the type of its column, is the value in Parquet."""
    lines = csv_rows(written(situations["everything"], version)[1])
    table = pq.read_table(io.BytesIO(written(situations["everything"], version, parquet=True)[1])).to_pylist()
    kinds = {column.name: column.kind for column in focus_columns(version)}
    read = {
        "decimal": Decimal,
        "integer": int,
        "boolean": {"true": True, "false": False}.__getitem__,
        "text": str,
        "instant": str,
    }
    assert len(lines) == len(table) == len(situations["everything"])
    for line, row in zip(lines, table, strict=True):
        for name, kind in kinds.items():
            value = row[name]
            if kind == "instant" and value is not None:
                value = value.isoformat().replace("+00:00", "Z")
            assert (read[kind](line[name]) if line[name] else None) == value


def test_parquet_decimals_have_18_places(situations):
    """Money is exact and typed, in every decimal column."""
    schema = pq.read_schema(io.BytesIO(written(situations["everything"], parquet=True)[1]))
    decimals = {column.name for column in focus_columns("1.4") if column.kind == "decimal"}
    assert {str(schema.field(name).type) for name in decimals} == {"decimal128(38, 18)"}


def test_the_summary_counts_what_stands_as_0_without_being_known(charge, unpriced, unknown_owner, corrections):
    """So that whoever writes the file can say so; the correction of a fee has no cost and is not unpriced."""
    summary, _ = written([charge(), unpriced(), unknown_owner, *corrections])
    assert (summary.rows, summary.unpriced, summary.unbilled) == (7, 1, 2)


def test_billed_costs_add_up_to_what_is_billed(situations):
    """By currency, to the last place, what an own key paid being nothing."""
    billed, booked = defaultdict(Decimal), defaultdict(Decimal)
    for row in csv_rows(written(situations["everything"])[1]):
        billed[row["BillingCurrency"]] += Decimal(row["BilledCost"])
    for charge in situations["everything"]:
        booked[charge.billed_currency] += charge.billed_cost or 0
    assert something(billed) == something(booked)
    assert something(billed).keys() == {"USD", "INR"}


def something(amounts):
    """Leave out what is nothing."""
    return {currency: amount for currency, amount in amounts.items() if amount}


def test_an_empty_period_is_a_file_with_columns():
    """Nothing to write is still a document of its format."""
    names = [column.name for column in focus_columns("1.4")]
    assert written([])[1].decode() == ",".join(names) + "\n"
    assert pq.read_table(io.BytesIO(written([], parquet=True)[1])).column_names == names


def test_rows_are_written_while_charges_are_read(charge):
    """Memory stays flat: long before the last charge is read, the first ones are out."""
    stream = io.BytesIO()
    lengths = []

    def ledger():
        for number in range(300):
            lengths.append(len(stream.getvalue()))
            yield charge(record_id=f"r{number}")

    assert write_focus(ledger(), stream).rows == 300
    assert lengths[-1] > 0
    assert lengths == sorted(lengths)
    assert [row["x_RecordId"] for row in csv_rows(stream.getvalue())] == [f"r{number}" for number in range(300)]


def test_a_value_that_fits_no_column_ends_the_export(charge):
    """It is named, and never becomes another value."""
    with pytest.raises(CannotExport, match=r"row 1, BilledCost: '1E\+21' does not fit decimal128\(38, 18\)"):
        written([charge(billed_cost=Decimal("1e21"))], parquet=True)
