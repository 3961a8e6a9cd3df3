"""The SQLite ledger."""

import sqlite3
import stat
import threading
from contextlib import closing
from datetime import UTC, datetime

import pytest

from livekit_costmeter.delivery.sinks import RetryableError, SinkError
from livekit_costmeter.delivery.sinks.layout import INDEXES, VERSION
from livekit_costmeter.delivery.sinks.sqlite import SqliteSink
from livekit_costmeter.records import CHARGE_FIELDS


@pytest.fixture
def path(tmp_path):
    """Name the database."""
    return tmp_path / "ledger.db"


@pytest.fixture
def make_sink(path):
    """Make sinks on the same database, closed at the end."""
    made = []

    def make(**options):
        made.append(SqliteSink(SqliteSink.Options(**{"path": path, **options})))
        return made[-1]

    yield make
    for sink in made:
        sink.close()


def query(path, statement):
    """Ask the database directly."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def test_columns_are_the_fields_of_a_charge(make_sink, path, charges):
    """Anybody can query the table by the names of the vocabulary; decimals are exact text."""
    make_sink().write(charges(1))
    assert [row[1] for row in query(path, "PRAGMA table_info(charges)")] == list(CHARGE_FIELDS)
    assert query(path, "SELECT cost, typeof(cost), at, labels, stale FROM charges WHERE line = 0") == [
        ("0.0012", "text", "2026-11-20T18:00:00.000000Z", '{"campaign":"q4"}', 0)
    ]


def test_file_is_private_and_survives_a_kill(make_sink, path, charges):
    """The file is for its owner alone, in WAL mode, and says which layout it has."""
    make_sink().write(charges(1))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert query(path, "PRAGMA journal_mode") == [("wal",)]
    assert query(path, "SELECT version FROM costmeter_schema") == [(VERSION,)]


def test_read_is_bounded_and_ordered(make_sink, charges):
    """`since` is included, `until` is not, and rows come by time."""
    sink = make_sink()
    sink.write(charges(5)[::-1])
    since, until = datetime(2026, 11, 20, 18, 1, tzinfo=UTC), datetime(2026, 11, 20, 18, 3, tzinfo=UTC)
    assert [(charge.record_id, charge.line) for charge in sink.read(since, until)] == [
        ("seg-1", 0),
        ("seg-1", 1),
        ("seg-2", 0),
        ("seg-2", 1),
    ]
    assert len(list(sink.read())) == 10


def test_reading_where_nothing_was_written_is_empty(make_sink, path):
    """A report before the first call is an empty one, and makes no file."""
    assert list(make_sink().read()) == []
    assert not path.exists()


def test_reading_goes_on_while_rows_are_written(make_sink, charges):
    """A long report neither blocks the shipper nor sees half of what it writes."""
    sink = make_sink()
    sink.write(charges(5))
    reading = sink.read()
    next(reading)
    make_sink().write(charges(5, first=5))
    assert len(list(reading)) == 9


def test_batch_is_all_or_nothing(make_sink, path, charges):
    """A batch that fails in the middle leaves no row behind, and the sink works on."""
    sink = make_sink()
    sink.open()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON charges WHEN NEW.record_id = 'seg-1' "
            "BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
    with pytest.raises(SinkError, match="refused"):
        sink.write(charges(3))
    assert query(path, "SELECT count(*) FROM charges") == [(0,)]
    sink.write(charges(1))
    assert query(path, "SELECT count(*) FROM charges") == [(2,)]


def test_locked_database_is_retryable(make_sink, path, charges):
    """Another writer's long transaction delays a batch; it does not lose it."""
    sink = make_sink(busy_timeout=0.05)
    sink.open()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RetryableError, match="locked"):
            sink.write(charges(1))
        other.execute("ROLLBACK")
    sink.write(charges(1))
    assert len(list(sink.read())) == 2


def test_full_disk_is_retryable(make_sink, charges):
    """A disk without room delays a batch."""
    sink = make_sink()
    sink.open()
    pages = sink._connection.execute("PRAGMA page_count").fetchone()[0]
    sink._connection.execute(f"PRAGMA max_page_count={pages + 2}")
    with pytest.raises(RetryableError, match="full"):
        sink.write(charges(60))
    sink._connection.execute("PRAGMA max_page_count=1000000")
    sink.write(charges(60))
    assert len(list(sink.read())) == 120


