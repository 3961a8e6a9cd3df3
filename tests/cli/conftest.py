"""What the tests of the command line share: the commands in and out of process, usage, and a ledger with known sums."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from livekit_costmeter.cli import costmeter
from livekit_costmeter.delivery import Spool

CONFIG = """\
project: line
pricing: {rate_cards: [./rates.yaml], catalogs: []}
sinks:
  - {type: sqlite, path: ./costmeter.db}
  - {name: lines, type: jsonl, path: ./charges.jsonl}
  - {name: screen, type: stdout}
"""
RATES = """\
name: card
rates:
  - {provider: openai, model: gpt-4o-mini, unit: input_tokens, price: "0.5", per: 1000000}
  - {provider: openai, model: gpt-4o-mini, unit: output_tokens, price: "2", per: 1000000}
"""


def usage_fields(**changes):
    """Return one record as the meter writes it; a field named in `changes` replaces the default."""
    fields = {
        "at": "2026-11-20T12:00:00Z",
        "component": "llm",
        "provider": "openai",
        "model": "gpt-4o-mini",
        "quantities": {"input_tokens": "1000", "output_tokens": "100"},
        "basis": {"input_tokens": "reported", "output_tokens": "reported"},
        "key_owner": "platform",
        "account": "acme",
        "session_id": "ses-1",
        "labels": {"campaign": "q4"},
    }
    return {**fields, **changes}


def usage_line(**changes):
    """Return one record as a JSON line."""
    return json.dumps(usage_fields(**changes)) + "\n"


@pytest.fixture(autouse=True)
def _buffered(monkeypatch):
    """Let child processes buffer their output, as they do for users: some errors show only when it is flushed."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)


@pytest.fixture
def usage():
    """Return the factory of usage lines."""
    return usage_line


@pytest.fixture
def run():
    """Return a function that runs a command in this process; its result has stdout, stderr and exit_code."""

    def invoke(*arguments, input=None):
        result = CliRunner().invoke(costmeter, arguments, input=input, prog_name="costmeter")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def command():
    """Return a function that runs a command as its own process, with pipes for all three streams."""

    def execute(*arguments, input=b"", environ=None):
        return subprocess.run(
            [sys.executable, "-m", "livekit_costmeter", *arguments],
            input=input,
            capture_output=True,
            check=False,
            timeout=60,
            env={**os.environ, **(environ or {})},
        )

    return execute


@pytest.fixture
def project():
    """Write a configuration and a rate card into the current directory; there is no ledger yet."""
    Path("costmeter.yaml").write_text(CONFIG)
    Path("rates.yaml").write_text(RATES)
    return Path.cwd()


@pytest.fixture
def spool(project):
    """Return a function that leaves usage records in the spool, as a job does."""

    def append(*records):
        spool = Spool(project / ".costmeter/spool", header={"sinks": None}, max_bytes=1 << 30)
        for record in records:
            spool.append(json.dumps(record).encode()[1:])
        spool.close()

    return append


@pytest.fixture
def ledger(project, spool, run):
    """Ship three records: two priced on different days, one of a model that nobody prices."""
    spool(
        usage_fields(),
        usage_fields(at="2026-11-21T00:00:00Z", account="zen", session_id="ses-2"),
        usage_fields(at="2026-11-21T08:00:00Z", model="made-up", quantities={"input_tokens": "7"}, account=None),
    )
    assert run("ship").exit_code == 0
    return project


def is_one_line(text):
    """Tell whether a message is exactly one line of ours."""
    return text.startswith("costmeter: ") and text.count("\n") == 1 and text.endswith("\n")


@pytest.fixture
def one_line():
    """Return the test for a message of exactly one line."""
    return is_one_line
