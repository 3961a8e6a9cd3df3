"""Reports from a rollup: the numbers of a report on the charges themselves, whatever the ledger went through."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from livekit_costmeter.delivery.sinks.sqlite import SqliteSink
from livekit_costmeter.records import Charge
from livekit_costmeter.reporting import build_report, report_csv, report_json, report_text
from livekit_costmeter.reporting.rollup import COVERED, rolled_up_report, rollup_path

MIDNIGHT = datetime(2026, 11, 20, tzinfo=UTC)
DAYS = 4
OTHERS = {
    "kind": ("fee", "tax", "purchase", "credit"),
    "component": ("llm", "tts", "call"),
    "outcome": ("completed", "completed", "interrupted", "failed", "discarded"),
    "model": ("a", "b"),
    "key_owner": ("platform", "acme", "unknown"),
    "account": (None, "acme", "globex"),
    "project": (None, "support"),
    "agent": (None, "Receptionist"),
    "session_id": (None, "s1", "s2", "s3"),
    "speech_id": (None, "p1", "p2"),
}


def choose(draw, *values):
    return draw(st.sampled_from(values))


def amount(draw, places, least=0):
    return Decimal(draw(st.integers(least, 10**6))).scaleb(-draw(st.integers(0, places)))


def usage(draw, charge, number) -> Iterator[Charge]:
    """Make the lines of one record."""
    at = MIDNIGHT + timedelta(hours=draw(st.integers(0, 24 * DAYS - 1)), minutes=choose(draw, 0, 59))
    same = {name: choose(draw, *values) for name, values in OTHERS.items() if name != "kind"}
    if same["session_id"] is None and draw(st.integers(0, 9)):
        same["speech_id"] = None  # else a discard of it is nothing that can be summed up in advance
    for line in range(draw(st.integers(1, 3))):
        priced = draw(st.integers(0, 3)) > 0
        billed = draw(st.integers(0, 3)) > 0
        yield charge(
            record_id=f"r{number:03}",
            line=line,
            kind="usage" if draw(st.integers(0, 9)) else choose(draw, *OTHERS["kind"]),
            at=at,
            started_at=choose(draw, None, at - timedelta(seconds=90), at - timedelta(hours=2)),
            operation_id=choose(draw, None, "leg-1", "leg-2"),
            unit=choose(draw, "input_tokens", "output_tokens", "call_seconds"),
            quantity=choose(draw, Decimal(0), amount(draw, 9)),
            quantity_basis=choose(draw, "reported", "estimated", "lower_bound"),
            cost=amount(draw, 12) if priced else None,
            currency=choose(draw, "USD", "EUR", None) if priced else None,
            pricing_status=choose(draw, "priced", "free") if priced else "unpriced",
            pricing_source="catalog:x@1#a" if priced else choose(draw, "unpriced:no_match?tier=x", "unpriced:no_rate"),
            billed_by=choose(draw, "platform", "provider"),
            billed_cost=amount(draw, 12) if billed else None,
            billed_currency=choose(draw, "USD", None) if billed else None,
            **same,
        )


def correction(draw, charge, number, corrected) -> Charge:
    """Make a correction, days later, that may make an amount known."""
    return charge(
        **{
            **{name: getattr(corrected, name) for name in Charge.__slots__},
            "record_id": f"c{number:03}",
            "kind": "correction",
            "corrects": corrected.record_id,
            "at": corrected.at + timedelta(days=draw(st.integers(0, 2))),
            "cost": amount(draw, 12, least=-(10**6)),
            "billed_cost": choose(draw, None, amount(draw, 12)),
            "pricing_status": "priced",
            "pricing_source": f"ratecard:x@1#a?was={choose(draw, 'unpriced', 'unbilled', 'priced')}",
        }
    )


@st.composite
def ledgers(draw, charge) -> list[list[Charge]]:
    """Make batches of charges in any order of time; the rows of one record are together."""
    records = [list(usage(draw, charge, number)) for number in range(draw(st.integers(1, 14)))]
    lines = [line for record in records for line in record if line.kind == "usage"]
    for number, corrected in enumerate(draw(st.lists(st.sampled_from(lines), max_size=4)) if lines else []):
        records.append([correction(draw, charge, number, corrected)])
    order = draw(st.permutations(records))
    cut = draw(st.integers(0, len(order)))
    return [[line for record in part for line in record] for part in (order[:cut], order[cut:])]


def in_order(charges):
    return sorted(charges, key=lambda charge: (charge.at, charge.record_id, charge.line))


BOUNDS = st.one_of(st.none(), st.integers(0, DAYS + 1).map(lambda days: MIDNIGHT + timedelta(days=days)))
BY = st.lists(st.sampled_from(sorted(COVERED)), max_size=3)


@given(data=st.data())
@settings(deadline=None)
def test_a_rollup_gives_the_numbers_of_the_charges(charge, data):
    """Any ledger, any dimensions, any days: after each batch the rolled up report is the streamed one, to the byte."""
    known = []
    with tempfile.TemporaryDirectory() as directory, closing(ledger_in(directory)) as sink:
        for batch in data.draw(ledgers(charge)):
            sink.write(batch)
            known += batch
            for _ in range(2):
                asked = data.draw(BY), data.draw(BOUNDS), data.draw(BOUNDS)
                rows_at_once = data.draw(st.integers(1, 9))
                rolled = rolled_up_report(sink.arrivals(), *asked, least_rows=0, rows_at_once=rows_at_once)
                streamed = build_report(in_order(known), *asked)
                if rolled is None:
                    assert obstacle(directory)
                    continue
                assert rolled == streamed
                for shown in (report_json, report_csv, report_text):
                    assert shown(rolled) == shown(streamed)


def ledger_in(directory):
    sink = SqliteSink(SqliteSink.Options(path=Path(directory) / "costmeter.db"))
    sink.open()
    return sink


def obstacle(directory):
    with closing(sqlite3.connect(rollup_path(Path(directory) / "costmeter.db"))) as connection:
        return connection.execute("SELECT obstacle FROM following").fetchone()[0]