def test_file_that_is_no_database_is_said_plainly(make_sink, path, charges):
    """What will not heal by itself is not called retryable, and the file is left as it is."""
    path.write_text("these are notes, not a database, and they are long enough to be looked at" * 20)
    before = path.read_text()
    sink = make_sink()
    for attempt in (sink.check, lambda: sink.write(charges(1)), lambda: list(sink.read())):
        with pytest.raises(SinkError, match="not a database") as caught:
            attempt()
        assert not isinstance(caught.value, RetryableError)
    assert path.read_text() == before


def test_newer_layout_is_refused(make_sink, path):
    """A file of a later release is not written with an older layout."""
    make_sink().open()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE costmeter_schema SET version = 99")
    with pytest.raises(SinkError, match="layout 99"):
        make_sink().check()


def test_older_layout_gets_what_it_lacks(make_sink, path, charges):
    """Columns and indexes are added by whoever comes first; rows that are there stay, and can be read."""
    sink = make_sink()
    sink.write(charges(1))
    sink.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in ("DROP INDEX charges_session", "DROP INDEX charges_account_at"):
            connection.execute(statement)
        for column in ("credits", "corrects"):
            connection.execute(f"ALTER TABLE charges DROP COLUMN {column}")
        connection.execute("UPDATE costmeter_schema SET version = 1")
    others = [make_sink() for _ in range(4)]
    threads = [threading.Thread(target=other.write, args=[charges(2)]) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert query(path, "SELECT version FROM costmeter_schema") == [(VERSION,)]
    indexes = {name for (name,) in query(path, "SELECT name FROM sqlite_master WHERE type = 'index' AND sql NOT NULL")}
    assert indexes == set(INDEXES)
    assert list(make_sink().read()) == charges(2)


def test_column_that_is_not_there_is_named(make_sink, path, charges):
    """A table that somebody changed is not written to; `check` says what is wrong with it."""
    sink = make_sink()
    sink.write(charges(1))
    sink.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("ALTER TABLE charges DROP COLUMN credits")
    for attempt in (sink.check, lambda: sink.write(charges(2))):
        with pytest.raises(SinkError, match=f"layout {VERSION}, but the table charges has no column credits"):
            attempt()


def test_columns_explain_themselves(make_sink, path):
    """Whoever opens the file sees what each column means."""
    make_sink().open()
    (text,) = query(path, "SELECT sql FROM sqlite_master WHERE name = 'charges'")[0]
    assert "cost TEXT, -- what the provider charges: billable_quantity x unit_price / price_per; NULL" in text


@pytest.mark.parametrize(
    ("where", "index"),
    [
        ("at >= '2026-11-20'", "charges_at"),
        ("session_id = 'session-1'", "charges_session"),
        ("account = 'acme' AND at >= '2026-11-20'", "charges_account_at"),
    ],
)
def test_questions_of_reports_use_an_index(make_sink, path, where, index):
    """A period, a session, and an account's period are found without reading the whole table."""
    make_sink().open()
    plan = query(path, f"EXPLAIN QUERY PLAN SELECT cost FROM charges WHERE {where}")
    assert f"USING INDEX {index}" in plan[0][3]


def test_file_that_was_moved_away_is_made_anew(make_sink, path, charges):
    """Rows never go into a file that nobody will look at."""
    sink = make_sink()
    sink.write(charges(1))
    path.rename(path.with_name("rotated.db"))
    for leaving in ("ledger.db-wal", "ledger.db-shm"):
        path.with_name(leaving).unlink(missing_ok=True)
    sink.write(charges(1, first=1))
    assert [charge.record_id for charge in sink.read()] == ["seg-1", "seg-1"]


def test_first_use_by_many_at_once(make_sink, charges):
    """Threads that meet on a fresh file neither lock each other out nor race for the tables."""
    errors = []
    gate = threading.Barrier(8)

    def use(number):
        sink = make_sink()
        gate.wait()
        try:
            sink.write(charges(3, first=number * 3))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(list(make_sink().read())) == 48


def test_missing_directories_are_made(make_sink, tmp_path):
    """A path into a directory that does not exist yet is a place to write, not a failure."""
    sink = make_sink(path=tmp_path / "data" / "costs" / "ledger.db")
    assert sink.check().endswith("0 rows")


def test_a_path_that_cannot_be_opened_is_said_at_once(make_sink, tmp_path):
    """Waiting is for other writers only; what cannot be opened is reported without delay, path named once."""
    (tmp_path / "file").write_text("")
    slept = []
    sink = make_sink(path=tmp_path / "file" / "ledger.db")
    sink._sleep = slept.append
    with pytest.raises(SinkError) as error:
        sink.check()
    assert slept == []
    assert str(error.value).count(str(tmp_path)) == 1
