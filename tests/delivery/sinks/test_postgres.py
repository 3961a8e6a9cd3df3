"""The PostgreSQL ledger, on a server of its own."""

import secrets
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from livekit_costmeter.cli import costmeter
from livekit_costmeter.delivery.sinks import RejectedRecords, RetryableError, Sink, SinkError, find_sink
from livekit_costmeter.delivery.sinks.layout import COLUMNS, INDEXES, VERSION
from livekit_costmeter.delivery.sinks.postgres import PostgresSink
from livekit_costmeter.delivery.sinks.sqlite import SqliteSink
from livekit_costmeter.records import CHARGE_FIELDS
from livekit_costmeter.testing.contract import check_sink
from tests.engines.postgres import PASSWORD, PostgresServer


@pytest.fixture(scope="module")
def server():
    """Run one server for all tests."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def dsn(server):
    """Make a database of the test's own."""
    return server.database(f"test-{secrets.token_hex(4)}")


@pytest.fixture
def make_sink(dsn):
    """Make sinks on the same database, closed at the end."""
    made = []

    def make(**options):
        made.append(PostgresSink(PostgresSink.Options(**{"dsn": dsn, **options})))
        return made[-1]

    yield make
    for sink in made:
        sink.close()


@pytest.fixture
def query(dsn):
    """Ask the database directly."""

    def ask(statement, *parameters):
        with psycopg.connect(dsn, autocommit=True) as connection:
            cursor = connection.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    return ask


def keys(sink):
    """List what a sink holds."""
    return [(charge.record_id, charge.line) for charge in sink.read()]


def test_it_keeps_the_contract(make_sink):
    """It is held to the test that third parties are held to, and found by its type."""
    assert isinstance(make_sink(), Sink)
    assert find_sink("postgres") is PostgresSink
    check_sink(make_sink)


def test_columns_are_exact_and_explained(make_sink, query, charges):
    """Anybody can query the table: exact decimals, instants, JSON, and a comment on every column."""
    make_sink().write(charges(1))
    found = query(
        "SELECT attname, format_type(atttypid, atttypmod), col_description(attrelid, attnum) FROM pg_attribute "
        "WHERE attrelid = 'charges'::regclass AND attnum > 0 ORDER BY attnum"
    )
    assert [(name, comment) for name, _, comment in found] == [(column.name, column.comment) for column in COLUMNS]
    kinds = {name: kind for name, kind, _ in found}
    assert (kinds["cost"], kinds["at"], kinds["labels"]) == ("numeric", "timestamp with time zone", "jsonb")
    assert query("SELECT trim_scale(cost)::text, labels->>'campaign', stale FROM charges WHERE line = 0") == [
        ("0.0012", "q4", False)
    ]
    assert query("SELECT version FROM costmeter_schema") == [(VERSION,)]
    indexes = {name for (name,) in query("SELECT indexname FROM pg_indexes WHERE tablename = 'charges'")}
    assert indexes == {"charges_pkey", *INDEXES}


def test_tables_go_where_the_schema_says(make_sink, query, charges):
    """A schema that is not there is made, whatever its name."""
    sink = make_sink(schema='Costs "2026"')
    sink.write(charges(2))
    assert len(keys(make_sink(schema='Costs "2026"'))) == 4
    assert query("SELECT count(*) FROM pg_tables WHERE schemaname = 'Costs \"2026\"'") == [(2,)]
    assert keys(make_sink()) == []


def test_first_use_by_many_hosts_at_once(make_sink, charges, at_once):
    """Hosts that meet on an empty database lay it out once, without an error."""
    at_once([lambda number=number: make_sink(schema="new").write(charges(3, first=number * 3)) for number in range(8)])
    assert len(keys(make_sink(schema="new"))) == 48


def test_two_writers_of_the_same_rows_do_not_meet_in_a_circle(make_sink, query, charges, at_once):
    """Whatever order the same rows come in, each is there once and nobody has to try again."""
    rows = charges(60)
    make_sink().open()
    batches = [rows, rows[::-1]] * 2
    at_once([lambda batch=batch: make_sink().write(batch) for batch in batches])
    assert query("SELECT count(*) FROM charges") == [(120,)]


@pytest.fixture
def at_once():
    """Run actions in threads that start together; an error of one is an error here."""

    def run(actions):
        gate, errors = threading.Barrier(len(actions)), []

        def act(action):
            gate.wait()
            try:
                action()
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=act, args=(action,)) for action in actions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []

    return run


