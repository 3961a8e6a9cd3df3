"""The Parquet sink, in a directory, in a bucket of moto (S3), and in one of a GCS emulator."""

import dataclasses
import resource
import stat
import sys
import threading
import time
import urllib.request
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from livekit_costmeter.cli import costmeter
from livekit_costmeter.delivery.sinks import RejectedRecords, RetryableError, SinkError, find_sink
from livekit_costmeter.delivery.sinks.parquet import SCHEMA, ParquetSink
from livekit_costmeter.delivery.sinks.sqlite import SqliteSink
from livekit_costmeter.records import CHARGE_FIELDS
from livekit_costmeter.testing import check_sink

GCS = Path(__file__).parents[2] / "engines" / "gcs.py"
SECRET = "correct-horse-battery"


def send(url, method, data=b""):
    request = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": "text/plain"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.status


class Bucket:
    """One bucket of an engine, which forgets it when it dies."""

    def __init__(self, engine, name):
        self.engine, self.name = engine, name
        self.make()

    def make(self):
        deadline = time.monotonic() + 20
        while True:
            try:
                assert send(f"http://127.0.0.1:{self.engine.port}/{self.name}", "PUT") == 200
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            else:
                return

    def require_keys(self, after):
        """Let the engine look at keys after that many requests."""
        send(f"http://127.0.0.1:{self.engine.port}/moto-api/reset-auth", "POST", after.encode())


@pytest.fixture(scope="session")
def moto(engine):
    """Start the S3 server."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p"]
    return engine("moto", lambda port, _: [*command, port])


@pytest.fixture
def bucket(moto, request):
    """Make a bucket for one test."""
    return Bucket(moto, request.node.name.partition("[")[0].replace("_", "-")[:60].strip("-"))


@pytest.fixture
def in_bucket(bucket):
    """Make sinks on the bucket, closed at the end."""
    made = []

    def make(*, port=None, name=bucket.name, **options):
        storage = {
            "key": "AKIAEXAMPLE",
            "secret": SECRET,
            "endpoint_url": f"http://127.0.0.1:{port or bucket.engine.port}",
        }
        made.append(ParquetSink(ParquetSink.Options(url=f"s3://{name}/lake/charges", storage=storage, **options)))
        return made[-1]

    yield make
    for sink in made:
        sink.close()


@pytest.fixture
def root(tmp_path):
    """Name a directory that does not exist yet."""
    return tmp_path / "lake"


@pytest.fixture
def in_directory(root):
    """Make sinks on the directory."""
    return lambda **options: ParquetSink(ParquetSink.Options(path=root, **options))


@pytest.fixture(params=["in_directory", "in_bucket"])
def make_sink(request):
    """Make sinks on the same files, in a directory and in a bucket."""
    return request.getfixturevalue(request.param)


def keys(sink):
    return sorted((charge.record_id, charge.line) for charge in sink.read())


def test_it_keeps_the_contract(make_sink):
    """Repeats, overlaps and restarts leave one set of equal rows."""
    check_sink(make_sink)


def test_it_keeps_the_contract_in_google_cloud_storage(engine):
    """`gs://` is the same sink; an object that is there is not written again."""
    server = engine("gcs", lambda port, _: [sys.executable, GCS, port, "costs"])
    storage = {"token": "anon", "project": "costs", "endpoint_url": f"http://127.0.0.1:{server.port}"}
    check_sink(lambda: ParquetSink(ParquetSink.Options(url="gs://costs/charges", storage=storage)))


def test_it_is_found_by_its_type():
    """The YAML's `type: parquet` is this class."""
    assert find_sink("parquet") is ParquetSink


def test_files_are_a_hive_table_of_days(in_directory, root, charges):
    """Any engine reads the folder as one table with a column `day`; types are exact and comments say what they are."""
    in_directory().write(
        [*charges(1), *(dataclasses.replace(row, at=datetime(2026, 11, 21, tzinfo=UTC)) for row in charges(1, 1))]
    )
    table = ds.dataset(root, partitioning="hive").to_table()
    assert sorted(set(table["day"].to_pylist())) == ["2026-11-20", "2026-11-21"]
    assert table.schema.names == [*CHARGE_FIELDS, "day"]
    assert table.schema.field("cost").type == pa.decimal128(38, 12)
    assert table.schema.field("at").type == pa.timestamp("us", tz="UTC")
    file = next(root.glob("*/*.parquet"))
    assert pq.read_schema(file).metadata[b"costmeter.layout"] == b"1"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_batch_that_comes_again_is_no_second_file(make_sink, charges):
    """The name is of the rows, in whatever order they come, and what is there is not written again."""
    sink = make_sink()
    sink.write(charges(5))
    before = sink._store.files("day=2026-11-20")
    make_sink().write(charges(5)[::-1])
    assert sink._store.files("day=2026-11-20") == before
    assert len(before) == 1


