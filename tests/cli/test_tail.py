"""`costmeter tail`: what a running worker does, live, and what it came to when interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from livekit_costmeter.config import load
from livekit_costmeter.config.compose import build_shipper

# As from a shell in the foreground: whatever runs the tests may have Ctrl-C ignored.
FOREGROUND = (
    "import signal; from livekit_costmeter.cli import main;"
    "signal.signal(signal.SIGINT, signal.default_int_handler); main()"
)
NO_LEDGER_YET = "costmeter: no ledger yet: "


class Tail:
    """A running `costmeter tail`; its lines can be waited for, and it can be interrupted."""

    def __init__(self, *arguments):
        self.child = subprocess.Popen(
            [sys.executable, "-c", FOREGROUND, "tail", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self):
        return self.child.stdout.readline()

    def message(self):
        return self.child.stderr.readline()

    def interrupt(self):
        """Press Ctrl-C and return the exit code and what was still printed."""
        self.child.send_signal(signal.SIGINT)
        out, err = self.child.communicate(timeout=30)
        return self.child.returncode, out, err


@pytest.fixture
def tail():
    """Start `costmeter tail`; killed at the end if it still runs."""
    started = []

    def start(*arguments):
        started.append(Tail(*arguments))
        return started[-1]

    yield start
    for one in started:
        if one.child.poll() is None:
            one.child.kill()
        one.child.communicate()


def test_it_shows_operations_until_interrupted_and_ends_with_a_total(ledger, tail):
    """Ctrl-C is how it ends: exit code 0, no traceback, and what it came to."""
    running = tail("--since", "2026-11-01")
    assert running.line() == (
        "12:00:00.000Z  llm  openai/gpt-4o-mini  1000 input_tokens, 100 output_tokens  0.0007 USD  ratecard"
        "  owner=platform  account=acme  session=ses-1  so far 0.0007 USD\n"
    )
    running.line()
    assert "  7 input_tokens  unpriced (" in running.line()
    code, out, err = running.interrupt()
    assert (code, err) == (0, "")
    assert out == "total: >= 0.0014 USD in 3 records of 2 sessions, 1 of them unpriced\n"


def test_charges_are_shown_as_they_are_rated_before_any_sink_has_them(project, spool, usage, tail):
    """The ledger cannot be written, and still each operation appears, once, with its session's total."""
    Path("costmeter.db").mkdir()
    Path("costmeter.yaml").write_text(
        "pricing: {rate_cards: [./rates.yaml], catalogs: []}\nsinks: [{type: jsonl, path: ./none/charges.jsonl}]\n"
    )
    running = tail("--format", "jsonl", "--by", "session")
    assert running.message().startswith(NO_LEDGER_YET)
    shipper = build_shipper(load(None))
    shipper.start()
    seen = []
    try:
        for _ in range(3):
            spool(json.loads(usage()))
            seen.append(json.loads(running.line()))
    finally:
        shipper.stop(0.2)
    assert [one["running"]["cost"]["USD"] for one in seen] == ["0.0007", "0.0014", "0.0021"]
    code, out, err = running.interrupt()
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "type": "total",
        "sessions": 1,
        "cost": {"USD": "0.0021"},
        "billed_cost": {"USD": "0.0021"},
        "records": 3,
        "unpriced_records": 0,
        "estimated_share": "0",
    }


def test_rotation_and_deletion_of_segments_lose_and_double_nothing(project, spool, usage, tail, run):
    """Each record in a segment of its own, shipped and deleted at once: some seen in the spool, some in the ledger."""
    running = tail("--since", "2026-01-01", "--format", "jsonl")
    running.message()
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(running.line() for _ in range(25)))
    reader.start()
    for _ in range(25):
        spool(json.loads(usage()))
        assert run("ship").exit_code == 0
    assert not list(Path(".costmeter/spool").glob("*.charges"))
    reader.join(30)
    code, out, _ = running.interrupt()
    found = [json.loads(line) for line in [*lines, *out.splitlines()]]
    assert (code, found[-1]["type"], found[-1]["records"]) == (0, "total", 25)
    assert sum(one["records"] for one in found[:-1]) == 25


def test_one_session_can_be_followed_and_totals_kept_by_anything(ledger, tail):
    """The total is of what was shown."""
    running = tail("--since", "2026-11-01", "--session", "ses-2", "--by", "account,model")
    assert running.line().endswith("session=ses-2  account=zen model=gpt-4o-mini so far 0.0007 USD\n")
    code, out, _ = running.interrupt()
    assert (code, out) == (0, "total: 0.0007 USD in 1 record of 1 session\n")


def test_it_waits_for_a_ledger_that_is_not_there(project, tail):
    """It says so and does not make one."""
    running = tail()
    first = running.message()
    code, out, _ = running.interrupt()
    assert (code, out) == (0, "total: nothing so far\n")
    assert first.startswith(NO_LEDGER_YET)
    assert first.endswith("; waiting\n")
    assert not (project / "costmeter.db").exists()


def test_without_a_sink_that_can_be_read_the_spool_is_followed(project, tail):
    """A worker that ships to stdout only can be watched, too."""
    Path("costmeter.yaml").write_text("sinks: [{type: stdout}]\n")
    running = tail()
    assert "no sink here can be read back (sqlite and jsonl can): showing only what is priced" in running.message()
    assert running.interrupt()[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--by", "colour"), "'colour' is not one of component"), (("--format", "csv"), "is not one of 'text', 'jsonl'")],
)
def test_a_wrong_option_is_explained(ledger, run, arguments, message):
    """Before anything is followed."""
    result = run("tail", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
