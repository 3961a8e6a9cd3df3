"""The ClickHouse sink, over HTTP against the engine of chDB, and with that engine in its own process."""

import dataclasses
import subprocess
import sys
import threading
import urllib.request
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner

from livekit_costmeter.cli import costmeter
from livekit_costmeter.delivery.sinks import RejectedRecords, RetryableError, SinkError, find_sink
from livekit_costmeter.delivery.sinks.clickhouse import ClickHouseSink
from livekit_costmeter.delivery.sinks.sqlite import SqliteSink
from livekit_costmeter.testing import check_sink

ENGINE = Path(__file__).parents[2] / "engines" / "clickhouse.py"
USER, PASSWORD = "costmeter", "correct-horse-battery"


@pytest.fixture(scope="session")
def server(engine):
    """Start the engine behind HTTP."""
    return engine("clickhouse", lambda port, directory: [sys.executable, ENGINE, port, directory])


@pytest.fixture
def ask(server):
    """Ask the server directly."""

    def run(statement):
        url = f"http://127.0.0.1:{server.port}/"
        passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
        passwords.add_password(None, url, USER, PASSWORD, is_authenticated=True)
        opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(passwords))
        with opener.open(url, statement.encode(), timeout=20) as answer:
            return answer.read().decode().strip()

    return run


@pytest.fixture
def database(ask, request):
    """Make a database for one test."""
    name = request.node.name.partition("[")[0]
    ask(f"DROP DATABASE IF EXISTS {name}")
    ask(f"CREATE DATABASE {name}")
    return name


@pytest.fixture
def make_sink(server, database):
    """Make sinks on the same database, closed at the end."""
    made = []

    def make(*, password=PASSWORD, port=None, database=database, **options):
        dsn = f"http://{USER}:{password}@127.0.0.1:{port or server.port}/{database}"
        made.append(ClickHouseSink(ClickHouseSink.Options(dsn=dsn, **options)))
        return made[-1]

    yield make
    for sink in made:
        sink.close()


def test_it_keeps_the_contract(make_sink):
    """Repeats, overlaps and restarts leave one set of equal rows."""
    check_sink(make_sink)


