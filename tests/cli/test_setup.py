"""`costmeter init` and `costmeter check`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from livekit_costmeter.config import load
from livekit_costmeter.delivery import Spool


def test_init_writes_a_configuration_that_works(run):
    """What it writes loads, and `check` is content with it."""
    result = run("init")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "wrote costmeter.yaml; see what it means with: costmeter check\n"
    assert [sink.name for sink in load("costmeter.yaml").sinks] == ["sqlite"]
    assert run("check").exit_code == 0


def test_init_never_overwrites(run):
    """A file that is there stays as it is."""
    Path("mine.yaml").write_text("project: mine\n")
    result = run("init", "mine.yaml")
    assert (result.exit_code, result.stderr) == (2, "costmeter: mine.yaml: exists already\n")
    assert Path("mine.yaml").read_text() == "project: mine\n"


@pytest.mark.parametrize("path", ["none/costmeter.yaml", "."])
def test_init_says_where_it_cannot_write(run, path):
    """A directory that is not there, or a directory instead of a file."""
    result = run("init", path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert path.split("/")[0] in result.stderr


def test_check_says_what_is_used(project, run):
    """Configuration, rate cards, spool, every sink by name, and LiveKit's version."""
    result = run("check")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = {line[5:].split("  ")[0]: line for line in result.stdout.splitlines()}
    assert list(lines)[:5] == ["configuration", "rate cards", "plan", "fingerprints", "spool"]
    assert str(project / "costmeter.yaml") in lines["configuration"]
    assert lines["rate cards"].endswith("card")
    assert "0 records wait" in lines["spool"]
    assert {"sink sqlite", "sink lines", "sink screen"} <= set(lines)
    assert "livekit-agents" in lines["metering"]


def test_check_never_shows_the_secret(project, run, monkeypatch):
    """It says that the variable is set, not what it holds."""
    monkeypatch.setenv("COSTMETER_SECRET", "do-not-show-me")
    result = run("check")
    assert "COSTMETER_SECRET is set" in result.stdout
    assert "do-not-show-me" not in result.output


def test_check_exits_with_1_if_a_sink_does_not_answer(run):
    """The others are checked all the same; each failure is one line with its reason."""
    Path("costmeter.yaml").write_text(
        "sinks:\n"
        "  - {name: broken, type: jsonl, path: ./none/charges.jsonl}\n"
        "  - {name: good, type: jsonl, path: ./charges.jsonl}\n"
    )
    result = run("check")
    assert result.exit_code == 1
    marks = {line[5:].split("  ")[0]: line[:4] for line in result.stdout.splitlines()}
    assert (marks["sink broken"], marks["sink good"]) == ("FAIL", "ok  ")


def test_check_exits_with_1_if_the_spool_cannot_be_written(run):
    """Usage would be lost there, so it is said before a worker starts."""
    Path("taken").write_text("a file")
    Path("costmeter.yaml").write_text("spool: {dir: ./taken/spool}\n")
    result = run("check")
    assert result.exit_code == 1
    assert f"{Path.cwd() / 'taken'} is no directory that can be written" in result.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("projct: x\n", "costmeter.yaml:1: projct: unknown key (allowed: account"),
        ("a: [\n", "costmeter.yaml:2: not YAML: "),
        ("pricing: {catalogs: [none]}\n", "costmeter.yaml:1: pricing.catalogs"),
        ("pricing: {rate_cards: [./none.yaml]}\n", "none.yaml: No such file"),
        ("sinks: [{type: none}]\n", "costmeter.yaml:1: sinks[0].type: unknown sink type 'none' (allowed: "),
        ("reconcile:\n  thresholds: {llm: many}\n", "costmeter.yaml:2: reconcile.thresholds.llm: "),
        ("reconcile:\n  apis: {openai: {url: nowhere}}\n", "costmeter.yaml:2: reconcile.apis.openai.url: "),
    ],
)
def test_check_names_a_mistake_in_the_configuration(run, one_line, text, message):
    """One line with file, line and key path, exit code 2, nothing on stdout and nothing written."""
    Path("costmeter.yaml").write_text(text)
    result = run("check")
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert one_line(result.stderr)
    assert [path.name for path in Path().iterdir()] == ["costmeter.yaml"]


def test_check_says_what_each_sink_is_owed(project, spool, run, usage):
    """Records, bytes and age of what waits, the last success, retries and refusals, per sink; and the free space."""
    spool(json.loads(usage()))
    lines = rows_of(run("check"))
    assert "1 records wait (" in lines["delivery sqlite"]
    assert "last success never; 0 retries; 0 rejected" in lines["delivery sqlite"]
    assert " free" in lines["spool"]
    assert run("ship").exit_code == 0
    after = rows_of(run("check"))["delivery sqlite"]
    assert "0 records wait" in after
    assert "last success 20" in after


def test_check_finds_what_only_the_operator_can_mend(project, spool, run, usage):
    """A sink that is owed and not configured, and records in `dead/`: each with the command for it, exit code 1."""
    spool({"nonsense": True})
    run("ship")
    owed = Spool(project / ".costmeter/spool", header={"sinks": ["old"]}, max_bytes=1 << 30)
    owed.append(usage().rstrip().encode()[1:])
    owed.close()
    result = run("check")
    lines = rows_of(result)
    assert result.exit_code == 1
    assert (lines["delivery old"][:4], lines["rating"][:4], lines["delivery sqlite"][:4]) == ("FAIL", "FAIL", "ok  ")
    assert "ship --forget-sink old" in lines["delivery old"]
    assert "1 records in dead/ could not be rated; mend the cause, then: costmeter ship --retry-dead" in lines["rating"]


def test_check_says_why_a_sink_was_tried_again(spool, run, usage):
    """The last failure stands beside the count, until a delivery succeeds."""
    Path("costmeter.yaml").write_text(
        "pricing: {catalogs: []}\nsinks: [{name: away, type: jsonl, path: ./none/charges.jsonl}]\n"
    )
    spool(json.loads(usage()))
    run("ship")
    line = rows_of(run("check"))["delivery away"]
    assert "3 retries (last: " in line
    Path("none").mkdir()
    run("ship")
    assert "3 retries; 0 rejected" in rows_of(run("check"))["delivery away"]


def rows_of(result):
    """Return the lines of a check by their topics."""
    return {line[5:].split("  ")[0].strip(): line for line in result.stdout.splitlines()}