def test_batch_that_was_half_written_is_completed(make_sink, charges):
    """A process that dies between two days' files leaves whole files; the batch that comes again adds the other."""
    today = charges(2)
    tomorrow = [dataclasses.replace(row, at=datetime(2026, 11, 21, tzinfo=UTC)) for row in charges(2, 2)]
    make_sink().write(today)
    sink = make_sink()
    sink.write([*tomorrow, *today])
    assert len(keys(sink)) == 8
    assert [len(sink._store.files(day)) for day in sink._store.days()] == [1, 1]


def test_row_that_was_there_first_counts(make_sink, charges):
    """Of two files with one row, the older one is read, whatever their names and the rows' own clocks say."""
    row, other = charges(1)
    for number in range(3):
        late = dataclasses.replace(row, cost=Decimal(number), started_at=datetime(2026 - number, 1, 1, tzinfo=UTC))
        make_sink().write([late, dataclasses.replace(other, record_id=f"other-{number}")])
        time.sleep(1.1 if make_sink()._store.__class__.__name__ == "BucketStore" else 0)  # S3 tells seconds apart
    assert [charge.cost for charge in make_sink().read() if charge.record_id == "seg-0"] == [Decimal(0)]


def test_read_is_bounded(make_sink, charges):
    """`since` is included, `until` is not, and files of other days are not even opened."""
    sink = make_sink()
    sink.write(charges(5))
    sink._store.create("day=2026-11-19/odd.parquet", b"not a file of ours")
    since, until = datetime(2026, 11, 20, 18, 1, tzinfo=UTC), datetime(2026, 11, 20, 18, 3, tzinfo=UTC)
    found = [(charge.record_id, charge.line) for charge in sink.read(since, until)]
    assert found == [("seg-1", 0), ("seg-1", 1), ("seg-2", 0), ("seg-2", 1)]
    with pytest.raises(SinkError, match="no Parquet file of ours"):
        list(sink.read())


def test_reading_where_nothing_was_written_is_empty(make_sink, root):
    """A report before the first call is an empty one, and makes nothing."""
    assert list(make_sink().read()) == []
    assert not root.exists()


def run(*arguments):
    return CliRunner().invoke(costmeter, arguments, prog_name="costmeter")


COMMANDS = [
    ("report", "--by", "account,day", "--format", "json"),
    ("report", "--since", "2026-11-20T18:10Z", "--until", "2026-11-20T18:20Z", "--format", "csv"),
    ("export",),
]


@pytest.mark.parametrize("place", ["directory", "bucket"])
def test_reports_say_the_same_as_from_sqlite(place, bucket, charges, monkeypatch):
    """A ledger that is copied over gives the same report and the same export, to the byte."""
    monkeypatch.setenv("LAKE_SECRET", SECRET)
    storage = f"{{key: AKIA, secret: '${{LAKE_SECRET}}', endpoint_url: 'http://127.0.0.1:{bucket.engine.port}'}}"
    lake = "path: ./lake" if place == "directory" else f"url: 's3://{bucket.name}/lake', storage: {storage}"
    Path("costmeter.yaml").write_text(
        f"sinks:\n  - {{type: sqlite, path: ./costmeter.db}}\n  - {{name: lake, type: parquet, {lake}}}\n"
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
    """Hosts that send overlapping and equal batches at the same moment do not disturb each other."""
    errors, gate = [], threading.Barrier(4)

    def use(first):
        sink = make_sink()
        gate.wait()
        try:
            sink.write(charges(20, first=first))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=use, args=(first,)) for first in (0, 10, 0, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(keys(make_sink())) == 60


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cost", Decimal("0.0000000000001")),
        ("quantity", Decimal(10) ** 27),
        ("quantity", Decimal("NaN")),
        ("room", "half \ud83c"),
        ("line", 1 << 31),
    ],
)
def test_value_that_does_not_fit_is_refused_and_never_cut(in_directory, root, charges, field, value):
    """Its record alone is named, and nothing of the batch is written before that is known."""
    sink, (odd, *rest) = in_directory(), charges(3)[1:]
    with pytest.raises(RejectedRecords) as caught:
        sink.write([dataclasses.replace(odd, **{field: value}), *rest])
    assert list(caught.value.rejected) == ["seg-0"]
    assert not root.exists()


def test_refusing_everything_names_everything(in_directory, charges):
    """Where no row fits, each record is named."""
    with pytest.raises(RejectedRecords) as caught:
        in_directory().write([dataclasses.replace(row, cost=Decimal(10) ** 30) for row in charges(3)])
    assert sorted(caught.value.rejected) == ["seg-0", "seg-1", "seg-2"]


def test_full_disk_is_retryable_and_leaves_nothing(in_directory, root, charges):
    """A disk without room delays a batch, and what was begun is taken away."""
    sink = in_directory()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(RetryableError, match="File too large"):
            sink.write(charges(60))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path for path in root.rglob("*") if path.is_file()] == []
    sink.write(charges(60))
    assert len(keys(sink)) == 120


