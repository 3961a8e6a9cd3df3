"""The sink that keeps charges in memory."""

from datetime import UTC, datetime

from livekit_costmeter.delivery.sinks.memory import MemorySink


def test_named_rows_are_shared(tmp_path, charges):
    """Sinks of one name see the same rows, unnamed ones only their own."""
    options = MemorySink.Options(name=str(tmp_path))
    MemorySink(options).write(charges(1))
    assert len(MemorySink(options).charges) == 2
    assert MemorySink().charges == []


def test_read_is_bounded(charges):
    """`since` is included, `until` is not."""
    sink = MemorySink()
    sink.write(charges(4))
    since, until = datetime(2026, 11, 20, 18, 1, tzinfo=UTC), datetime(2026, 11, 20, 18, 3, tzinfo=UTC)
    assert [charge.record_id for charge in sink.read(since, until)][::2] == ["seg-1", "seg-2"]
