"""`costmeter backfill`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

TWO = """\
pricing: {rate_cards: [./rates.yaml], catalogs: []}
sinks:
  - {type: sqlite, path: ./costmeter.db}
  - {name: copy, type: sqlite, path: ./copy.db}
  - {name: screen, type: stdout}
"""


@pytest.fixture
def two(ledger):
    """Ship three records, then name a second ledger that is empty."""
    Path("costmeter.yaml").write_text(TWO)
    return ledger


def test_a_ledger_is_copied_whole(two, run):
    """The copy reports and exports the same; a second run adds nothing."""
    for _ in range(2):
        result = run("backfill", "--from", "sqlite", "--to", "copy")
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr == "copied 5 rows from sqlite to copy\n"
        assert run("export", "--sink", "copy").stdout == run("export", "--sink", "sqlite").stdout
    reports = {run("report", "--sink", name, "--format", "json").stdout for name in ("copy", "sqlite")}
    assert len(reports) == 1


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("none", "copy", "no sink named 'none' (there are: sqlite, copy, screen)"),
        ("sqlite", "none", "no sink named 'none' (there are: sqlite, copy, screen)"),
        ("screen", "copy", "the sink screen cannot be read back"),
        ("sqlite", "sqlite", "cannot be copied into itself"),
        ("copy", "sqlite", "copy.db does not exist"),
    ],
)
def test_what_cannot_be_copied_is_said(two, run, source, target, message):
    """Exit code 2, and nothing is written."""
    result = run("backfill", "--from", source, "--to", target)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert not Path("copy.db").exists()


def test_a_target_that_is_away_leaves_the_place_to_go_on_from(two, run, one_line):
    """The reason is one line, and says that the same command goes on."""
    Path("copy.db").write_text("no database " * 100)
    result = run("backfill", "--from", "sqlite", "--to", "copy")
    assert result.exit_code == 2
    assert one_line(result.stderr)
    assert "0 rows are copied, the same command goes on from there" in result.stderr
    Path("copy.db").unlink()
    assert run("backfill", "--from", "sqlite", "--to", "copy").exit_code == 0


@pytest.mark.slow
def test_a_killed_copy_is_completed_by_a_second_run(project, spool, run, usage):
    """Every row is there once, and what was copied before the kill is not sent again."""
    spool(*[json.loads(usage(id=f"r-{number:05}")) for number in range(4_000)])
    assert run("ship").exit_code == 0
    Path("costmeter.yaml").write_text(TWO)
    command = [sys.executable, "-m", "livekit_costmeter", "backfill", "--from", "sqlite", "--to", "copy"]
    place = project / ".costmeter/spool/backfill-sqlite-copy.json"
    with subprocess.Popen(command, env=os.environ) as process:
        while process.poll() is None and not (place.exists() and place.stat().st_size):
            time.sleep(0.001)
        process.kill()
    assert process.returncode == -9
    done = json.loads(place.read_text())["rows"]
    assert 0 < done < 8_000
    result = run("backfill", "--from", "sqlite", "--to", "copy")
    assert result.stderr == f"copied 8000 rows from sqlite to copy ({done} of them before)\n"
    assert run("export", "--sink", "copy").stdout == run("export", "--sink", "sqlite").stdout
    assert not place.exists()
