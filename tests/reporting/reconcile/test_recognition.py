"""Which parser reads which file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from livekit_costmeter.reporting.reconcile import ExportError, known_parsers, open_export
from livekit_costmeter.reporting.reconcile.parsers.mapping import MappedCsv, MappingModel
from livekit_costmeter.reporting.reconcile.reading import read_head

EXPORTS = Path(__file__).parent / "exports"
WINDOW = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)
FORMATS = {
    "openai_completions_2025.csv": "openai-usage-csv",
    "openai_completions_2026.csv": "openai-usage-csv",
    "openai_speeches.csv": "openai-usage-csv",
    "openai_transcriptions.csv": "openai-usage-csv",
    "openai_nothing.csv": "openai-usage-csv",
    "openai_cost_2025.csv": "openai-cost-csv",
    "openai_cost_2026.csv": "openai-cost-csv",
    "openai_usage_page.json": "openai-pages",
    "openai_costs_pages.json": "openai-pages",
    "openai_pages.jsonl": "openai-pages",
    "deepgram_usage.json": "deepgram-usage",
    "deepgram_billing.json": "deepgram-billing",
    "deepgram_requests.json": "deepgram-requests",
    "anthropic_usage.json": "anthropic-reports",
    "anthropic_cost.json": "anthropic-reports",
    "elevenlabs_analytics.json": "elevenlabs-analytics",
    "elevenlabs_character_stats.json": "elevenlabs-character-stats",
    "cartesia_credits.json": "cartesia-usage",
    "cartesia_agents.json": "cartesia-usage",
    "twilio_usage.json": "twilio-usage",
    "twilio_usage.csv": "twilio-usage",
    "twilio_calls.json": "twilio-calls",
    "twilio_calls.csv": "twilio-calls",
    "google_billing.jsonl": "google-billing",
    "google_billing.csv": "google-billing",
    "voicegateway_openai.csv": "voicegateway",
    "voicegateway_deepgram.csv": "voicegateway",
    "voicegateway_cartesia.json": "voicegateway",
}
TELCO = MappingModel.model_validate(
    {"name": "telco", "provider": "telnyx", "columns": {"start": "Datum", "cost": "Betrag"}, "currency": "EUR"}
)


@pytest.mark.parametrize(("file", "name"), FORMATS.items())
def test_every_export_is_recognised_by_its_parser_alone(file, name):
    """One parser recognises an export, whatever its file is called."""
    head = read_head(EXPORTS / file)
    assert [parser.name for parser in known_parsers() if parser.recognises(head)] == [name]


def test_every_export_of_the_folder_is_listed_here():
    """No export goes untested; the one left over is for a mapping."""
    assert {path.name for path in EXPORTS.iterdir()} - set(FORMATS) == {"telco.csv"}


def test_a_file_that_nobody_knows_is_refused_with_those_known(tmp_path):
    """The message lists what there is and points to mappings."""
    path = tmp_path / "usage.csv"
    path.write_text("when,what\n1,2\n")
    with pytest.raises(ExportError) as caught:
        open_export(path)
    assert str(caught.value).startswith(f"{path}:1: not a format that is known")
    assert all(parser.name in str(caught.value) for parser in known_parsers())


def test_a_named_parser_is_taken_and_answers_for_the_file():
    """With a name nothing is recognised: the parser says itself what is missing."""
    parser, lines = open_export(EXPORTS / "openai_cost_2025.csv", name="openai-usage-csv")
    assert parser.name == "openai-usage-csv"
    with pytest.raises(ExportError, match=r"openai_cost_2025.csv:1: no column `num_model_requests` \(there are: "):
        list(lines)


def test_a_name_that_is_none_is_refused_with_those_there_are():
    """A misspelt name is not a reason to guess."""
    with pytest.raises(ExportError, match=r"no format is called 'openai' \(there are: telco, openai-usage-csv"):
        open_export(EXPORTS / "openai_cost_2025.csv", name="openai", mappings=[MappedCsv(TELCO)])


def test_a_mapping_is_asked_first_and_two_that_fit_are_refused():
    """The user's own format wins over ours; between two of them the user decides."""
    parser, _ = open_export(EXPORTS / "telco.csv", mappings=[MappedCsv(TELCO)])
    assert parser.name == "telco"
    other = MappedCsv(TELCO.model_copy(update={"name": "other"}))
    with pytest.raises(ExportError, match=r"one of several formats: telco, other; say which with --as"):
        open_export(EXPORTS / "telco.csv", mappings=[MappedCsv(TELCO), other])


@pytest.mark.parametrize("file", FORMATS)
def test_lines_are_well_formed(file):
    """Each line has a period, a place, and a quantity with its unit or a cost with its currency."""
    parser, lines = open_export(EXPORTS / file, provider="openai", window=WINDOW)
    for line in lines:
        assert line.start < line.end
        assert line.start.tzinfo is UTC
        assert f"{file}:" in line.place
        assert line.quantity is not None or line.cost is not None
        assert line.unit is not None or line.quantity is None
        assert (line.cost is None) == (line.currency is None)
        assert parser.provider in (None, line.provider)