def test_read_is_bounded_and_ordered(make_sink, charges):
    """`since` is included, `until` is not, and rows come by time, whatever order they were written in."""
    sink = make_sink()
    for number in (4, 2, 3, 0, 1):  # as when a clock steps back
        sink.write(charges(1, first=number))
    since, until = datetime(2026, 11, 20, 18, 1, tzinfo=UTC), datetime(2026, 11, 20, 18, 3, tzinfo=UTC)
    assert [charge.record_id for charge in sink.read(since, until)] == ["seg-1", "seg-1", "seg-2", "seg-2"]
    assert [charge.record_id for charge in sink.read(None, since)] == ["seg-0", "seg-0"]
    assert len(list(sink.read(since, None))) == 8
    assert {charge.at.tzinfo for charge in sink.read()} == {UTC}


def test_labels_come_back_by_name(make_sink, charges):
    """The database keeps labels in an order of its own; an export has them by name."""
    sink = make_sink()
    sink.write([replace(row, labels={"zz": "1", "campaign": "2", "b": "3"}) for row in charges(1)])
    assert [list(charge.labels) for charge in sink.read()] == [["b", "campaign", "zz"]] * 2


def test_reading_creates_nothing(make_sink, query):
    """A report before the first call is an empty one."""
    assert keys(make_sink(schema="later")) == []
    assert query("SELECT to_regnamespace('later')") == [(None,)]


def test_reading_streams_one_moment(make_sink, server, charges):
    """A long report sees none of what is written meanwhile, and one that is given up leaves no connection."""
    sink = make_sink()
    sink.write(charges(40))
    reading = sink.read()
    next(reading)
    make_sink().write(charges(19, first=40))
    assert len(list(reading)) == 79
    given_up = sink.read()
    next(given_up)
    given_up.close()
    sink.close()
    assert len(list(sink.read())) == 118


# What the table refuses.


def odd(charges, **changes):
    """Return three records, the one in the middle with other values."""
    rows = charges(3)
    return [replace(row, **changes) if row.record_id == "seg-1" else row for row in rows]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"room": "nul\0byte"}, "NUL"),
        ({"labels": {"campaign": "nul\0byte"}}, "Unicode escape"),
        ({"agent": "half a pair \ud83c"}, "surrogates"),
        ({"session_id": secrets.token_hex(9_000)}, "index row requires"),
        ({"at": None}, "null value"),
    ],
)
def test_refused_record_is_refused_alone(make_sink, charges, changes, reason):
    """A value that the table cannot hold costs its record; the others of the batch are there."""
    sink = make_sink()
    with pytest.raises(RejectedRecords) as caught:
        sink.write(odd(charges, **changes))
    assert list(caught.value.rejected) == ["seg-1"]
    assert reason in caught.value.rejected["seg-1"]
    assert keys(sink) == [("seg-0", 0), ("seg-0", 1), ("seg-2", 0), ("seg-2", 1)]


def test_rows_of_a_record_are_refused_together(make_sink, query, charges):
    """A trigger or constraint that an operator put there refuses records, never half of one."""
    sink = make_sink()
    sink.open()
    query("ALTER TABLE charges ADD CHECK (record_id <> 'seg-1' OR line < 1)")
    with pytest.raises(RejectedRecords, match="violates check constraint"):
        sink.write(charges(3))
    assert [record for record, _ in keys(sink)] == ["seg-0", "seg-0", "seg-2", "seg-2"]
    query("ALTER TABLE charges DROP CONSTRAINT charges_check")
    sink.write(charges(3))
    assert len(keys(sink)) == 6


