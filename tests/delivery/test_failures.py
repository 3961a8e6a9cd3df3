"""
What fails around a sink, case by case: the failures that are the same for all, and where each sink's own are tested.

`CELLS` is the table of the README: what becomes of the charges, and the test that shows it, or why there is none.
"""

import ast
import asyncio
import fcntl
import json
import os
import re
import resource
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web

from livekit_costmeter.delivery import inspect, list_segments
from livekit_costmeter.delivery.backlog import segment_path
from livekit_costmeter.delivery.sinks import RetryableError
from livekit_costmeter.delivery.sinks.jsonl import JsonlSink
from livekit_costmeter.delivery.sinks.memory import MemorySink
from livekit_costmeter.delivery.sinks.stdout import StdoutSink
from livekit_costmeter.records import parse_usage, usage_json
from livekit_costmeter.testing import LoopbackProviders
from tests.engines.engine import Engine
from tests.engines.receiver import Receiver

ROOT = Path(__file__).parents[2]
WORKER = ROOT / "tests" / "agents" / "worker.py"
SCRIPT = Path(__file__).parent / "children" / "append_and_leave.py"
SINKS = ROOT / "livekit_costmeter" / "delivery" / "sinks"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
FAILURES = ("down at start", "dies in a batch", "hangs", "refuses one", "refuses all", "login", "disk full", "clock")
ANY_CHARGE = "n/a: it takes any charge"
NO_LOGIN = "n/a: no login; a path without rights is down at start"
NO_CLOCK = "kept: here::test_sinks_do_not_ask_what_time_it_is"
LEAVES = "waits: here::test_script_leaves_a_sink_that_hangs"
CELLS = {
    "sqlite": (
        "waits: sqlite::test_a_path_that_cannot_be_opened_is_said_at_once",
        "waits: sqlite::test_batch_is_all_or_nothing",
        "waits: sqlite::test_locked_database_is_retryable",
        "waits: sqlite::test_batch_is_all_or_nothing",
        "waits: sqlite::test_file_that_is_no_database_is_said_plainly",
        NO_LOGIN,
        "waits: sqlite::test_full_disk_is_retryable",
        NO_CLOCK,
    ),
    "jsonl": (
        "waits: jsonl::test_missing_directory_is_said_plainly",
        "waits: jsonl::test_torn_last_line_is_cut_off",
        "waits: here::test_json_lines_that_another_process_holds_wait",
        ANY_CHARGE,
        "waits: here::test_json_lines_that_cannot_be_a_file_wait",
        NO_LOGIN,
        "waits: here::test_json_lines_wait_for_room_on_the_disk",
        "kept: here::test_json_lines_stay_in_order_when_the_clock_steps_back",
    ),
    "stdout": (
        "waits: stdout::test_reader_that_left_is_retryable",
        "waits: stdout::test_reader_that_left_is_retryable",
        LEAVES,
        ANY_CHARGE,
        "waits: stdout::test_reader_that_left_is_retryable",
        "n/a: no login",
        "waits: here::test_output_waits_for_room_on_the_disk",
        NO_CLOCK,
    ),
    "postgres": (
        "waits: postgres::test_server_that_is_down_is_retryable_and_comes_back",
        "waits: postgres::test_connection_that_dies_mid_batch_leaves_nothing",
        "waits: postgres::test_server_that_hangs_holds_up_nothing_for_long",
        "dead letter: postgres::test_refused_record_is_refused_alone",
        "dead letter: postgres::test_refusing_all_names_all",
        "waits: postgres::test_wrong_password_is_said_without_it",
        "waits: postgres::test_full_disk_is_retryable",
        NO_CLOCK,
    ),
    "clickhouse": (
        "waits: clickhouse::test_server_that_is_not_there_is_retryable",
        "waits: clickhouse::test_server_that_dies_gets_the_batch_when_it_is_back",
        "waits: clickhouse::test_server_that_hangs_holds_nobody_up",
        "dead letter: clickhouse::test_refused_record_is_named_and_the_rest_is_written",
        "dead letter: clickhouse::test_refusing_everything_names_everything",
        "waits: clickhouse::test_wrong_password_is_retryable_and_said_without_it",
        "waits: clickhouse::test_full_server_is_retryable",
        "kept: clickhouse::test_no_clock_of_ours_decides",
    ),
    "parquet": (
        "waits: parquet::test_store_that_is_not_there_is_retryable",
        "waits: parquet::test_store_that_dies_in_the_middle_gets_the_batch_when_it_is_back",
        "waits: parquet::test_store_that_hangs_holds_nobody_up",
        "dead letter: parquet::test_value_that_does_not_fit_is_refused_and_never_cut",
        "dead letter: parquet::test_refusing_everything_names_everything",
        "waits: parquet::test_wrong_key_is_retryable_and_said_without_it",
        "waits: parquet::test_full_disk_is_retryable_and_leaves_nothing",
        "kept: parquet::test_row_that_was_there_first_counts",
    ),
    "nats": (
        "waits: nats::test_server_that_is_down_is_retryable",
        "waits: nats::test_server_that_dies_in_the_middle_has_every_row_once_in_the_end",
        "waits: nats::test_server_that_hangs_holds_nobody_up",
        "dead letter: nats::test_record_that_is_too_large_is_refused_alone",
        "waits: nats::test_stream_that_refuses_everything_is_retryable",
        "waits: nats::test_wrong_password_is_said_without_it",
        "waits: nats::test_full_store_is_retryable",
        NO_CLOCK,
    ),
    "kafka": (
        "waits: kafka::test_brokers_that_are_down_are_retryable",
        "waits: kafka::test_broker_that_dies_in_the_middle_has_every_row_in_the_end",
        "waits: kafka::test_broker_that_hangs_holds_nobody_up",
        "dead letter: kafka::test_record_that_is_too_large_is_refused_alone",
        "waits: kafka::test_broker_that_refuses_everything_is_retryable",
        "waits: kafka::test_wrong_authentication_is_said_without_waiting_and_without_the_secret",
        "waits: kafka::test_full_disk_of_the_broker_delays_rows",
        "waits: kafka::test_broker_that_refuses_everything_is_retryable",
    ),
    "redis": (
        "waits: redis::test_redis_that_is_down_is_retryable",
        "waits: redis::test_redis_that_dies_in_the_middle_keeps_whole_records_once",
        "waits: redis::test_redis_that_hangs_holds_nobody_up",
        ANY_CHARGE,
        "waits: redis::test_key_that_is_no_stream_is_said_and_loses_nothing",
        "waits: redis::test_wrong_password_is_said_without_it",
        "waits: redis::test_full_redis_is_retryable_and_marks_nothing",
        "kept: redis::test_clock_of_redis_that_steps_back_loses_nothing",
    ),
    "http": (
        "waits: http::test_down_at_start_is_retryable",
        "waits: http::test_death_in_the_middle_is_retryable",
        "waits: http::test_hanging_receiver_holds_nobody_up",
        "dead letter: http::test_refused_record_is_found",
        "dead letter: http::test_refusal_of_everything_names_every_record",
        "waits: http::test_what_an_operator_mends_is_retryable",
        "waits: http::test_what_an_operator_mends_is_retryable",
        "kept: http::test_clock_that_steps_back_delays_nothing",
    ),
    "otlp": (
        "waits: otlp::test_down_at_start_is_retryable",
        "waits: otlp::test_death_in_the_middle_is_retryable",
        "waits: otlp::test_hanging_collector_holds_nobody_up",
        "dead letter: otlp::test_refused_record_is_found",
        "dead letter: otlp::test_refusal_of_everything_names_every_record",
        "waits: otlp::test_what_an_operator_mends_is_retryable",
        "waits: otlp::test_what_an_operator_mends_is_retryable",
        "kept: otlp::test_clock_that_steps_back_delays_nothing",
    ),
    "prometheus": (
        "waits: prometheus::test_directory_that_cannot_be_written_is_retryable",
        "waits: prometheus::test_file_of_a_former_process_is_carried_on",
        "n/a: memory, and one local file",
        ANY_CHARGE,
        "waits: prometheus::test_directory_that_cannot_be_written_is_retryable",
        "n/a: no login",
        "waits: prometheus::test_full_disk_is_retryable",
        NO_CLOCK,
    ),
}


