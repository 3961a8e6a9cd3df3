"""`costmeter reconcile --from-api`: from a provider's API, on loopback, to the same table as from its files."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from pathlib import Path

import pytest

from tests.engines.receiver import Receiver
from tests.reporting.reconcile.api.simulators import KEY, OpenAI, refusing, saying

WINDOW = ("--provider", "openai", "--since", "2026-05-01", "--until", "2026-05-11")
RECONCILE = ("reconcile", *WINDOW, "--format", "json")


@pytest.fixture
def openai(project, spool, usage_of, run, monkeypatch):
    """A ledger of one model, and an API that the configuration leads to, with its key in the environment."""
    spool(usage_of(at="2026-05-04T12:00:00Z", model="gpt-4o-mini"))
    assert run("ship").exit_code == 0
    server = Receiver()
    simulator = OpenAI(server)
    with Path("costmeter.yaml").open("a") as stream:
        stream.write(f"reconcile: {{apis: {{openai: {{url: {simulator.url}}}}}}}\n")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", KEY)
    yield simulator
    server.end()


@pytest.fixture
def usage_of(usage):
    """Return the factory of usage records."""
    return lambda **changes: json.loads(usage(**changes))


def kept_pages(folder):
    """Return the files of a folder in the order in which they were fetched."""
    reports = ("usage-completions", "usage-audio-speeches", "usage-audio-transcriptions", "costs")
    paths = [Path(folder, f"openai-{report}_2026-05-01_2026-05-10.json") for report in reports]
    assert set(paths) == set(Path(folder).iterdir())
    return paths


def kept_files(folder):
    """Return the options that read those files."""
    *usage_files, cost_file = map(str, kept_pages(folder))
    return [text for path in usage_files for text in ("--usage-file", path)] + ["--cost-file", cost_file]


def test_an_api_and_the_pages_kept_of_it_give_the_same_document(openai, run):
    """Every page is read once; the ledger's model stands beside the provider's, and the files repeat it offline."""
    fetched = run(*RECONCILE, "--from-api", "--keep-pages", "pages")
    asked = len(openai.asked)
    assert (fetched.exit_code, run(*RECONCILE, "--from-api").stdout) == (1, fetched.stdout)
    assert len(openai.asked) == 2 * asked
    again = run(*RECONCILE, *kept_files("pages"))
    assert (again.exit_code, again.stdout, len(openai.asked)) == (1, fetched.stdout, 2 * asked)
    row = next(row for row in json.loads(fetched.stdout)["rows"] if row["model"] == "gpt-4o-mini")
    assert (row["our_units"], Decimal(row["their_units"])) == ("1100", sum(1500 + day for day in range(10)))
    assert Decimal(row["their_cost"]) == sum(Decimal("0.5") + Decimal(day) / 8 for day in range(10))


def test_what_is_booked_from_an_api_is_booked_from_its_pages(openai, run):
    """The digest is of the pages as they came, and the same invoice is not booked a second time."""
    booked = run(*RECONCILE, "--from-api", "--keep-pages", "pages", "--book", "--yes")
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in kept_pages("pages"))).hexdigest()[:12]
    assert f"corrections with invoice:{digest};" in booked.stderr
    again = run(*RECONCILE, *kept_files("pages"), "--book", "--yes")
    assert "nothing to book" in again.stderr
    assert KEY not in "".join(path.read_text() for path in Path("pages").iterdir())


def test_a_key_that_is_refused_is_one_line_that_names_the_variable(openai, run, one_line, monkeypatch):
    """Exit code 2, nothing on stdout, no page kept; neither the key sent nor the one that is echoed is told."""
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-of-somebody-else-4711")
    result = run(*RECONCILE, "--from-api", "--keep-pages", "pages", "--book", "--yes")
    assert (result.exit_code, result.stdout, len(openai.asked)) == (2, "", 1)
    assert "401" in result.stderr
    assert "OPENAI_ADMIN_KEY" in result.stderr
    assert one_line(result.stderr)
    assert "4711" not in result.stderr
    assert not any(Path().glob("pages/*"))
    assert not list(Path(".costmeter/spool").glob("*.seg*"))


def test_a_key_that_is_not_set_is_one_line_that_names_the_variable(openai, run, one_line, monkeypatch):
    """Nobody is asked anything."""
    monkeypatch.delenv("OPENAI_ADMIN_KEY")
    result = run(*RECONCILE, "--from-api")
    assert (result.exit_code, result.stdout, openai.asked) == (2, "", [])
    assert "set OPENAI_ADMIN_KEY in the environment" in result.stderr
    assert one_line(result.stderr)


def test_a_provider_without_an_api_is_sent_to_its_exports(openai, run, one_line):
    """The message lists those that have one."""
    result = run("reconcile", "--provider", "groq", *WINDOW[2:], "--from-api")
    assert (result.exit_code, openai.asked) == (2, [])
    assert "no API of 'groq' is known" in result.stderr
    assert one_line(result.stderr)


def test_a_page_that_cannot_be_read_is_named_without_a_temporary_folder(openai, run, one_line):
    """The file is gone when somebody reads the message, which says how to keep it."""
    openai.faults = [saying('{"data": [{"start_time": "never", "end_time": 1, "results": []}], "has_more": false}')]
    result = run(*RECONCILE, "--from-api")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("costmeter: openai-usage-completions_2026-05-01_2026-05-10.json:")
    assert "--keep-pages" in result.stderr
    assert one_line(result.stderr)


def test_a_key_without_permission_leaves_what_was_kept_before(openai, run):
    """Pages are replaced together or not at all."""
    run(*RECONCILE, "--from-api", "--keep-pages", "pages")
    before = {path.name: path.read_bytes() for path in Path("pages").iterdir()}
    openai.faults = [None, None, refusing(403)]
    result = run(*RECONCILE, "--from-api", "--keep-pages", "pages")
    assert (result.exit_code, "OPENAI_ADMIN_KEY" in result.stderr) == (2, True)
    assert {path.name: path.read_bytes() for path in Path("pages").iterdir()} == before
