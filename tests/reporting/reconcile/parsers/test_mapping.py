"""Any other CSV by a mapping."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from livekit_costmeter.reporting.reconcile import ExportError, open_export
from livekit_costmeter.reporting.reconcile.parsers.mapping import MappedCsv, MappingModel

EXPORTS = Path(__file__).parent.parent / "exports"
TELCO = {
    "name": "telco",
    "provider": "telnyx",
    "component": "call",
    "columns": {"start": "Datum", "model": "Produkt", "cost": "Betrag"},
    "quantities": {"call_seconds": {"column": "Minuten", "per": 60}},
    "currency": "EUR",
    "timezone": "Europe/Berlin",
    "date_format": "%d.%m.%Y",
    "decimal": ",",
    "thousands": ".",
}
ISO = {"name": "m", "provider": "p", "columns": {"start": "at"}, "quantities": {"requests": "n"}}


def read(path, mapping):
    return list(open_export(path, mappings=[MappedCsv(MappingModel.model_validate(mapping))])[1])


def write(tmp_path, text):
    path = tmp_path / "rows.csv"
    path.write_text(text)
    return path


def test_local_days_marks_and_encodings_are_read_as_declared():
    """UTF-16, semicolons, quoted line ends, local days and decimal commas come out exactly."""
    first, second = read(EXPORTS / "telco.csv", TELCO)
    assert (first.model, first.quantity, first.cost) == ("SIP trunk", Decimal(74070), Decimal("12.34"))
    assert (first.currency, first.component, first.unit) == ("EUR", "call", "call_seconds")
    # The clocks go forward in that night, so the day has 23 hours.
    assert first.start == datetime(2026, 3, 28, 23, tzinfo=UTC)
    assert first.end == second.start == datetime(2026, 3, 29, 22, tzinfo=UTC)


@pytest.mark.parametrize("number", ["1.5", "1,2,3", "1.2345", "12.34,5", "x", "1e999", "NaN"])
def test_a_number_with_other_marks_than_declared_is_refused(tmp_path, number):
    """A dot that groups nothing is not taken for a decimal mark."""
    path = write(tmp_path, f'Datum;Produkt;Minuten;Betrag\n29.03.2026;SIP;"{number}";1\n')
    with pytest.raises(ExportError, match=r"rows.csv:2: Minuten: "):
        read(path, TELCO)


def test_times_with_an_offset_keep_it_and_others_are_local(tmp_path):
    """Only a time without an offset is in the mapping's zone; Unix seconds never are."""
    rows = "at,n\n2026-05-01T00:00:00Z,1\n2026-05-01T00:00:00,2\n1777593600,4\n"
    found = {line.quantity: line.start for line in read(write(tmp_path, rows), {**ISO, "timezone": "Asia/Tokyo"})}
    # 5 is the 1 and the 4: one period, one line.
    assert found == {5: datetime(2026, 5, 1, tzinfo=UTC), 2: datetime(2026, 4, 30, 15, tzinfo=UTC)}


def test_several_quantities_leave_the_cost_a_line_of_its_own(tmp_path):
    """A cost for tokens in and out cannot be shared out, so it stands alone."""
    mapping = {
        **ISO,
        "columns": {"start": "at", "cost": "usd", "currency": "cur", "request_id": "id"},
        "quantities": {"input_tokens": {"column": "in", "per": 1000}, "output_tokens": "out"},
    }
    lines = read(write(tmp_path, "at,in,out,usd,cur,id\n2026-05-01,1.5,7,-0.25,usd,r1\n"), mapping)
    assert [(line.unit, line.quantity, line.cost, line.currency) for line in lines] == [
        ("input_tokens", 1500, None, None),
        ("output_tokens", 7, None, None),
        (None, None, Decimal("-0.25"), "USD"),
    ]
    assert {line.request_id for line in lines} == {"r1"}


def test_a_line_per_request_keeps_every_request_and_its_place(tmp_path):
    """More requests than are held at a time come out once each, with the line they stand on."""
    rows = "".join(f"2026-05-01,r{number},{number}\n" for number in range(40_000))
    mapping = {**ISO, "columns": {"start": "at", "request_id": "id"}}
    lines = read(write(tmp_path, f"at,id,n\n{rows}"), mapping)
    # Nothing is said about a request of 0 requests.
    assert [(line.request_id, line.quantity) for line in lines] == [
        (f"r{number}", number) for number in range(1, 40_000)
    ]
    assert [line.place.rpartition(":")[2] for line in lines[:2]] == ["3", "4"]
    assert lines[-1].place.endswith(":40001")


@pytest.mark.parametrize("period", ["hour", "day", "month"])
def test_a_row_without_an_end_lasts_its_period(tmp_path, period):
    """Hour, day or month, as the mapping says."""
    (line,) = read(write(tmp_path, "at,n\n2026-05-01,1\n"), {**ISO, "period": period})
    ends = {"hour": (5, 1, 1), "day": (5, 2), "month": (6, 1)}
    assert line.end == datetime(2026, *ends[period], tzinfo=UTC)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quantities": {"minutes": "n"}}, "'minutes' is not a unit"),
        ({"timezone": "Mars/Olympus"}, "is not a time zone"),
        ({"columns": {"start": "at", "cost": "usd"}}, "needs a currency"),
        ({"quantities": {}}, "needs columns.cost, or quantities"),
        ({"decimal": ",", "thousands": ","}, "same mark"),
        ({"delimeter": ";"}, "Extra inputs are not permitted"),
    ],
)
def test_a_mapping_that_could_be_read_in_two_ways_is_refused(change, message):
    """The mapping is checked before any file is opened."""
    with pytest.raises(ValidationError, match=message):
        MappingModel.model_validate({**ISO, **change})
