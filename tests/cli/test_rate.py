"""`costmeter rate`: usage in, charges out, and every way the input can be wrong."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from livekit_costmeter.records import CHARGE_FIELDS


def charges(text):
    return [json.loads(line) for line in text.splitlines()]


def test_a_file_and_standard_input_give_the_same_charges(project, run, usage):
    """One charge per line with every field, in the order of the input."""
    Path("usage.jsonl").write_text(usage() + "\n" + usage(id="second"))
    by_file, by_pipe = run("rate", "usage.jsonl"), run("rate", input=Path("usage.jsonl").read_text())
    assert by_file.exit_code == 0
    assert by_file.stdout == by_pipe.stdout == run("rate", "-", input=Path("usage.jsonl").read_text()).stdout
    found = charges(by_file.stdout)
    assert [list(charge) for charge in found] == [list(CHARGE_FIELDS)] * 4
    assert [charge["record_id"] for charge in found][2:] == ["second", "second"]
    assert [(charge["unit"], charge["cost"]) for charge in found[:2]] == [
        ("input_tokens", "0.0005"),
        ("output_tokens", "0.0002"),
    ]
    assert by_file.stderr == ""


def test_the_same_input_gives_the_same_bytes(project, command, usage):
    """A record without an id is named by its line, so pricing it twice doubles nothing."""
    first, second = (command("rate", input=usage().encode()).stdout for _ in range(2))
    assert first == second
    assert first.count(b"\n") == 2


def test_an_unknown_model_keeps_its_quantity_and_has_no_cost(project, run, usage):
    """Unknown is null, never 0; that is no error unless `--strict` asks for one."""
    line = usage(model="made-up", quantities={"input_tokens": "7"}) + usage(quantities={"input_tokens": "1"})
    result = run("rate", input=line)
    unknown, known = charges(result.stdout)
    assert (unknown["quantity"], unknown["cost"], unknown["pricing_status"]) == ("7", None, "unpriced")
    assert unknown["pricing_source"].startswith("unpriced:")
    assert known["cost"] == "0.0000005"
    assert result.exit_code == 0
    assert result.stderr == "costmeter: 1 of 2 charges unpriced\n"
    strict = run("rate", "--strict", input=line)
    assert (strict.exit_code, strict.stdout) == (1, result.stdout)


def test_strict_is_content_with_priced_usage(project, run, usage):
    """`--strict` is a question about prices only."""
    assert run("rate", "--strict", input=usage()).exit_code == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"component":', "not JSON: EOF while parsing a value at column"),
        (b"null\n", "not a JSON object"),
        (b"[]\n", "not a JSON object"),
        (b"{}\n", "component: missing (required: component, provider, model, quantities, at)"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not JSON"),
        (b"\xff\xfe{\x00}\x00", "not JSON"),
        (b"x" * (1 << 20) + b"x", "line longer than 1048576 bytes"),
        (b"[" * 100_000, "not JSON"),
        ({"modle": "x"}, "modle: unknown key (allowed: id, at,"),
        ({"k" * 5000: "x"}, "unknown key"),
        ({"at": "yesterday"}, "at: expected an ISO 8601 instant"),
        ({"component": "vad"}, "component: 'vad' is not one of stt, llm, tts"),
        ({"quantities": {"tokens": "1"}}, "quantities.tokens: unknown unit (allowed: input_tokens"),
        ({"quantities": {"input_tokens": "-1"}}, "quantities.input_tokens: -1 is outside 0 to"),
        ({"quantities": {"input_tokens": "many"}}, "quantities.input_tokens: 'many' is not a decimal"),
        ({"quantities": {"input_tokens": None}}, "quantities.input_tokens: expected a decimal string"),
        ({"quantities": []}, "quantities"),
        ({"basis": {"input_tokens": "guessed"}}, "basis.input_tokens: 'guessed' is not one of reported"),
        ({"labels": {"a": 1}}, "labels.a: expected text"),
        ({"model": "line\nbreak", "outcome": "a\nb"}, "outcome: "),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_printed(project, run, usage, one_line, line, message):
    """File, line and key in one line on stderr; the good lines before it are not priced either."""
    bad = line if isinstance(line, bytes) else usage(**line).encode()
    Path("usage.jsonl").write_bytes(usage().encode() + bad)
    result = run("rate", "usage.jsonl")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("costmeter: usage.jsonl:2: ")
    assert message in result.stderr
    assert one_line(result.stderr)
    assert len(result.stderr) < 1100
    piped = run("rate", input=Path("usage.jsonl").read_bytes())
    assert (piped.exit_code, piped.stdout) == (2, "")
    assert piped.stderr.startswith("costmeter: standard input:2: ")
    assert message in piped.stderr


def test_a_file_that_cannot_be_read_is_named(project, run, one_line):
    """A missing file, one without a record, and a directory are mistakes."""
    Path("empty.jsonl").write_text("\n")
    missing, empty, directory = (run("rate", name) for name in ("none.jsonl", "empty.jsonl", "."))
    assert missing.stderr == "costmeter: none.jsonl: No such file or directory\n"
    assert empty.stderr == "costmeter: empty.jsonl: no usage record in it\n"
    assert "'.' is a directory" in directory.stderr
    for result in (missing, empty, directory):
        assert (result.exit_code, result.stdout) == (2, "")


def test_nothing_on_a_pipe_is_nothing_to_price(project, command):
    """A filter in a pipeline takes what there is, even if that is nothing."""
    done = command("rate")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_file_from_another_system_is_read(project, run, usage):
    """A byte order mark and line ends of Windows do no harm."""
    Path("usage.jsonl").write_bytes(b"\xef\xbb\xbf" + usage().replace("\n", "\r\n").encode())
    assert len(charges(run("rate", "usage.jsonl").stdout)) == 2


def test_a_bad_configuration_stops_before_anything_is_read(run, usage, one_line):
    """The mistake in the YAML or rate card is what is reported."""
    Path("costmeter.yaml").write_text("pricing:\n  rate_cards: [./rates.yaml]\n")
    Path("rates.yaml").write_text("name: card\nrates:\n  - {provider: p, model: m, unit: tokens, price: 1}\n")
    result = run("rate", input=usage())
    assert (result.exit_code, result.stdout) == (2, "")
    assert "rates.yaml:3: rates[0].unit: 'tokens' is not a unit (allowed: input_tokens" in result.stderr
    assert one_line(result.stderr)


def test_rating_leaves_nothing_behind(project, run, usage):
    """It is a filter: no ledger, no spool."""
    run("rate", input=usage())
    assert sorted(path.name for path in project.iterdir()) == ["costmeter.yaml", "rates.yaml"]


def test_on_a_terminal_it_says_what_it_waits_for(project):
    """A user who forgot the file is not left in front of a silent cursor."""
    controller, terminal = pty.openpty()
    os.write(controller, b"\x04")  # Ctrl-D
    done = subprocess.run(
        [sys.executable, "-m", "livekit_costmeter", "rate"], stdin=terminal, capture_output=True, timeout=60, check=True
    )
    os.close(terminal)
    os.close(controller)
    assert b"end with Ctrl-D" in done.stderr
    assert done.stdout == b""
