"""The memory of a shipper does not grow with what waits."""

import pytest

from tests.bench.backlog import BUDGET, ship_in_a_process
from tests.bench.throughput import fill


@pytest.mark.slow
def test_shipper_with_a_long_backlog_stays_small(tmp_path):
    """Half a million records, with real prices and into a real file, take no more than the bound for five million."""
    fill(tmp_path / "spool", 500_000)
    charges, growth = ship_in_a_process(tmp_path)
    assert charges > 1_000_000
    assert growth <= BUDGET
