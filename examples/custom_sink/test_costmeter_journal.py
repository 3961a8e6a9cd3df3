"""The journal keeps the contract of sinks, and what else it promises."""

from pathlib import Path

import pytest
from costmeter_journal import JournalSink

from livekit_costmeter.delivery.sinks import RejectedRecords, find_sink
from livekit_costmeter.testing import check_sink


def test_it_keeps_the_contract(tmp_path: Path) -> None:
    """Repeats, overlaps and restarts leave one set of equal rows."""
    check_sink(lambda: JournalSink(JournalSink.Options(path=tmp_path / "costs.journal")))


def test_it_is_found_by_its_type() -> None:
    """The YAML's `type: journal` is this class, once the package is installed."""
    assert find_sink("journal") is JournalSink


def test_torn_line_is_replaced(tmp_path: Path) -> None:
    """Half a line that a crash left does not stand in the way of the next ones."""
    path = tmp_path / "costs.journal"
    path.write_bytes(b"2026-11-20T18:11:24")
    check_sink(lambda: JournalSink(JournalSink.Options(path=path)))


def test_line_that_is_too_long_is_refused(tmp_path: Path) -> None:
    """A row that does not fit names its record, and nothing of the batch is written."""
    path = tmp_path / "costs.journal"
    sink = JournalSink(JournalSink.Options(path=path, max_line=1_024))
    with pytest.raises(RejectedRecords) as refusal:
        check_sink(lambda: sink)
    assert len(refusal.value.rejected) == 1
    assert path.read_bytes() == b""
