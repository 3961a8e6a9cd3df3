"""
A database that is away for half an hour of full traffic costs the calls nothing, and then gets everything, in order.

The hour is replayed faster (`tests.bench.outage`), so the one figure that is a speed, the drain, is compared with what
arrives in a second of the real hour, of which it is to be a multiple.
"""

from collections import defaultdict
from itertools import pairwise

import pytest

from tests.bench.outage import CALLS, DOWN, HOUR, WRITERS, replay

pytestmark = pytest.mark.slow

SLIP = 2_000
"""Records that a writer may be late by: what a busy machine costs. Waiting for the database would cost 18,750."""
DRAIN = 10


@pytest.fixture(scope="module")
def hour(tmp_path_factory):
    """Replay the hour once; every test looks at its course."""
    return replay(tmp_path_factory.mktemp("outage"))


@pytest.fixture(scope="module")
def owed(hour):
    """List the keys of the charges that the appended records are worth."""
    return {(record.record_id, line) for record in hour.appended for line in range(record.charges)}


def test_the_hour_was_one(hour):
    """All calls appended all hour, and while PostgreSQL was down half of it had to wait."""
    assert len({record.session for record in hour.appended}) == CALLS
    assert len(hour.appended) == CALLS * (HOUR / 4 + 2 * HOUR / 12)
    assert len(hour.backlog()) > 0.25 * len(hour.arrivals)
    before = sum(arrival.at < hour.returned for arrival in hour.arrivals)
    assert 0 < before < len(hour.arrivals) * 0.3


def test_no_call_notices(hour):
    """Every append returned an id, none was refused, held back or dropped, and the writers had nothing to say."""
    assert "refused" not in {record.record_id for record in hour.appended}
    assert hour.counts == [{"refused": 0, "dropped": 0, "waiting": 0}] * WRITERS
    assert [hour.said[f"writer-{number}"] for number in range(WRITERS)] == [""] * WRITERS


def test_writers_keep_their_pace(hour):
    """While PostgreSQL was down, no writer was behind its schedule by more records than a busy machine explains."""
    assert hour.slip() <= SLIP, f"behind by {hour.slip()} records; before the outage by {hour.slip(0, DOWN)}"


def test_the_other_sink_gets_its_rows_all_the_time(hour, owed):
    """Whenever SQLite was looked at while PostgreSQL was down, it had more rows than before; in the end, all, once."""
    assert all(earlier < later for earlier, later in pairwise(hour.looks)), hour.looks
    assert len(hour.ledger) == len(owed)
    assert set(hour.ledger) == owed


def test_every_row_is_there_once(hour, owed):
    """PostgreSQL has each charge of each record, and nothing else."""
    assert len(hour.arrivals) == len(owed)
    assert {(arrival.record_id, arrival.line) for arrival in hour.arrivals} == owed


def test_sessions_arrive_in_order(hour):
    """A session's rows came in the order in which they were appended: no later record by an earlier transaction."""
    transactions = defaultdict(set)
    for arrival in hour.arrivals:
        transactions[arrival.record_id].add(arrival.transaction)
    assert {len(found) for found in transactions.values()} == {1}, "a record's rows were parted"
    sessions = defaultdict(list)
    for record in hour.appended:
        sessions[record.session].append(*transactions[record.record_id])
    assert len(set().union(*transactions.values())) > 50
    for session, numbers in sessions.items():
        assert numbers == sorted(numbers), session
        assert len(set(numbers)) > 10


def test_commits_follow_transactions(hour):
    """The number of a transaction tells when it was committed, or the order above would mean nothing."""
    times = [arrival.at for arrival in hour.arrivals]
    assert times == sorted(times)


def test_the_backlog_drains_ten_times_as_fast_as_charges_arrive(hour, capsys):
    """Once the first row had come, the backlog came at ten times the rate at which the real hour makes charges."""
    real, rate = hour.charges_per_second, hour.drain_rate()
    told = (
        f"{len(hour.backlog()):,} rows waited, the first came {hour.wait():.1f} s after PostgreSQL's new start, then "
        f"{rate:,.0f} rows/s: {rate / real:.0f} times the {real:.1f} charges/s of {CALLS} calls"
    )
    with capsys.disabled():
        print(f"\n{told}")
    assert rate >= DRAIN * real, told