def test_refusing_all_names_all(make_sink, query, charges):
    """Every record that is refused is named, with its reason; none of them is half there."""
    sink = make_sink()
    sink.open()
    query(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the month is closed'; END $$; "
        "CREATE TRIGGER closed BEFORE INSERT ON charges FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    with pytest.raises(RejectedRecords) as caught:
        sink.write(charges(20))
    assert caught.value.rejected == {f"seg-{number}": "the month is closed" for number in range(20)}
    assert keys(sink) == []


def test_refusals_that_take_too_long_are_named_as_far_as_they_are_known(dsn, charges):
    """The time for a batch is kept also then: what is known to be refused leaves it, and the rest comes again."""
    now = [0.0]
    sink = PostgresSink(PostgresSink.Options(dsn=dsn), monotonic=lambda: now[0])
    sink.open()
    send = sink._commit

    def slowly(connection, rows, deadline):
        now[0] += 2
        send(connection, rows, deadline)

    sink._commit = slowly
    rows = [replace(row, room="nul\0byte") for row in charges(8)]
    with pytest.raises(RejectedRecords) as caught:
        sink.write(rows)
    sink.close()
    assert list(caught.value.rejected) == ["seg-0", "seg-1"]


# What an operator mends: the batch comes again.


def test_server_that_is_down_is_retryable_and_comes_back(server, make_sink, charges):
    """A batch waits while the server is down, also one that died under an open connection."""
    sink = make_sink()
    sink.write(charges(1))
    server.kill()
    try:
        for attempt in (lambda: sink.write(charges(2)), sink.check, lambda: keys(sink)):
            with pytest.raises(RetryableError) as caught:
                attempt()
            assert str(caught.value).startswith(f"127.0.0.1:{server.port}/test-")
            assert "\n" not in str(caught.value)
        assert "Connection refused" in str(caught.value)
    finally:
        server.start()
    sink.write(charges(2))
    assert len(keys(sink)) == 4


@contextmanager
def locked(dsn):
    """Hold the table, so that a batch waits in the middle of its transaction."""
    with psycopg.connect(dsn) as connection:
        connection.execute("LOCK TABLE charges IN EXCLUSIVE MODE")
        yield connection


def test_connection_that_dies_mid_batch_leaves_nothing(server, make_sink, dsn, charges, until):
    """What was not committed is not there; the same batch again is."""
    sink, errors = make_sink(), []
    sink.open()
    with locked(dsn) as other:
        writing = threading.Thread(target=lambda: errors.append(_error(sink.write, charges(3))))
        writing.start()
        until(server.waiting)
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        writing.join()
    assert isinstance(errors[0], RetryableError)
    assert "terminating connection" in str(errors[0])
    assert keys(sink) == []
    sink.write(charges(3))
    assert len(keys(sink)) == 6


def _error(action, *arguments):
    try:
        action(*arguments)
    except Exception as error:
        return error
    return None


def test_lock_that_is_held_is_waited_for_only_so_long(make_sink, dsn, charges):
    """The server gives up the statement itself, so that nothing of it goes on there."""
    sink = make_sink(statement_timeout=0.3)
    sink.open()
    with locked(dsn), pytest.raises(RetryableError, match="statement timeout"):
        sink.write(charges(1))
    sink.write(charges(1))
    assert len(keys(sink)) == 2


def test_server_that_hangs_holds_up_nothing_for_long(server, make_sink, charges):
    """A server process that answers no more is cut off at the timeout, and so is the goodbye."""
    sink, other = make_sink(timeout=0.5), make_sink()
    other.open()
    sink.write(charges(1))
    with server.stopped():
        with pytest.raises(RetryableError, match="no answer in time"):
            sink.write(charges(2))
        sink.close()
        other.close()
    sink.write(charges(2))
    assert len(keys(sink)) == 4


def test_address_that_never_answers_is_given_up(make_sink, charges):
    """Something that accepts connections and says nothing is not waited for longer than `connect_timeout`."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        sink = make_sink(dsn=f"host=127.0.0.1 port={silent.getsockname()[1]} dbname=x", connect_timeout=2)
        with pytest.raises(RetryableError, match="timeout expired"):
            sink.write(charges(1))


def test_full_disk_is_retryable(make_sink, query, charges):
    """What the server says of a full disk delays a batch and refuses nothing."""
    sink = make_sink()
    sink.open()
    query(
        "CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION "
        "'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$; "
        "CREATE TRIGGER full_disk BEFORE INSERT ON charges FOR EACH ROW EXECUTE FUNCTION fill()"
    )
    with pytest.raises(RetryableError, match="No space left"):
        sink.write(charges(3))
    query("DROP TRIGGER full_disk ON charges")
    sink.write(charges(3))
    assert len(keys(sink)) == 6


def test_standby_is_retryable(make_sink, query, dsn, charges):
    """A database that takes no writes now, such as after a failover, takes them later."""
    sink = make_sink()
    sink.open()
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    query(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    sink.close()
    with pytest.raises(RetryableError, match="read-only transaction"):
        sink.write(charges(1))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(f'ALTER DATABASE "{name}" RESET ALL')
    sink.write(charges(1))
    assert len(keys(sink)) == 2


def test_wrong_password_is_said_without_it(make_sink, server, charges):
    """Authentication is an operator's to mend; no password is in any message."""
    wrong = "not-the-right-one"
    sink = make_sink(dsn=f"postgresql://postgres:{wrong}@127.0.0.1:{server.port}/postgres")
    for attempt in (sink.check, sink.open, lambda: sink.write(charges(1)), lambda: keys(sink)):
        with pytest.raises(RetryableError) as caught:
            attempt()
        said = str(caught.value)
        assert said == f'127.0.0.1:{server.port}/postgres: password authentication failed for user "postgres"'
        assert caught.value.__context__ is None
    assert wrong not in repr(sink) + repr(PostgresSink.Options(dsn=f"postgresql://u:{wrong}@h/d"))


def test_check_says_which_right_is_missing(make_sink, query, server, dsn, charges):
    """A role that may connect but not write is told what to ask for."""
    make_sink().write(charges(1))
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    role = f"reader_{secrets.token_hex(4)}"
    query(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
    sink = make_sink(dsn=server.dsn(dbname=name, user=role))
    with pytest.raises(RetryableError, match="permission denied for table costmeter_schema"):
        sink.check()
    query(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    with pytest.raises(RetryableError, match="no right to INSERT"):
        sink.check()
    assert len(keys(sink)) == 2
    query(f'GRANT INSERT ON charges TO {role}; REVOKE TEMPORARY ON DATABASE "{name}" FROM PUBLIC')
    with pytest.raises(RetryableError, match="temporary tables"):
        sink.check()
    query(f'GRANT TEMPORARY ON DATABASE "{name}" TO {role}')
    sink.write(charges(2))
    assert sink.check() == f'127.0.0.1:{server.port}/{name}: 4 rows in "public".charges, layout {VERSION}'


# Layouts.


@pytest.mark.parametrize(
    ("where", "index"),
    [
        ("at >= '2026-11-20' ORDER BY at, record_id, line", "charges_at"),
        ("session_id = 'session-1'", "charges_session"),
        ("account = 'acme' AND at >= '2026-11-20'", "charges_account_at"),
    ],
)
def test_questions_of_reports_use_an_index(make_sink, dsn, where, index):
    """A period, a session, and an account's period are found without reading the whole table."""
    make_sink().open()
    with psycopg.connect(dsn) as connection:
        connection.execute("SET enable_seqscan = off")  # what a table that is not empty makes of itself
        plan = connection.execute(f"EXPLAIN SELECT cost FROM charges WHERE {where}").fetchall()
    assert index in str(plan)


def test_older_layout_gets_what_it_lacks(make_sink, query, charges):
    """Columns and indexes are added, whatever hosts come at once; rows that are there stay, and can be read."""
    make_sink().write(charges(1))
    query(
        "ALTER TABLE charges DROP COLUMN credits, DROP COLUMN corrects; DROP INDEX charges_session; "
        "UPDATE costmeter_schema SET version = 1"
    )
    sink = make_sink()
    sink.write(charges(2))
    assert query("SELECT version FROM costmeter_schema") == [(VERSION,)]
    assert query("SELECT to_regclass('charges_session')::text") == [("charges_session",)]
    commented = "SELECT attname FROM pg_attribute WHERE col_description(attrelid, attnum) = %s"
    assert query(commented, "credits that it takes") == [("credits",)]
    assert list(sink.read()) == charges(2)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("UPDATE costmeter_schema SET version = 99", "layout 99 is of a newer release"),
        ("ALTER TABLE charges DROP COLUMN credits", "no column credits"),
        ("ALTER TABLE charges ALTER COLUMN cost TYPE double precision", "cost .* is double precision, not numeric"),
        ("DROP TABLE costmeter_schema", "do not belong together"),
    ],
)
def test_layout_that_does_not_fit_is_named(make_sink, query, charges, change, problem):
    """Nothing is written into a table that charges do not fit in; `check` says what is wrong."""
    make_sink().write(charges(1))
    query(change)
    sink = make_sink()
    for attempt in (sink.check, lambda: sink.write(charges(2))):
        with pytest.raises(SinkError, match=problem):
            attempt()
    assert query("SELECT count(*) FROM charges") == [(2,)]


def test_layout_holds_every_field_of_a_charge():
    """A field without a column or comment would be found here."""
    assert tuple(column.name for column in COLUMNS) == CHARGE_FIELDS
    assert all(column.comment for column in COLUMNS)
    assert {column.name for column in COLUMNS if not column.required} >= {"cost", "account", "session_id"}


@pytest.mark.parametrize("dsn", ["", "not a dsn secret=hunter22", "postgresql://u:hunter22@h:x y/d"])
def test_connection_string_that_cannot_be_read_is_not_quoted(dsn):
    """A mistake is said by example, because the text itself holds a password."""
    with pytest.raises(ValueError, match="expected a connection string such as") as caught:
        PostgresSink.Options(dsn=dsn)
    assert "hunter22" not in str(caught.value)


# Reading it back, and filling it from another ledger.

CONFIG = """\
sinks:
  - {type: sqlite, path: ./costmeter.db}
  - {name: warehouse, type: postgres, dsn: "${COSTMETER_DSN}", schema: costs}
"""


@pytest.fixture
def run(dsn, monkeypatch):
    """Configure a SQLite ledger beside a warehouse that is still empty; returns a function that runs a command."""
    Path("costmeter.yaml").write_text(CONFIG)
    monkeypatch.setenv("COSTMETER_DSN", dsn)
    return lambda *arguments: CliRunner().invoke(costmeter, arguments, prog_name="costmeter")


@pytest.fixture
def ledger(run, charges):
    """Fill the SQLite ledger."""
    sink = SqliteSink(SqliteSink.Options(path=Path("costmeter.db")))
    sink.write(charges(50))
    sink.close()


def test_reports_from_a_filled_warehouse_say_the_same(run, ledger):
    """A ledger that is copied over gives the same report and the same export, to the byte."""
    result = run("backfill", "--from", "sqlite", "--to", "warehouse")
    assert (result.exit_code, result.stderr) == (0, "copied 100 rows from sqlite to warehouse\n")
    for command in (
        ("report", "--by", "account,day", "--format", "json"),
        ("report", "--since", "2026-11-20T18:10Z", "--until", "2026-11-20T18:20Z", "--format", "csv"),
        ("export",),
    ):
        there, here = run(*command, "--sink", "warehouse"), run(*command, "--sink", "sqlite")
        assert there.exit_code == 0
        assert there.stdout == here.stdout


def test_a_warehouse_that_fails_while_it_is_filled_is_filled_by_the_second_run(
    run, ledger, make_sink, query, monkeypatch
):
    """The command says how far it came, and the same command goes on."""
    monkeypatch.setattr(PostgresSink, "batch_rows", 20)
    make_sink(schema="costs").open()
    query(
        "CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.record_id = 'seg-29' THEN RAISE EXCEPTION 'no space' USING ERRCODE = 'disk_full'; END IF; "
        "RETURN NEW; END $$; "
        "CREATE TRIGGER full_disk BEFORE INSERT ON costs.charges FOR EACH ROW EXECUTE FUNCTION fill()"
    )
    result = run("backfill", "--from", "sqlite", "--to", "warehouse")
    assert result.exit_code == 2
    assert result.stderr.endswith("no space; 40 rows are copied, the same command goes on from there\n")
    query("DROP TRIGGER full_disk ON costs.charges")
    result = run("backfill", "--from", "sqlite", "--to", "warehouse")
    assert result.stderr == "copied 100 rows from sqlite to warehouse (40 of them before)\n"
    assert run("export", "--sink", "warehouse").stdout == run("export", "--sink", "sqlite").stdout


def test_check_of_the_configuration_names_a_mistake_without_the_password(run, monkeypatch):
    """A misspelt option, a connection string that is none, and a server that is away are one line each."""
    Path("costmeter.yaml").write_text(CONFIG.replace("schema:", "schemas:"))
    result = run("check")
    assert "sinks[1].schemas: unknown key (allowed: connect_timeout, dsn, schema, " in result.stderr
    Path("costmeter.yaml").write_text(CONFIG)
    monkeypatch.setenv("COSTMETER_DSN", "horse battery staple 99")
    result = run("check")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "sinks[1].dsn: expected a connection string such as" in result.stderr
    assert "staple" not in result.output
    monkeypatch.setenv("COSTMETER_DSN", "postgresql://u:staple-99@127.0.0.1:1/d")
    result = run("check")
    assert result.exit_code == 1
    assert "sink warehouse  127.0.0.1:1/d: Connection refused" in result.stdout
    assert "staple" not in result.output