def test_directory_that_cannot_be_written_is_said(in_directory, root, charges):
    """A file where the folder should be is an operator's to move."""
    root.write_text("")
    for attempt in (in_directory().check, lambda: in_directory().write(charges(1))):
        with pytest.raises(RetryableError, match=f"{root}: (Not a directory|File exists)"):
            attempt()


def test_drive_that_hangs_holds_nobody_up(in_directory, charges, monkeypatch):
    """A network drive that says nothing costs `timeout`."""
    sink, stuck = in_directory(timeout=0.2), threading.Event()
    monkeypatch.setattr("livekit_costmeter.delivery.sinks.parquet_store.os.fsync", lambda _: stuck.wait(30))
    with pytest.raises(RetryableError, match=r"no answer within 0\.2 s"):
        sink.write(charges(1))
    stuck.set()
    assert sink.check()


def test_store_that_is_not_there_is_retryable(in_bucket, charges):
    """A store that is down at the start delays a batch; the reason names the address and no key."""
    sink = in_bucket(port=1)
    for attempt in (sink.check, lambda: sink.write(charges(1)), lambda: list(sink.read())):
        with pytest.raises(RetryableError, match=r"127\.0\.0\.1") as caught:
            attempt()
        assert SECRET not in str(caught.value)
        assert caught.value.__context__ is None


def test_store_that_dies_in_the_middle_gets_the_batch_when_it_is_back(in_bucket, bucket, charges):
    """A batch of which one file was written when the store died comes again whole."""
    sink = in_bucket(timeout=5)
    rows = [*charges(2), *(dataclasses.replace(row, at=datetime(2026, 11, 21, tzinfo=UTC)) for row in charges(2, 2))]
    create, written = sink._store.create, []

    def create_and_die(name, data):
        create(name, data)
        written.append(name)
        bucket.engine.kill()

    sink._store.create = create_and_die
    try:
        with pytest.raises(RetryableError):
            sink.write(rows)
    finally:
        bucket.engine.start()
    bucket.make()
    assert len(written) == 1
    in_bucket().write(rows)
    assert len(keys(in_bucket())) == 8


def test_store_that_hangs_holds_nobody_up(in_bucket, bucket, charges):
    """A store that says nothing costs `timeout`, and closing does not wait for it."""
    sink = in_bucket(timeout=1)
    sink.write(charges(2))
    bucket.engine.pause()
    try:
        with pytest.raises(RetryableError):
            sink.write(charges(4))
        sink.close()
        with pytest.raises(RetryableError):
            sink.check()
    finally:
        bucket.engine.resume()
    patient = in_bucket(timeout=20)
    patient.write(charges(4))
    assert len(keys(patient)) == 8


def test_missing_bucket_is_said(in_bucket):
    """The bucket is the operator's to make."""
    with pytest.raises(RetryableError, match="bucket does not exist"):
        in_bucket(name="nowhere").check()


def test_wrong_key_is_retryable_and_said_without_it(in_bucket, bucket, charges):
    """An operator mends it; the key is in nothing that is said or shown."""
    bucket.require_keys("0")
    sink = in_bucket()
    try:
        for attempt in (sink.check, lambda: sink.write(charges(1))):
            with pytest.raises(RetryableError, match=r"Access Key Id|denied|Forbidden") as caught:
                attempt()
            assert SECRET not in str(caught.value)
    finally:
        bucket.require_keys("inf")
    options = ParquetSink.Options(url="s3://costs", storage={"secret": SECRET})
    assert SECRET not in repr(options) + str(options) + repr(ParquetSink(options))


def test_newer_layout_is_refused_and_older_read_as_null(in_directory, root, charges):
    """A file of a later release is not read half; a column that an older one lacks is unknown."""
    in_directory().write(charges(1))
    (file,) = root.glob("*/*.parquet")
    table = pq.read_table(file, partitioning=None)
    pq.write_table(table.drop_columns(["corrects"]), file)
    assert [charge.corrects for charge in in_directory().read()] == [None, None]
    pq.write_table(table.replace_schema_metadata({**SCHEMA.metadata, b"costmeter.layout": b"99"}), file)
    for attempt in (in_directory().check, lambda: list(in_directory().read())):
        with pytest.raises(SinkError, match="layout 99"):
            attempt()


@pytest.mark.parametrize("options", [{}, {"path": "a", "url": "s3://b"}, {"url": "ftp://b/c"}, {"url": "s3://k:s@b/c"}])
def test_place_is_a_directory_or_a_bucket(options):
    """Anything else is an error of the configuration."""
    with pytest.raises(ValueError, match=r"expected either path or url|match pattern"):
        ParquetSink.Options(**options)
