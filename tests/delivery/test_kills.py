"""Real processes, really killed: nothing lost, nothing doubled."""

import json
import random
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing

import pytest

from livekit_costmeter.delivery import Shipper, Spool, list_segments
from livekit_costmeter.delivery.sinks.memory import MemorySink

pytestmark = pytest.mark.slow


def stored(database):
    """Count the rows in the database by key."""
    with closing(sqlite3.connect(database)) as connection:
        return Counter(connection.execute("SELECT record_id, line FROM charges").fetchall())


def lines_of(process):
    """Wait for a child and return what it printed; it must not have failed."""
    out, errors = process.communicate(timeout=120)
    assert b"Traceback" not in errors, errors.decode()
    assert b"locked" not in errors, errors.decode()
    return out.decode().split("\n")[:-1]


def test_killed_writers_lose_nothing_they_reported(launch, directory, payloads):
    """Of 100 writers killed at random moments, every record whose append returned is read back once."""
    chance = random.Random(7)
    reported = []
    for _ in range(25):
        writers = [launch("write.py", directory, 1_000_000, 200_000) for _ in range(4)]
        time.sleep(0.15 + chance.random() * 0.2)
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        for writer in writers:
            reported += writer.stdout.read().decode().split("\n")[:-1]
    records = (json.loads(payload) for payload in payloads() if payload and payload.startswith(b'{"id"'))
    found = Counter(record["id"] for record in records)
    assert len(reported) > 1_000
    assert set(found.values()) == {1}
    assert set(reported) <= found.keys()


def test_killed_shippers_double_nothing(launch, directory, tmp_path, rates):
    """A shipper killed again and again between commit and acknowledgement leaves each row once in the database."""
    spool = Spool(directory, header={"sinks": ["ledger"]}, max_bytes=1 << 40, max_segment_bytes=60_000)
    ids = [spool.append(rates.body()) for _ in range(1_500)]
    spool.close()
    database, chance, kills = tmp_path / "ledger.db", random.Random(11), 0
    for _ in range(25):
        shipper = launch("ship.py", directory, database, 20, 0.02)
        time.sleep(0.3 + chance.random() * 0.3)
        kills += shipper.poll() is None
        shipper.kill()
        shipper.communicate()
    assert lines_of(launch("ship.py", directory, database, 500))[-1].startswith("shipped")
    assert kills > 5
    assert stored(database) == Counter({(identity, line): 1 for identity in ids for line in (0, 1)})
    assert list_segments(directory) == []


def test_three_shippers_meet_on_one_spool(launch, directory, tmp_path):
    """While 32 processes append, three shippers start on a fresh database: each row arrives, once."""
    database = tmp_path / "ledger.db"
    writers = [launch("write.py", directory, 200, 20_000) for _ in range(32)]
    while not directory.exists():
        time.sleep(0.01)
    shippers = [launch("ship.py", directory, database, 50, 0.005) for _ in range(3)]
    outcomes = [lines_of(shipper)[-1] for shipper in shippers]
    appended = [identity for writer in writers for identity in lines_of(writer)]
    assert len(appended) == 32 * 200
    assert any(outcome.startswith("shipped") for outcome in outcomes)
    assert lines_of(launch("ship.py", directory, database, 500))[-1].endswith("{}")
    assert stored(database) == Counter({(identity, line): 1 for identity in appended for line in (0, 1)})
    assert list_segments(directory) == []


def test_eight_spools_share_a_fresh_database(launch, tmp_path):
    """Eight processes ship into a new SQLite file at the same moment, and every row arrives."""
    database, moment = tmp_path / "ledger.db", time.time() + 3
    processes = [
        launch("append_and_ship.py", tmp_path / f"spool-{number}", database, 300, moment) for number in range(8)
    ]
    assert [lines_of(process) for process in processes] == [["300 {}"]] * 8
    rows = stored(database)
    assert (len(rows), set(rows.values())) == (8 * 300 * 2, {1})


def test_killed_writers_segments_are_adopted(launch, directory, rates):
    """What a killed process had appended is shipped by the next shipper, and its segments go."""
    writers = [launch("write.py", directory, 1_000_000, 100_000) for _ in range(4)]
    reported = [writer.stdout.readline().strip().decode() for writer in writers for _ in range(100)]
    for writer in writers:
        writer.kill()
        reported += writer.stdout.read().decode().split("\n")[:-1]
    sink = MemorySink()
    shipment = Shipper(directory, rate=rates.two_charges, sinks={"ledger": sink}).ship_once()
    assert set(reported) <= {charge.record_id for charge in sink.charges}
    assert shipment.gaps == 0
    assert list_segments(directory) == []