@pytest.fixture
def charges(rates):
    """Make the two charges of each of `count` records."""

    def make(count, first=0):
        records = [parse_usage(usage_json(rates.usage(id=f"seg-{number}"))) for number in range(first, first + count)]
        return [charge for record in records for charge in rates.two_charges(record)]

    return make


@pytest.fixture
def make_json_lines(tmp_path):
    """Make JSON Lines sinks on the same file."""

    def make(now=lambda: datetime.now(UTC), **options):
        return JsonlSink(JsonlSink.Options(path=tmp_path / "charges.jsonl", **options), now=now)

    return make


def functions(path):
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("sink", CELLS)
def test_every_failure_of_every_sink_is_tested_or_explained(sink):
    """A cell of the table names a test that is there, or says why the failure cannot happen."""
    assert len(CELLS[sink]) == len(FAILURES)
    for cell in CELLS[sink]:
        outcome, _, proof = cell.partition(": ")
        assert outcome in ("waits", "kept", "dead letter", "n/a")
        module, _, test = proof.partition("::")
        if outcome != "n/a":
            path = Path(__file__) if module == "here" else Path(__file__).parent / "sinks" / f"test_{module}.py"
            assert test in functions(path), f"{sink}: {proof}"


def test_readme_has_the_table():
    """What users read is what is tested, for every sink that there is."""
    text = (ROOT / "README.md").read_text()
    lines = re.findall(r"^\| `(\w+)` \| ((?:waits|kept|dead letter|n/a).*) \|$", text, re.MULTILINE)
    found = {sink: tuple(cell.strip() for cell in cells.split("|")) for sink, cells in lines}
    assert found == {sink: tuple(cell.partition(":")[0] for cell in cells) for sink, cells in CELLS.items()}


