"""A whole agent on the real plugins: its keys pay, are told apart, and stay out of everything that we write."""

from __future__ import annotations

import base64
import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from livekit_costmeter.metering import fingerprint

pytestmark = pytest.mark.slow

COMPONENTS = {
    "openai-llm": "llm",
    "openai-responses": "llm",
    "openai-realtime": "realtime",
    "openai-stt": "stt",
    "openai-tts": "tts",
    "deepgram-stt": "stt",
    "deepgram-sttv2": "stt",
    "deepgram-tts": "tts",
    "cartesia-stt": "stt",
    "cartesia-tts": "tts",
}
COMMANDS = (
    *((0, b"whisper-1", ("export", "--format", form)) for form in ("jsonl", "json", "csv")),
    *((0, b"whisper-1", ("report", "--by", "model,owner", "--format", form)) for form in ("text", "json", "csv")),
    (0, b"whisper-1", ("export", "--sink", "jsonl")),
    (1, b"sink leaky", ("check",)),
    (1, b"leaky is still owed: SinkError: RuntimeError: invalid dsn", ("ship",)),
    (0, b"input_tokens", ("prices", "show", "openai/gpt-4o-mini", "--format", "json")),
)
"""Exit code, what is said at least, and the arguments."""


def test_every_plugin_was_metered_under_its_own_key(run):
    """The search below is worth something: each key reached the meter, and each is named by its fingerprint."""
    with closing(sqlite3.connect(run.directory / "ledger.db")) as ledger:
        seen = set(ledger.execute("SELECT DISTINCT component, key_id FROM charges"))
    expected = {(kind, fingerprint(run.secret, run.keys[name])) for name, kind in COMPONENTS.items()}
    expected |= {(kind, fingerprint(run.secret, run.keys["inference"])) for kind in ("llm", "stt", "tts")}
    assert seen >= expected
    ends = json.loads((run.out / "ends.json").read_text())
    assert set(ends["worked"].values()) == {"done"}
    assert list(ends["refused"].values()).count("APIStatusError") >= 10


def test_no_file_holds_a_piece_of_a_key(run, find_leaks):
    """Spool, charges, dead letters, database and its log, JSON lines, our log, standard output, reprs: none of them."""
    written = run.written()
    names = {path.name.rpartition(".")[2] if "-" in path.name else path.name for path in written}
    assert {"seg", "charges", "ledger.db", "ledger.jsonl", "secret", "ours.log", "stdout", "reprs.txt"} <= names
    assert any(path.parent.name == "dead" for path in written)
    assert {str(path): found for path, data in written.items() if (found := find_leaks(data, run.keys))} == {}


def test_the_search_finds_what_it_looks_for(run, find_leaks):
    """Every disguise of a key is found, and so is a piece of it; less than twelve characters are not a piece."""
    key = run.keys["deepgram-stt"]
    for text in (key, json.dumps({"k": key}), base64.b64encode(f"user:{key}".encode()).decode(), key[20:32]):
        assert "deepgram-stt" in find_leaks(f"--{text}--".encode(), run.keys)
    assert find_leaks(b"KEYDEEPGRAM", run.keys) == []


def test_our_log_says_what_went_wrong_and_not_with_which_key(run):
    """An error that quotes a key, in a component or a sink, is logged by its kind and place."""
    log = (run.out / "ours.log").read_text()
    assert "metering failed; the call goes on  error=RuntimeError at=model:" in log
    assert "sink is away, its charges wait  sink=leaky reason=SinkError: RuntimeError: invalid dsn" in log
    assert "record went to the dead letters  origin=picky reason=no such table at postgres://app:***@127.0.0.1:1" in log


def test_no_file_holds_the_password_of_a_sink(run, find_leaks):
    """A password from the environment reaches neither the spool with its dead letters nor our log nor a repr."""
    secrets = {"password": run.password}
    assert {str(path) for path, data in run.written().items() if find_leaks(data, secrets)} == set()


def test_the_secret_behind_fingerprints_stays_in_its_file(run, find_leaks):
    """Whoever reads records cannot test keys against fingerprints."""
    secrets = {"secret": run.secret.decode()}
    assert [path.name for path, data in run.written().items() if find_leaks(data, secrets)] == ["secret"]
    assert (run.directory / "spool/secret").stat().st_mode & 0o777 == 0o600


def test_a_fingerprint_is_printed_without_its_key(run, find_leaks):
    """The command that names a key says its fingerprint alone, and it is the one that records carry."""
    key = run.keys["deepgram-tts"]
    done = run.command("keys", "fingerprint", said=key)
    assert done.stdout.decode().strip() == fingerprint(run.secret, key)
    assert find_leaks(done.stdout + done.stderr, run.keys) == []


@pytest.mark.parametrize(("code", "words", "arguments"), COMMANDS)
def test_no_command_prints_a_secret(run, find_leaks, code, words, arguments):
    """What the command line says holds no key, no password and no secret, also where a sink fails."""
    done = run.command(*arguments)
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert words in said
    assert b"Traceback" not in said
    assert find_leaks(said, {**run.keys, "password": run.password, "secret": run.secret.decode()}) == []


def test_tail_prints_no_secret(run, find_leaks):
    """Following the ledger shows charges and no key."""
    command = [sys.executable, "-m", "livekit_costmeter", "tail", "--since", "2020-01-01"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, cwd=run.directory, env=run.environ, **pipes) as process:
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        said = first + process.communicate(timeout=20)[0]
    assert b"owner=" in first
    assert find_leaks(said, run.keys) == []
