"""How a rollup keeps up with its ledger, and what becomes of it when either is touched."""

from __future__ import annotations

import dataclasses
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from livekit_costmeter.delivery.sinks import SinkError
from livekit_costmeter.delivery.sinks.sqlite import SqliteSink
from livekit_costmeter.reporting import build_report
from livekit_costmeter.reporting.rollup import CannotRollUp, rolled_up_report, rollup_path

BY = ("model", "day")
REFRESHING = """
import sys
from pathlib import Path
from livekit_costmeter.delivery.sinks.sqlite_arrivals import SqliteArrivals
from livekit_costmeter.reporting.rollup import rolled_up_report
arrivals = SqliteArrivals(Path(sys.argv[1]), 10.0)
rolled_up_report(arrivals, ["model"], least_rows=0, rows_at_once=5, progress=lambda *_: print("stretch", flush=True))
"""


class Read:
    """The arrivals of a sink; it notes what is read."""

    def __init__(self, sink):
        self._arrivals = sink.arrivals()
        self.stretches: list[tuple[int, int]] = []

    def __getattr__(self, name):
        return getattr(self._arrivals, name)

    def read(self, after, until):
        self.stretches.append((after, until))
        return self._arrivals.read(after, until)


@pytest.fixture
def sink(tmp_path):
    """Return a ledger."""
    with closing(SqliteSink(SqliteSink.Options(path=tmp_path / "costmeter.db"))) as made:
        made.open()
        yield made


@pytest.fixture
def path(tmp_path):
    """Return where the ledger is."""
    return tmp_path / "costmeter.db"


@pytest.fixture
def calls(charge, noon):
    """Make the charges of calls, three each, ten minutes apart."""

    def make(count, first=0, **fields):
        return [
            charge(
                record_id=f"r{number}-{line}",
                session_id=f"s{number}",
                at=noon + timedelta(minutes=10 * number),
                **fields,
            )
            for number in range(first, first + count)
            for line in range(3)
        ]

    return make


def rolled(source, by: Sequence[str] = BY, since=None, until=None, **options):
    return rolled_up_report(
        source.arrivals() if isinstance(source, SqliteSink) else source,
        by,
        since,
        until,
        **{"least_rows": 0, **options},
    )


def streamed(sink, by: Sequence[str] = BY):
    return build_report(list(sink.read()), by)


def test_a_small_ledger_is_read_as_it_is(sink, path, calls):
    """Where reading every charge takes no time, no file is made."""
    sink.write(calls(3))
    assert rolled(sink, least_rows=10) is None
    assert not rollup_path(path).exists()


@pytest.mark.parametrize("by", ["session", "room", "job", "label", "label:campaign"])
def test_what_is_not_covered_is_left_to_the_charges(sink, path, calls, by):
    """Of what has a value per call nothing is summed up."""
    sink.write(calls(3))
    assert rolled(sink, [by]) is None
    assert not rollup_path(path).exists()


def test_bounds_within_a_day_are_left_to_the_charges(sink, calls, noon):
    """Days are the finest that is kept; midnight is that of UTC."""
    sink.write(calls(3))
    assert rolled(sink, since=noon) is None
    assert rolled(sink, until=noon) is None
    midnight = noon - timedelta(hours=12)
    assert rolled(sink, since=midnight) == dataclasses.replace(streamed(sink), since=midnight)


def test_only_new_rows_are_read(sink, calls):
    """A report takes in what came since the last one, and nothing where nothing came."""
    sink.write(calls(10))
    arrivals = Read(sink)
    assert rolled(arrivals) == streamed(sink)
    sink.write(calls(2, first=10))
    assert rolled(arrivals) == rolled(arrivals) == streamed(sink)
    assert arrivals.stretches == [(0, 30), (30, 36)]


def test_a_late_row_changes_the_call_that_it_is_of(sink, calls, charge, noon):
    """A row that comes days later with an old date counts on that date, and makes its call longer."""
    sink.write(calls(2))
    assert rolled(sink) == streamed(sink)
    sink.write([charge(record_id="late", session_id="s0", at=noon - timedelta(hours=2))])
    assert rolled(sink) == streamed(sink)
    assert rolled(sink).total.minutes == Decimal(120)


