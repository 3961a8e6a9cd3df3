"""What an API says is what its files say."""

import json
import tempfile
from collections import Counter
from decimal import Decimal
from itertools import chain
from pathlib import Path

import pytest

from livekit_costmeter.reporting.reconcile import ExportError, open_export
from livekit_costmeter.reporting.reconcile.api import PROVIDERS, ApiError, fetch, save_pages
from tests.reporting.reconcile.api.simulators import (
    DAYS,
    KEY,
    SIMULATORS,
    SINCE,
    UNTIL,
    Anthropic,
    Cartesia,
    Deepgram,
    ElevenLabs,
    OpenAI,
    Twilio,
    broken_off,
    refusing,
    saying,
)

ALL = ("usage", "costs", "requests")
PARSERS = {
    "openai": {"openai-pages"},
    "anthropic": {"anthropic-reports"},
    "deepgram": {"deepgram-usage", "deepgram-billing", "deepgram-requests"},
    "elevenlabs": {"elevenlabs-analytics"},
    "cartesia": {"cartesia-usage"},
    "twilio": {"twilio-usage", "twilio-calls"},
}


@pytest.fixture
def fetched(receiver, clock, at):
    """Fetch all days of a simulator."""

    def run(simulator, **options):
        options = {"settings": at(simulator), "means": clock.means(simulator), **options}
        return list(fetch(simulator.provider, SINCE, UNTIL, **options))

    return run


def totals(lines):
    """Add up quantities by unit, and costs by currency."""
    sums = Counter()
    for line in lines:
        if line.quantity is not None:
            sums[line.model, line.unit] += line.quantity
        if line.cost is not None:
            sums[line.model, line.currency] += line.cost
    return dict(sums)


def test_every_provider_has_a_simulator():
    """No API is without a test."""
    assert sorted(simulator.provider for simulator in SIMULATORS) == sorted(PROVIDERS)


@pytest.mark.parametrize("make", SIMULATORS, ids=lambda make: make.provider)
def test_lines_of_the_api_are_those_of_its_saved_pages(receiver, fetched, tmp_path, make):
    """A run can be repeated from the pages it kept: each file is recognised, and says the same line by line."""
    lines = fetched(make(receiver), keep_pages=tmp_path, kinds=ALL)
    opened = [open_export(path) for path in sorted(tmp_path.iterdir())]
    assert {parser.name for parser, _ in opened} == PARSERS[make.provider]
    again = list(chain.from_iterable(found for _, found in opened))
    assert len(lines) > DAYS // 3
    assert sorted(lines, key=repr) == sorted(again, key=repr)


@pytest.mark.parametrize("make", SIMULATORS, ids=lambda make: make.provider)
def test_lines_are_the_same_whether_pages_are_kept_or_not(receiver, fetched, tmp_path, make):
    """Without a folder the same lines come, and no place in them names a file that is gone."""
    kept = fetched(make(receiver), keep_pages=tmp_path)
    passing = fetched(make(receiver))
    assert [line.place for line in passing] == [line.place.removeprefix(f"{tmp_path}/") for line in kept]
    assert totals(passing) == totals(kept)


def test_openai_is_read_to_the_last_page(receiver, fetched):
    """Ten days of usage and costs come in pages of a week, and add up to what OpenAI holds."""
    simulator = OpenAI(receiver)
    found = totals(fetched(simulator))
    for model in simulator.models:
        assert found[model, "input_tokens"] == sum(600 + number for number in range(DAYS))
        assert found[model, "cached_input_tokens"] == 400 * DAYS
        assert found[model, "USD"] == sum(Decimal("0.5") + Decimal(number) / 8 for number in range(DAYS))
    assert found["tts-1", "characters"] == sum(700 + number for number in range(DAYS))
    assert len(simulator.asked) == 8


def test_trouble_between_pages_neither_loses_nor_doubles_one(receiver, fetched):
    """Pages that come at the second or third attempt are there once."""
    calm = fetched(OpenAI(receiver))
    simulator = OpenAI(receiver)
    simulator.faults = [None, refusing(500), broken_off, None, refusing(429), None, refusing(503)]
    assert fetched(simulator) == calm


def test_anthropic_is_read_to_the_last_page_and_its_cents_are_cents(receiver, fetched):
    """Usage and costs add up, 123.45 being 1.2345 dollars."""
    found = totals(fetched(Anthropic(receiver)))
    assert found["claude-opus-4-6", "input_tokens"] == sum(1500 + number for number in range(DAYS))
    assert found["claude-opus-4-6", "cache_write_tokens"] == 30 * DAYS
    assert found["claude-opus-4-6", "USD"] == Decimal("1.2345") * DAYS