def test_it_keeps_the_contract_with_the_engine_in_the_process(tmp_path):
    """`chdb://` is the same sink without a server (in a child: an engine takes its process for itself)."""
    code = (
        "from livekit_costmeter.delivery.sinks.clickhouse import ClickHouseSink as S\n"
        "from livekit_costmeter.testing import check_sink\n"
        f"check_sink(lambda: S(S.Options(dsn='chdb://{tmp_path}/data')))\nprint('kept')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.strip() == "kept", done.stderr


def test_it_is_found_by_its_type():
    """The YAML's `type: clickhouse` is this class."""
    assert find_sink("clickhouse") is ClickHouseSink


def test_large_batch_is_one_block_and_arrives_whole(make_sink, ask, database, charges):
    """A batch larger than the client library's own blocks is one part of the table, with every row."""
    pattern = charges(1)[0]
    rows = [dataclasses.replace(pattern, record_id=f"large-{number}") for number in range(20_000)]
    make_sink().write(rows)
    assert ask(f"SELECT count(), uniqExact(record_id), uniq(_part) FROM {database}.charges_rows") == "20000\t20000\t1"


def test_batch_that_comes_again_is_dropped_by_the_server(make_sink, ask, database, charges):
    """The token of a batch keeps even the table behind the view free of repeats."""
    for _ in range(2):
        make_sink().write(charges(5))
    assert ask(f"SELECT count() FROM {database}.charges_rows") == "10"


def test_merges_keep_the_first_row(make_sink, ask, database, charges):
    """What the view says stays when the server has merged its parts."""
    sink, row = make_sink(), charges(1)[0]
    sink.write([row])
    sink.write([dataclasses.replace(row, cost=Decimal(99)), *charges(1, first=1)])
    for _ in range(2):
        assert {(charge.record_id, charge.line): charge.cost for charge in sink.read()}["seg-0", 0] == row.cost
        ask(f"OPTIMIZE TABLE {database}.charges_rows FINAL")
    assert ask(f"SELECT count() FROM {database}.charges_rows") == "3"


def test_columns_are_exact(make_sink, ask, database, charges):
    """Anybody can query the view by the names of the vocabulary; decimals, instants and NULL are themselves."""
    make_sink().write(charges(1))
    query = f"SELECT cost, toTypeName(cost), at, labels['campaign'] FROM {database}.charges WHERE line = 0"
    assert ask(query) == "0.0012\tNullable(Decimal(38, 12))\t2026-11-20 18:00:00.000000\tq4"


def test_read_is_bounded_and_ordered(make_sink, charges):
    """`since` is included, `until` is not, and rows come by time."""
    sink = make_sink()
    sink.write(charges(5)[::-1])
    since, until = datetime(2026, 11, 20, 18, 1, tzinfo=UTC), datetime(2026, 11, 20, 18, 3, tzinfo=UTC)
    found = [(charge.record_id, charge.line) for charge in sink.read(since, until)]
    assert found == [("seg-1", 0), ("seg-1", 1), ("seg-2", 0), ("seg-2", 1)]


def test_reading_where_nothing_was_written_is_empty(make_sink, ask, database):
    """A report before the first call is an empty one, and lays out nothing."""
    assert list(make_sink().read()) == []
    assert ask(f"SELECT count() FROM system.tables WHERE database = '{database}'") == "0"


def run(*arguments):
    return CliRunner().invoke(costmeter, arguments, prog_name="costmeter")


COMMANDS = [
    ("report", "--by", "account,day", "--format", "json"),
    ("report", "--since", "2026-11-20T18:10Z", "--until", "2026-11-20T18:20Z", "--format", "csv"),
    ("export",),
]


def test_reports_say_the_same_as_from_sqlite(server, database, charges, monkeypatch):
    """A ledger that is copied over gives the same report and the same export, to the byte."""
    monkeypatch.setenv("COSTMETER_DSN", f"http://{USER}:{PASSWORD}@127.0.0.1:{server.port}/{database}")
    Path("costmeter.yaml").write_text(
        "sinks:\n"
        "  - {type: sqlite, path: ./costmeter.db}\n"
        "  - {name: lake, type: clickhouse, dsn: '${COSTMETER_DSN}'}\n"
    )
    sqlite = SqliteSink(SqliteSink.Options(path=Path("costmeter.db")))
    sqlite.write(charges(50))
    sqlite.close()
    assert run("backfill", "--from", "sqlite", "--to", "lake").exit_code == 0
    for command in COMMANDS:
        there, here = run(*command, "--sink", "lake"), run(*command, "--sink", "sqlite")
        assert (there.exit_code, there.stdout) == (0, here.stdout)
        assert len(here.stdout.splitlines()) > 1


def test_writers_that_meet_leave_one_row_each(make_sink, charges):
    """Two hosts that lay out the table and send the same rows at the same moment do not disturb each other."""
    errors, gate = [], threading.Barrier(2)

    def use(first):
        sink = make_sink()
        gate.wait()
        try:
            sink.write(charges(20, first=first))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=use, args=(first,)) for first in (0, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(list(make_sink().read())) == 60


def test_refused_record_is_named_and_the_rest_is_written(make_sink, ask, database, charges):
    """A constraint of the operator's refuses one record alone, with both of its rows."""
    sink = make_sink()
    sink.open()
    ask(f"ALTER TABLE {database}.charges_rows ADD CONSTRAINT picky CHECK record_id != 'seg-3'")
    with pytest.raises(RejectedRecords, match="picky") as caught:
        sink.write(charges(8))
    assert list(caught.value.rejected) == ["seg-3"]
    assert {charge.record_id for charge in sink.read()} == {f"seg-{n}" for n in range(8) if n != 3}


def test_refusing_everything_names_everything(make_sink, ask, database, charges):
    """Where each row breaks a constraint, each record is named and none is stored."""
    sink = make_sink()
    sink.open()
    ask(f"ALTER TABLE {database}.charges_rows ADD CONSTRAINT nothing CHECK line < 0")
    with pytest.raises(RejectedRecords) as caught:
        sink.write(charges(3))
    assert sorted(caught.value.rejected) == ["seg-0", "seg-1", "seg-2"]
    assert list(sink.read()) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cost", Decimal("0.0000000000001")),
        ("quantity", Decimal(10) ** 27),
        ("quantity", Decimal("NaN")),
        ("at", datetime(1850, 1, 1, tzinfo=UTC)),
        ("room", "half a pair \ud83c"),
        ("line", -1),
    ],
)
def test_value_that_does_not_fit_is_refused_and_never_cut(make_sink, charges, field, value):
    """Its record is named with the column, before the server sees anything of it; the others are written."""
    sink, (odd, *rest) = make_sink(), charges(3)[1:]
    with pytest.raises(RejectedRecords, match=f"{field} does not fit") as caught:
        sink.write([dataclasses.replace(odd, **{field: value}), *rest])
    assert list(caught.value.rejected) == ["seg-0"]
    assert {charge.record_id for charge in sink.read()} == {"seg-1", "seg-2"}


def test_server_that_is_not_there_is_retryable(make_sink, charges):
    """A server that is down at the start delays a batch; the reason names the address, not the password."""
    sink = make_sink(port=1)
    for attempt in (sink.check, sink.open, lambda: sink.write(charges(1))):
        with pytest.raises(RetryableError, match=r"127\.0\.0\.1.*refused") as caught:
            attempt()
        assert PASSWORD not in str(caught.value)
    with pytest.raises(SinkError, match="refused"):
        list(sink.read())


