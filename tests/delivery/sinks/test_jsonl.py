"""The JSON Lines ledger."""

import json
import stat
from datetime import UTC, datetime

import pytest

from livekit_costmeter.delivery.sinks import RetryableError, SinkError
from livekit_costmeter.delivery.sinks.jsonl import JsonlSink
from livekit_costmeter.records import CHARGE_FIELDS


@pytest.fixture
def path(tmp_path):
    """Name the current file."""
    return tmp_path / "charges.jsonl"


@pytest.fixture
def make_sink(path):
    """Make sinks on the same file."""
    return lambda **options: JsonlSink(JsonlSink.Options(path=path, **options))


def test_line_is_a_charge(make_sink, path, charges):
    """Each line holds every field, in the order of the vocabulary; the file is private."""
    make_sink().write(charges(1))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [list(line) for line in lines] == [list(CHARGE_FIELDS)] * 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_torn_last_line_is_cut_off(make_sink, path, charges):
    """Half a line that a crash left is replaced by the whole one when the batch comes again."""
    make_sink().write(charges(2))
    path.write_bytes(path.read_bytes()[:-25])
    assert len(list(make_sink().read())) == 3
    make_sink().write(charges(2))
    assert [(charge.record_id, charge.line) for charge in make_sink().read()] == [
        (f"seg-{n}", line) for n in (0, 1) for line in (0, 1)
    ]


def test_rotation_keeps_everything_by_default(make_sink, path, charges):
    """A full file is set aside under the time, and reading goes through all of them in order."""
    sink = make_sink(max_bytes=3_000)
    for number in range(10):
        sink.write(charges(1, first=number))
    assert len(list(path.parent.glob("charges.jsonl.2*"))) > 3
    assert [charge.record_id for charge in sink.read()][::2] == [f"seg-{n}" for n in range(10)]


def test_rotation_deletes_only_when_told(make_sink, path, charges, caplog):
    """With `keep`, the oldest files go, and the log says so."""
    caplog.set_level("INFO", "livekit.costmeter")
    sink = make_sink(max_bytes=3_000, keep=2)
    for number in range(10):
        sink.write(charges(1, first=number))
    assert len(list(path.parent.glob("charges.jsonl.2*"))) == 2
    assert "deleted" in caplog.text


def test_rows_sent_again_after_a_rotation_are_known(make_sink, charges):
    """A batch that was written just before the file rotated is not written again after a restart."""
    sink = make_sink(max_bytes=3_000)
    sink.write(charges(1))
    sink.write(charges(2, first=1))
    restarted = make_sink(max_bytes=3_000)
    restarted.write(charges(3))
    assert len(list(restarted.read())) == 6


def test_two_processes_know_each_others_rows(make_sink, path, charges):
    """A shipper that takes over a batch while both are open does not double it."""
    first, second = make_sink(), make_sink()
    first.open()
    second.open()
    first.write(charges(2))
    second.write(charges(3))
    first.write(charges(4))
    assert len(path.read_text().splitlines()) == 8


def test_read_leaves_out_copies(make_sink, path, charges):
    """A copy from further back than the sink remembers is not counted twice."""
    sink = make_sink()
    sink.write(charges(2))
    path.write_text(path.read_text() * 2)
    assert len(list(sink.read())) == 4


def test_read_is_bounded(make_sink, charges):
    """`since` is included, `until` is not."""
    sink = make_sink()
    sink.write(charges(4))
    since, until = datetime(2026, 11, 20, 18, 1, tzinfo=UTC), datetime(2026, 11, 20, 18, 2, tzinfo=UTC)
    assert [charge.record_id for charge in sink.read(since, until)] == ["seg-1", "seg-1"]


def test_foreign_line_is_named(make_sink, path, charges):
    """A line that is no charge is reported with its place, not skipped."""
    make_sink().write(charges(1))
    with path.open("a") as file:
        file.write('{"hello": 1}\n')
    with pytest.raises(SinkError, match=r"charges\.jsonl:3"):
        list(make_sink().read())


def test_missing_directory_is_said_plainly(tmp_path, charges):
    """A path that leads nowhere is named, and a batch waits."""
    sink = JsonlSink(JsonlSink.Options(path=tmp_path / "no" / "charges.jsonl"))
    with pytest.raises(SinkError, match="no such directory"):
        sink.check()
    with pytest.raises(RetryableError, match="No such file"):
        sink.write(charges(1))
