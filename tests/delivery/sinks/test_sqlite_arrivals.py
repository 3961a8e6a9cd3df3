"""Rows of a SQLite ledger in the order in which they came."""

import dataclasses
import sqlite3
from contextlib import closing

import pytest

from livekit_costmeter.delivery.sinks import SinkError
from livekit_costmeter.delivery.sinks.sqlite import SqliteSink


@pytest.fixture
def sink(tmp_path):
    """Return a sink on a new file."""
    with closing(SqliteSink(SqliteSink.Options(path=tmp_path / "costmeter.db"))) as made:
        yield made


def test_rows_come_in_the_order_of_their_commits(sink, charges):
    """Whatever their dates and ids, what was committed later stands behind what was committed before."""
    later, earlier = charges(2, first=10), charges(2)
    sink.write(later)
    arrivals = sink.arrivals()
    assert arrivals.position() == 4
    sink.write([*later, *earlier])
    assert arrivals.position() == 8
    assert list(arrivals.read(0, 8)) == [*later, *earlier]
    assert list(arrivals.read(4, 6)) == earlier[:2]


def test_rows_that_are_not_committed_have_no_position(sink, charges, tmp_path):
    """Nobody sees a position before the rows up to it."""
    sink.write(charges(1))
    with closing(sqlite3.connect(tmp_path / "costmeter.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE charges SET line = line + 10")
        writer.execute("INSERT INTO charges SELECT * FROM charges WHERE false")
        assert sink.arrivals().position() == 2
        assert [row.line for row in sink.arrivals().read(0, 2)] == [0, 1]
        writer.execute("ROLLBACK")


def test_the_rows_of_sessions_and_records_are_found(sink, charges):
    """Only those up to the position, and of any number of them."""
    rows = [dataclasses.replace(row, session_id=f"in-{row.record_id}") for row in charges(3)]
    sink.write(rows)
    arrivals, names = sink.arrivals(), [f"none-{number}" for number in range(1_200)]
    found = arrivals.of_sessions([*names, "in-seg-0", "in-seg-1", "in-seg-2"], 5)
    assert sorted(found, key=lambda row: (row.record_id, row.line)) == rows[:5]
    assert list(arrivals.of_records([*names, "seg-1", "seg-2"], 4)) == rows[2:4]
    assert not list(arrivals.of_sessions([], 4))


def test_a_row_is_known_by_its_digest(sink, charges, tmp_path):
    """It says everything that is in the row, and nothing where there is none."""
    sink.write(charges(2))
    before = sink.arrivals().digests([1, 2, 9])
    assert before.keys() == {1, 2}
    with closing(sqlite3.connect(tmp_path / "costmeter.db")) as connection, connection:
        connection.execute("UPDATE charges SET cost = '7' WHERE rowid = 2")
    after = sink.arrivals().digests([1, 2])
    assert (after[1] == before[1], after[2] == before[2]) == (True, False)


def test_a_file_that_is_no_ledger_is_said_in_a_line(sink, tmp_path):
    """And one that is not there is not made."""
    with pytest.raises(SinkError, match=r"costmeter\.db: unable to open database file"):
        sink.arrivals().position()
    assert not (tmp_path / "costmeter.db").exists()
    (tmp_path / "costmeter.db").write_bytes(b"something else" * 100)
    with pytest.raises(SinkError, match=r"costmeter\.db: file is not a database"):
        sink.arrivals().position()