def test_server_that_dies_gets_the_batch_when_it_is_back(make_sink, server, charges):
    """What was stored before a crash stays, and the batch that met it comes again."""
    sink = make_sink()
    sink.write(charges(2))
    server.kill()
    try:
        with pytest.raises(RetryableError):
            sink.write(charges(4))
    finally:
        server.start()
    sink.write(charges(4))
    assert len(list(sink.read())) == 8


def test_server_that_hangs_holds_nobody_up(make_sink, server, charges):
    """A server that says nothing costs `timeout`, and closing does not wait for it."""
    sink = make_sink(timeout=1)
    sink.write(charges(2))
    server.pause()
    try:
        with pytest.raises(RetryableError, match=r"no answer within 1 s|timed out"):
            sink.write(charges(4))
        sink.close()
        with pytest.raises(RetryableError, match=r"no answer within 1 s|timed out"):
            sink.check()
    finally:
        server.resume()
    sink.write(charges(4))
    assert len(list(sink.read())) == 8


def test_wrong_password_is_retryable_and_said_without_it(make_sink, charges):
    """An operator mends it; neither the right nor the wrong password is in what is said or shown."""
    wrong = "wrong-horse-battery"
    sink = make_sink(password=wrong)
    for attempt in (sink.check, lambda: sink.write(charges(1))):
        with pytest.raises(RetryableError, match="Authentication failed") as caught:
            attempt()
        assert wrong not in str(caught.value)
        assert caught.value.__context__ is None
    options = ClickHouseSink.Options(dsn=f"https://{USER}:{PASSWORD}@host/costs")
    assert PASSWORD not in repr(options) + str(options) + repr(ClickHouseSink(options))


def test_missing_database_is_said(make_sink):
    """The database is the operator's to make."""
    with pytest.raises(RetryableError, match="nowhere does not exist"):
        make_sink(database="nowhere").check()


def test_full_server_is_retryable(make_sink, ask, database, charges):
    """A server that takes no more parts (as with a full disk, the server says no to all) delays a batch."""
    sink = make_sink()
    sink.write(charges(1))
    ask(f"ALTER TABLE {database}.charges_rows MODIFY SETTING parts_to_throw_insert = 1, parts_to_delay_insert = 1")
    ask(f"SYSTEM STOP MERGES {database}.charges_rows")
    with pytest.raises(RetryableError, match="Too many parts"):
        sink.write(charges(3))
    ask(f"ALTER TABLE {database}.charges_rows RESET SETTING parts_to_throw_insert, parts_to_delay_insert")
    sink.write(charges(3))
    assert len(list(sink.read())) == 6


def test_table_that_was_dropped_is_made_anew(make_sink, ask, database, charges):
    """A table that an operator dropped costs one attempt."""
    sink = make_sink()
    sink.write(charges(1))
    ask(f"DROP TABLE {database}.charges_rows SYNC")
    with pytest.raises(RetryableError):
        sink.write(charges(1))
    sink.write(charges(1))
    assert len(list(sink.read())) == 2


def test_older_layout_gets_what_it_lacks(make_sink, ask, database, charges):
    """Columns of later releases are added, and the rows that were there stay."""
    sink = make_sink()
    sink.write(charges(1))
    ask(f"ALTER TABLE {database}.charges_rows DROP COLUMN corrects")
    ask(f"ALTER TABLE {database}.charges_rows MODIFY COMMENT 'costmeter layout 0'")
    make_sink().write(charges(2, first=1))
    assert len(list(make_sink().read())) == 6
    assert ask(f"SELECT comment FROM system.tables WHERE database = '{database}' AND name = 'charges_rows'").endswith(
        "1"
    )


def test_newer_layout_is_refused(make_sink, ask, database, charges):
    """A table of a later release is not written with an older layout."""
    make_sink().open()
    ask(f"ALTER TABLE {database}.charges_rows MODIFY COMMENT 'costmeter layout 99'")
    for attempt in (make_sink().check, lambda: make_sink().write(charges(1))):
        with pytest.raises(SinkError, match="layout 99"):
            attempt()


def test_no_clock_of_ours_decides(make_sink, ask, database, charges):
    """Which of two rows was first says the server; the rows' own times, which step back, have no part in it."""
    sink, row = make_sink(), charges(1)[0]
    sink.write([row])
    sink.write([dataclasses.replace(row, started_at=datetime(2001, 1, 1, tzinfo=UTC), cost=Decimal(7)), *charges(1, 1)])
    assert [charge.cost for charge in sink.read() if charge.record_id == "seg-0"] == [row.cost]


@pytest.mark.parametrize("dsn", ["clickhouse", "ftp://host/db", "http://", "http://u:secret-word@host:port/db"])
def test_address_that_is_none_is_refused_unquoted(dsn):
    """A mistyped address is an error of the configuration, and a password in it is not repeated."""
    with pytest.raises(ValueError, match="expected an address") as caught:
        ClickHouseSink.Options(dsn=dsn)
    assert "secret-word" not in str(caught.value)
