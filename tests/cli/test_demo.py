"""`costmeter demo`: a call on this machine, and what it leaves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_demo_runs_a_call_and_its_ledger_can_be_looked_at(command):
    """Results on stdout, progress on stderr; `--keep` leaves a working project without the made-up keys."""
    done = command("demo", "--keep", "kept here")
    assert done.returncode == 0, done.stderr.decode()
    out, err = done.stdout.decode(), done.stderr.decode()
    assert "One call, seen three times" in out
    assert {"llm gpt-4o-mini", "stt nova-3", "tts sonic-3"} <= set(re.findall(r"^(\w+ [\w.-]+)", out, re.MULTILINE))
    assert "The providers charge " in out
    assert "\x1b" not in out
    assert "turn 3 of 3" in err
    assert "cd 'kept here' && costmeter report" in err
    kept = Path("kept here")
    report = command("report", "--strict", "--config", str(kept / "costmeter.yaml"))
    assert report.returncode == 0
    assert b"gpt-4o-mini" in report.stdout
    assert not any(b"made-up-key" in path.read_bytes() for path in kept.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("keep", "message"), [("full", "full: not empty"), ("full/file", "is a file"), ("/dev/null", "/dev/null: ")]
)
def test_a_place_that_cannot_be_kept_is_refused_before_the_call(command, keep, message):
    """Nothing that is there is touched."""
    Path("full").mkdir()
    Path("full/file").write_text("mine")
    done = command("demo", "--keep", keep)
    assert (done.returncode, done.stdout) == (2, b"")
    assert message in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert [path.read_text() for path in Path("full").iterdir()] == ["mine"]