def test_deepgram_is_read_to_the_last_page_though_its_limit_is_lowered(receiver, fetched):
    """Requests come to the last one, whatever number of them the server puts in a page."""
    simulator = Deepgram(receiver)
    lines = fetched(simulator, kinds=ALL)
    assert {line.request_id for line in lines} - {None} == {f"request-{number}" for number in range(230)}
    usage = totals(line for line in lines if line.request_id is None)
    assert usage["nova-3", "audio_seconds"] == Decimal(5400) * DAYS
    assert usage["nova-3", "USD"] == Decimal("0.25") * DAYS


def test_deepgram_counts_its_pages_from_wherever_it_likes(receiver, fetched, monkeypatch):
    """An installation whose first page is 1 is read in whole, too."""
    listing = Deepgram.listing

    def from_one(self, query):
        page = listing(self, {**query, "page": int(query.get("page", 1)) - 1})
        return {**page, "page": page["page"] + 1}

    monkeypatch.setattr(Deepgram, "listing", from_one)
    assert len(fetched(Deepgram(receiver), kinds=("requests",))) == 230


def test_elevenlabs_days_are_days_although_some_are_quiet(receiver, fetched):
    """Usage on every third day is of that day, not of three."""
    lines = fetched(ElevenLabs(receiver))
    assert {(line.end - line.start).days for line in lines} == {1}
    assert totals(lines) == {("eleven_flash_v2_5", "credits"): Decimal("900.5") * 4}


def test_cartesia_credits_add_up(receiver, fetched):
    """Credits come by day and stay credits."""
    assert totals(fetched(Cartesia(receiver))) == {(None, "credits"): sum(123 + number for number in range(DAYS))}


def test_twilio_is_read_along_its_links(receiver, fetched):
    """Usage and calls come to the last page, below the base address, with the parameters that end in `>`."""
    simulator = Twilio(receiver)
    lines = fetched(simulator, kinds=ALL)
    calls = [line for line in lines if line.request_id]
    assert len(calls) == 40
    assert totals(calls)[None, "call_seconds"] == 65 * 40
    sums = totals(line for line in lines if not line.request_id)
    assert (sums[None, "call_seconds"], sums[None, "USD"]) == (1800 * DAYS, Decimal(3))
    assert all(path.startswith("/proxy/2010-04-01/Accounts/AC0123/") for path in simulator.asked)


def test_requests_are_fetched_only_where_somebody_asks(receiver, fetched):
    """What says the usage a second time is left out, unless a join by id wants it."""
    simulator = Deepgram(receiver)
    assert {line.request_id for line in fetched(simulator)} == {None}
    assert not any("/requests" in path for path in simulator.asked)


def test_reports_are_told_with_kind_and_file(receiver, clock, at, tmp_path):
    """A caller learns which file is usage and which is cost; a report without rows has no file."""
    simulator = OpenAI(receiver)
    saved = save_pages("openai", SINCE, UNTIL, tmp_path, settings=at(simulator), means=clock.means(simulator))
    assert [(report.name, report.kind, report.pages) for report in saved] == [
        ("usage-completions", "usage", 2),
        ("usage-audio-speeches", "usage", 2),
        ("usage-audio-transcriptions", "usage", 2),
        ("costs", "costs", 2),
    ]
    assert saved[0].path.name == "openai-usage-completions_2026-05-01_2026-05-10.json"
    assert len(json.loads(saved[0].path.read_text())) == 2


def test_report_without_rows_leaves_no_file(receiver, clock, at, tmp_path):
    """An account without calls is no error, and neither an empty file nor one of an earlier fetch speaks for it."""
    simulator = Twilio(receiver)
    options = {"settings": at(simulator), "means": clock.means(simulator), "kinds": ("requests",)}
    save_pages("twilio", SINCE, UNTIL, tmp_path, **options)
    assert len(list(tmp_path.iterdir())) == 1
    simulator.calls = 0
    assert save_pages("twilio", SINCE, UNTIL, tmp_path, **options) == []
    assert list(tmp_path.iterdir()) == []


def test_kept_pages_are_for_their_owner_alone(receiver, fetched, tmp_path):
    """Files and the folder made for them are closed to others, and no draft stays."""
    folder = tmp_path / "new" / "pages"
    fetched(Cartesia(receiver), keep_pages=folder)
    [path] = folder.iterdir()
    assert (path.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)