def test_a_later_word_on_earlier_work_counts_where_both_are_seen(sink, calls, charge, unpriced, noon):
    """A discard on the next day and a price found afterwards apply to a report that sees them, and to no other."""
    speech = {"session_id": "s0", "speech_id": "p"}
    first = [charge(record_id="a", **speech), unpriced(record_id="b", session_id="s0", at=noon)]
    sink.write(first)
    assert rolled(sink).total.unpriced_records == 1
    tomorrow = noon + timedelta(days=1)
    priced = {"kind": "correction", "corrects": "b", "pricing_source": "ratecard:x@1#a?was=unpriced"}
    sink.write([
        charge(record_id="x", outcome="discarded", quantity=Decimal(0), cost=Decimal(0), at=tomorrow, **speech),
        charge(record_id="c", session_id="s0", at=tomorrow, **priced),
    ])  # fmt: skip
    midnight = noon + timedelta(hours=12)
    assert rolled(sink) == streamed(sink)
    assert [row.key["outcome"] for row in rolled(sink).outcomes] == ["discarded"]
    assert rolled(sink).total.unpriced_records == 0
    assert rolled(sink, until=midnight) == build_report(first, BY, None, midnight)
    assert rolled(sink, until=midnight).total.unpriced_records == 1


def test_a_price_found_for_a_record_without_a_session_counts(sink, charge, unpriced, noon):
    """What belongs to no session is followed by its record."""
    sink.write([unpriced(record_id="a"), charge(record_id="b")])
    assert rolled(sink).total.unpriced_records == 1
    source = "ratecard:x@1#a?was=unpriced"
    for number in range(2):
        later = {"record_id": f"c{number}", "at": noon + timedelta(days=number), "pricing_source": source}
        sink.write([charge(kind="correction", corrects="a", **later)])
        assert rolled(sink) == streamed(sink)
    assert rolled(sink).total.unpriced_records == 0


def test_a_correction_from_elsewhere_is_left_to_the_charges_until_it_is_done_anew(sink, calls, charge, unpriced):
    """What reaches into another session cannot be summed up; nothing is read again to find that out twice."""
    sink.write([*calls(2), unpriced(record_id="a", session_id="s0")])
    assert rolled(sink) is not None
    source = {"corrects": "a", "pricing_source": "ratecard:x@1#a?was=unpriced"}
    sink.write([charge(record_id="c", kind="correction", session_id="s1", **source)])
    arrivals = Read(sink)
    assert rolled(arrivals) is None
    assert rolled(arrivals) is None
    assert len(arrivals.stretches) == 1
    with pytest.raises(CannotRollUp, match="correction c is of another session"):
        rolled(arrivals, anew=True)


def test_a_session_without_end_is_left_to_the_charges(sink, charge, noon):
    """Something that calls itself one session and goes on for weeks is none that is worth summing up."""
    sink.write([charge(record_id=f"r{day}", session_id="s", at=noon + timedelta(days=day)) for day in range(20)])
    assert rolled(sink) is None


def test_a_refresh_that_ends_halfway_goes_on_from_there(sink, calls):
    """What was taken in before stays, and is not taken in twice."""
    sink.write(calls(10))

    def stop(done, _rows):
        if done == 14:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rolled(sink, rows_at_once=7, progress=stop)
    arrivals = Read(sink)
    assert rolled(arrivals, rows_at_once=7) == streamed(sink)
    assert arrivals.stretches == [(14, 21), (21, 28), (28, 30)]