def hole_options(port):
    """Return what the YAML says of each sink on a network, whose server takes connections and says nothing."""
    login, storage = f"u:p@127.0.0.1:{port}", {"key": "k", "secret": "s", "endpoint_url": f"http://127.0.0.1:{port}"}
    return {
        "postgres": {"dsn": f"postgresql://{login}/d", "connect_timeout": 600, "timeout": 600},
        "clickhouse": {"dsn": f"http://{login}/d", "timeout": 600, "linger": 0},
        "parquet": {"url": "s3://lake/costs", "storage": storage, "timeout": 600, "linger": 0},
        "nats": {"url": f"nats://{login}", "timeout": 600},
        "kafka": {"brokers": f"127.0.0.1:{port}", "timeout": 600},
        "redis": {"url": f"redis://{login}/0", "timeout": 600},
        "http": {"url": f"http://127.0.0.1:{port}/", "timeout": 600},
        "otlp": {"endpoint": f"http://127.0.0.1:{port}", "timeout": 600},
    }


FILES = {
    "sqlite": {"path": "costmeter.db", "busy_timeout": 600},
    "jsonl": {"path": "charges.jsonl", "timeout": 600},
    "stdout": {},
}


@pytest.fixture
def hole():
    """Listen on a port, and never answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def hold(directory, held):
    """Hold the files of the sinks in a directory, as a process that hangs while it writes."""
    database = held.enter_context(closing(sqlite3.connect(directory / "costmeter.db", isolation_level=None)))
    database.execute("BEGIN EXCLUSIVE")
    fcntl.flock(held.enter_context((directory / "charges.jsonl.lock").open("w")), fcntl.LOCK_EX)


def configure(directory, **sinks):
    """Write a configuration with these sinks; nothing is priced."""
    entries = [{"type": name, **options} for name, options in sinks.items()]
    (directory / "costmeter.yaml").write_text(json.dumps({"pricing": {"catalogs": []}, "sinks": entries}))


@pytest.mark.slow
@pytest.mark.parametrize("sink", [*FILES, *hole_options(0)])
def test_script_leaves_a_sink_that_hangs(tmp_path, hole, sink):
    """A process ends while its only sink hangs for ten minutes, and what it appended stays in the spool."""
    configure(tmp_path, **{sink: {**FILES, **hole_options(hole)}[sink]})
    command = [sys.executable, SCRIPT, tmp_path / "costmeter.yaml", "500"]
    with ExitStack() as held:
        hold(tmp_path, held)
        # Nobody reads the pipe: a sink that prints hangs when it is full.
        process = held.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, env=ENVIRONMENT, cwd=tmp_path))
        held.callback(process.kill)
        assert process.wait(timeout=60) == 0
    spool = tmp_path / ".costmeter" / "spool"
    assert sum(inspect(segment_path(spool, name)).records for name in list_segments(spool)) == 500


@pytest.fixture
def stores(tmp_path):
    """Run a web server that takes everything, and a bucket; return what the YAML says of the sinks on them."""
    receiver = Receiver()
    receiver.script = lambda _request: web.Response(content_type="application/x-protobuf")
    (tmp_path / "moto").mkdir()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p"]
    moto = Engine(lambda port, _: [*command, port], tmp_path / "moto")
    address = f"http://localhost:{moto.port}"
    urllib.request.urlopen(urllib.request.Request(f"{address}/lake", method="PUT"), timeout=60).close()
    storage = {"key": "k", "secret": "s", "endpoint_url": address}
    yield {
        "http": {"url": f"http://localhost:{receiver.port}/"},
        "otlp": {"endpoint": f"http://localhost:{receiver.port}"},
        "parquet": {"url": "s3://lake/costs", "storage": storage},
    }
    moto.kill()
    receiver.end()


@pytest.mark.slow
def test_script_that_is_over_at_once_has_delivered(tmp_path, stores):
    """The first delivery of a short script is its last pass, while the interpreter ends and executors take no work."""
    configure(tmp_path, **stores)
    command = [sys.executable, SCRIPT, tmp_path / "costmeter.yaml", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT, cwd=tmp_path)
    assert "is away" not in done.stderr
    assert list_segments(tmp_path / ".costmeter" / "spool") == []


@pytest.mark.slow
async def test_worker_and_jobs_leave_sinks_that_hang(tmp_path, hole):
    """A job ends, and its worker, while every sink but one hangs; that one has the call, the others are owed it."""
    (tmp_path / "notes").mkdir()
    configure(tmp_path, sqlite={"path": "costmeter.db"}, **hole_options(hole))
    environment = {"NOTES": str(tmp_path / "notes"), "COSTMETER_CONFIG": str(tmp_path / "costmeter.yaml")}
    async with LoopbackProviders() as providers:
        environment |= {**ENVIRONMENT, "PROVIDERS": providers.openai_url.removesuffix("/openai/v1")}
        worker = await asyncio.create_subprocess_exec(
            sys.executable, str(WORKER), stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        try:
            worker.stdin.write(b"job short-one\n")
            job = int(await text_of(tmp_path / "notes" / "finished-short-one"))
            await until(lambda: is_gone(job))
            await until(lambda: noted(tmp_path, job) <= shipped(tmp_path / "costmeter.db"))
            worker.stdin.close()
            assert await asyncio.wait_for(worker.wait(), 60) == 0
        finally:
            with suppress(ProcessLookupError):
                worker.kill()
    assert noted(tmp_path, job)
    assert list_segments(tmp_path / ".costmeter" / "spool")


async def until(condition):
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.1)


async def text_of(path):
    await until(lambda: path.exists() and path.read_text())
    return path.read_text()


def is_gone(pid):
    # A job that has ended and that nobody has waited for yet is a zombie.
    status = Path(f"/proc/{pid}/stat")
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"


def noted(directory, pid):
    return set((directory / "notes" / str(pid)).read_text().split())


def shipped(database):
    if not database.exists():
        return set()
    with closing(sqlite3.connect(database)) as connection, suppress(sqlite3.OperationalError):
        return {record for (record,) in connection.execute("SELECT record_id FROM charges")}
    return set()


def test_json_lines_that_another_process_holds_wait(make_json_lines, tmp_path, charges):
    """A process that hangs while it appends costs the others `timeout`; afterwards the rows arrive."""
    sink = make_json_lines(timeout=0.05)
    with (tmp_path / "charges.jsonl.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(RetryableError, match="another process"):
            sink.write(charges(1))
    sink.write(charges(1))
    assert len(list(sink.read())) == 2


def test_json_lines_that_cannot_be_a_file_wait(make_json_lines, tmp_path, charges):
    """A folder where the file should be is an operator's to move."""
    (tmp_path / "charges.jsonl").mkdir()
    sink = make_json_lines()
    with pytest.raises(RetryableError, match="directory"):
        sink.write(charges(1))
    (tmp_path / "charges.jsonl").rmdir()
    sink.write(charges(1))
    assert len(list(sink.read())) == 2