def test_failure_leaves_the_pages_of_an_earlier_run_alone(receiver, fetched, tmp_path):
    """Files are replaced together or not at all."""
    fetched(OpenAI(receiver), keep_pages=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    simulator = OpenAI(receiver)
    simulator.faults = [None, None, None, refusing(403)]
    with pytest.raises(ApiError):
        fetched(simulator, keep_pages=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_folder_that_cannot_be_written_is_one_line(receiver, fetched, tmp_path):
    """`--keep-pages` on a file says so."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ApiError, match=r"file: File exists$"):
        fetched(Cartesia(receiver), keep_pages=tmp_path / "file")


def test_temporary_files_are_gone(receiver, fetched, tmp_path, monkeypatch):
    """Without `--keep-pages` nothing stays on the disk, also where the lines are not read to the end."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    fetched(Cartesia(receiver))
    simulator = Cartesia(receiver)
    simulator.faults = [refusing(401)]
    with pytest.raises(ApiError):
        fetched(simulator)
    assert list(tmp_path.iterdir()) == []


def test_page_that_a_parser_refuses_is_named_without_its_temporary_folder(receiver, fetched):
    """The message says where the mistake is, and how to see the file."""
    simulator = Cartesia(receiver)
    simulator.faults = [saying('{"data": [{"start_ts": "never", "end_ts": "2026-05-02T00:00:00Z", "credits": 1}]}')]
    with pytest.raises(ExportError, match=r"^cartesia-credits_\S+json:2#data\[0\]\.start_ts: .*--keep-pages"):
        fetched(simulator)


def test_page_of_one_long_line_is_read(receiver, fetched):
    """A page of more than a megabyte without a line break is no obstacle, and its text is not changed."""
    model = 'a "quoted" },{ model'
    bucket = {"start_time": 1777593600, "end_time": 1777680000, "object": "bucket"}
    result = {"object": "organization.usage.completions.result", "input_tokens": 1, "output_tokens": 1, "model": model}
    page = {"object": "page", "data": [{**bucket, "results": [result] * 20_000}], "has_more": False}
    simulator = OpenAI(receiver)
    simulator.faults = [saying(json.dumps(page, separators=(",", ":")))]
    found = totals(line for line in fetched(simulator) if line.model == model)
    assert found == {(model, "input_tokens"): 20_000, (model, "output_tokens"): 20_000}


def test_key_that_a_provider_echoes_is_not_kept(receiver, fetched, tmp_path):
    """A page that repeats the key, or the header that it went in, is saved without it."""
    simulator = Twilio(receiver)

    def echo(request):
        page = simulator.page(request.path.removeprefix("/proxy"), request.incoming.query, request)
        return saying(json.dumps({**page, "next_page_uri": None, "echo": [KEY, request.headers["Authorization"]]}))(
            request
        )

    simulator.faults = [echo]
    fetched(simulator, keep_pages=tmp_path)
    [path] = tmp_path.iterdir()
    assert json.loads(path.read_text())[0]["echo"] == ["***", "Basic ***"]


def test_unknown_provider_is_told_those_there_are():
    """A provider without an API of reports is sent to its export."""
    with pytest.raises(ApiError, match=r"no API of 'groq' is known .*anthropic, cartesia, .*twilio"):
        list(fetch("groq", SINCE, UNTIL))


def test_progress_names_report_and_page(receiver, fetched, clock):
    """Somebody who watches sees which report is at which page."""
    fetched(OpenAI(receiver))
    assert clock.told[:3] == [
        "openai usage-completions: page 1",
        "openai usage-completions: page 2",
        "openai usage-audio-speeches: page 1",
    ]


def test_saved_file_is_a_list_of_the_pages_as_they_came(receiver, clock, at, tmp_path):
    """Nothing but line breaks is added to a page, and numbers keep their digits."""
    simulator = Cartesia(receiver)
    text = '{"data":[{"start_ts":"2026-05-01T00:00:00Z","end_ts":"2026-05-02T00:00:00Z","credits":1.50000}],"x":"},{"}'
    simulator.faults = [saying(text)]
    [saved] = save_pages("cartesia", SINCE, UNTIL, tmp_path, settings=at(simulator), means=clock.means(simulator))
    assert Path(saved.path).read_text() == f"[\n{text}\n]\n"
