"""Which declared models have a price."""

from collections import Counter
from datetime import UTC, datetime

from livekit_costmeter.pricing.coverage import coverage, declared_models

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)


def test_the_list_of_models_has_the_plugins_and_the_gateway():
    """The shipped list names 323 models of plugins and 103 of the gateway."""
    groups = Counter(row.group for row in declared_models())
    assert (groups["direct"], groups["gateway"]) == (323, 103)


def test_most_declared_models_have_a_price(shipped, catalogs_only):
    """The catalogs price 270 of the 426 models, and with the overrides at least 320."""
    rows = [row for row in declared_models() if row.group in ("direct", "gateway")]
    assert sum(row.priced for row in coverage(catalogs_only, rows, AT)) >= 270
    assert sum(row.priced for row in coverage(shipped, rows, AT)) >= 320


def test_a_row_says_by_which_unit_and_source_or_why_not(shipped):
    """A priced model has unit and source, an unpriced one a reason, never both."""
    for row in coverage(shipped, declared_models(), AT):
        assert (row.unit is not None, row.source is not None, row.reason is None) == (row.priced,) * 3


def test_a_price_in_a_unit_that_is_not_measured_does_not_count(catalogs_only):
    """A voice that is billed by tokens is not covered where the plugin gives characters."""
    rows = [row for row in declared_models() if row.model == "gemini-2.5-pro-tts"]
    assert [(row.priced, row.reason) for row in coverage(catalogs_only, rows, AT)] == [(False, "unit")]


def test_a_row_says_whether_its_plugin_is_installed(shipped):
    """What is installed here can be told from what LiveKit has besides."""
    installed = {row.plugin for row in coverage(shipped, declared_models(), AT) if row.installed}
    assert {"inference", "openai", "deepgram", "cartesia"} <= installed
    assert "sarvam" not in installed