def test_json_lines_wait_for_room_on_the_disk(make_json_lines, charges):
    """A disk without room delays a batch; what was begun is taken back, and the rows arrive once."""
    sink = make_json_lines()
    sink.write(charges(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, before[1]))
    try:
        for _ in range(2):
            with pytest.raises(RetryableError):
                sink.write(charges(60))
            assert len(list(sink.read())) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    sink.write(charges(60))
    assert len(list(sink.read())) == 120


def test_json_lines_stay_in_order_when_the_clock_steps_back(make_json_lines, charges):
    """Files that rotate under an earlier time are still the newest: the oldest are deleted, and none is overwritten."""
    hours = iter(range(30, 0, -1))
    sink = make_json_lines(
        now=lambda: datetime(2026, 11, 20, tzinfo=UTC) + timedelta(hours=next(hours)), max_bytes=3_000, keep=3
    )
    for number in range(10):
        sink.write(charges(1, first=number))
    found = [charge.record_id for charge in sink.read()][::2]
    assert len(found) >= 4
    assert found == [f"seg-{number}" for number in range(10)][-len(found) :]


def test_output_waits_for_room_on_the_disk(charges):
    """A stream into a full disk delays the charges, and says so."""
    stream = Path("/dev/full").open("w")  # noqa: SIM115 - its end fails, too
    try:
        with pytest.raises(RetryableError, match="No space left"):
            StdoutSink(stream=stream).write(charges(1))
    finally:
        with suppress(OSError):
            stream.close()


def test_sinks_do_not_ask_what_time_it_is():
    """A clock that steps back has nothing to decide: sinks wait by the monotonic clock, and order nothing by ours."""
    asking = {
        path.stem
        for path in SINKS.glob("*.py")
        if re.search(r"\btime\.time(_ns)?\b|datetime\.(now|utcnow|today)\b", path.read_text())
    }
    # One signs with it, the other names files with it; each has a test of its own.
    assert asking == {"http", "jsonl"}


def test_clock_that_steps_back_between_segments_loses_nothing(make_spool, make_shipper, rates, rows, expected):
    """Segments that seem to come from the future or the past are shipped like any other."""
    ids = []
    for moment in (2e9, 1e9, 1.5e9, 1e9):
        spool = make_spool(clock=lambda moment=moment: moment)
        ids += [spool.append(rates.body()) for _ in range(3)]
        spool.close()
    sink = MemorySink()
    make_shipper(sinks={"ledger": sink}).ship_once()
    assert sorted(rows(sink)) == sorted(expected(ids))