def test_a_killed_refresh_leaves_whole_stretches(sink, path, calls):
    """A process that dies at any point leaves a file that the next report goes on with."""
    sink.write(calls(2_000))
    for seen in range(1, 12, 5):
        command = [sys.executable, "-c", REFRESHING, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for _ in range(seen):
                assert process.stdout.readline() == "stretch\n"
            process.send_signal(signal.SIGKILL)
    assert rolled(sink) == streamed(sink)


def test_several_at_once_take_turns_while_charges_are_shipped(sink, path, calls):
    """Reports that find new rows at the same moment count each of them once; one that finds no turn reads the rows."""
    sink.write(calls(50))

    def look(_):
        with closing(SqliteSink(SqliteSink.Options(path=path))) as other:
            return (rolled(other, rows_at_once=7) or streamed(other)).total.records

    with ThreadPoolExecutor(4) as pool:
        found = pool.map(look, range(12))
        for number in range(50, 80, 5):
            sink.write(calls(5, first=number))
        assert all(150 <= records <= 240 for records in found)
    assert rolled(sink) == streamed(sink)


def test_another_ledger_of_the_same_name_has_sums_of_its_own(sink, path, calls):
    """A ledger that was replaced, by a shorter or by a longer one, is noticed."""
    sink.write(calls(10))
    assert rolled(sink).total.records == 30
    for count, model in ((5, "shorter"), (20, "longer"), (20, "other")):
        sink.close()
        for name in (path, *path.parent.glob("costmeter.db-*")):
            name.unlink(missing_ok=True)
        sink.write(calls(count, first=100, model=model))
        assert rolled(sink) == streamed(sink)
        assert [row.key["model"] for row in rolled(sink, ["model"]).rows] == [model]


def test_old_rows_that_were_deleted_are_noticed(sink, path, calls):
    """A ledger that has forgotten its first days is summed up anew; so is one that is empty."""
    sink.write(calls(200))
    assert rolled(sink).total.records == 600
    for condition in ("rowid < 100", "rowid > 500", "true"):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(f"DELETE FROM charges WHERE {condition}")
        assert rolled(sink) == streamed(sink)


def test_a_row_that_was_deleted_by_hand_is_gone_when_it_is_done_anew(sink, path, calls):
    """A single row in the middle is not missed; `anew` reads everything."""
    sink.write(calls(200))
    rolled(sink)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM charges WHERE rowid = 302")
    assert rolled(sink).total.records == 600
    assert rolled(sink, anew=True) == streamed(sink)
    assert rolled(sink).total.records == 599


@pytest.mark.parametrize("damage", [b"no database", b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_damaged_file_is_made_again(sink, path, calls, damage):
    """Everything in it can be made from the ledger."""
    sink.write(calls(3))
    rollup_path(path).write_bytes(damage)
    assert rolled(sink) == streamed(sink)


def test_a_file_of_another_format_is_made_again(sink, path, calls):
    """An upgrade begins anew, whatever the tables were."""
    sink.write(calls(3))
    rolled(sink)
    with closing(sqlite3.connect(rollup_path(path))) as connection, connection:
        connection.execute("PRAGMA user_version = 99")
        connection.execute("DROP TABLE counts")
    assert rolled(sink) == streamed(sink)


def test_a_database_of_somebody_else_is_left_alone(sink, path, calls):
    """A file that happens to have the name is no rollup, and stays as it is."""
    sink.write(calls(3))
    with closing(sqlite3.connect(rollup_path(path))) as connection, connection:
        connection.execute("CREATE TABLE theirs (x)")
    before = rollup_path(path).read_bytes()
    assert rolled(sink) is None
    with pytest.raises(CannotRollUp, match=r"costmeter\.db\.rollup is no rollup"):
        rolled(sink, anew=True)
    assert rollup_path(path).read_bytes() == before


def test_where_no_file_can_be_made_the_charges_are_read(sink, path, calls):
    """A place that is taken, or may not be written to, is no error."""
    sink.write(calls(3))
    rollup_path(path).mkdir()
    assert rolled(sink) is None


def test_the_file_may_be_read_by_whoever_may_read_the_ledger(sink, path, calls):
    """What it says is in the ledger."""
    sink.write(calls(3))
    path.chmod(0o640)
    rolled(sink)
    assert rollup_path(path).stat().st_mode & 0o777 == 0o640


def test_amounts_out_of_bounds_are_left_to_the_charges(sink, charge):
    """A sum that the file cannot hold exactly is not kept."""
    sink.write([charge(cost=Decimal("1e-13"))])
    assert rolled(sink) is None


def test_large_amounts_stay_exact(sink, charge):
    """What is more than a machine's number is held in two."""
    quantity = Decimal("999999999999999.123456789")
    sink.write([charge(record_id=f"r{number}", quantity=quantity) for number in range(1_000)])
    assert rolled(sink) == streamed(sink)
    assert rolled(sink).total.quantities == {"input_tokens": 1_000 * quantity}


def test_reports_of_all_levels_agree(sink, calls):
    """By work, by client and by both, the totals are the same."""
    sink.write([*calls(3, account="acme"), *calls(3, first=3, model="other", key_owner="acme")])
    reports = [rolled(sink, by) for by in (["model"], ["account"], ["account", "model", "owner"], [])]
    assert [report.total for report in reports] == [streamed(sink, []).total] * 4
    assert [len(report.rows) for report in reports] == [2, 2, 2, 1]


def test_a_ledger_that_is_not_there_is_not_made(tmp_path):
    """Looking for rows creates no file."""
    missing = SqliteSink(SqliteSink.Options(path=tmp_path / "missing.db"))
    with pytest.raises(SinkError, match=r"missing\.db"):
        rolled(missing)
    assert not list(Path(tmp_path).iterdir())
