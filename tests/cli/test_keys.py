"""`costmeter keys fingerprint`: the key goes in and never comes out."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time

import pytest

from livekit_costmeter.metering.attribution import fingerprint

KEY = "sk-live-Zq81xWv0"
SECRET = {"COSTMETER_SECRET": "shared"}
EXPECTED = fingerprint(b"shared", KEY) + "\n"


@pytest.mark.parametrize("text", [KEY, KEY + "\n", f"  {KEY}\r\n", "\ufeff" + KEY])
def test_only_the_fingerprint_is_printed(command, text):
    """White space around the key is not part of it; with the shared secret there is nothing to say."""
    done = command("keys", "fingerprint", input=text.encode(), environ=SECRET)
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, EXPECTED, b"")


def test_without_the_shared_secret_it_says_what_the_fingerprint_is_good_for(run):
    """The message is on stderr and names the file of this host's secret."""
    first, second = (run("keys", "fingerprint", input=KEY) for _ in range(2))
    assert first.stdout == second.stdout
    assert len(first.stdout) == 13
    assert "good on this host only" in first.stderr
    assert KEY not in first.output


@pytest.mark.parametrize(
    ("arguments", "typed"),
    [
        (("fingerprint", KEY), b"another"),
        (("fingerprint", f"--key={KEY}"), b"another"),
        (("fingerprint", "--key", KEY), b"another"),
        (("fingerprint", f"-k{KEY}"), b"another"),
        (("fingerprint", "--", KEY), b"another"),
        ((KEY,), b""),
        (("fingerprint",), b""),
        (("fingerprint",), b" \n"),
        (("fingerprint",), f"{KEY}\n{KEY}\n".encode()),
        (("fingerprint",), KEY.encode() + b"\xff"),
        (("fingerprint",), KEY.encode("utf-16")),
    ],
)
def test_a_key_is_in_no_error(command, arguments, typed):
    """However it is given wrongly, it is not repeated; exit code 2 and nothing on stdout."""
    done = command("keys", *arguments, input=typed, environ=SECRET)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr
    assert KEY not in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_a_secret_that_is_no_text_is_refused_quietly():
    """The environment may hold any bytes."""
    done = subprocess.run(
        [sys.executable, "-m", "livekit_costmeter", "keys", "fingerprint"],
        input=KEY.encode(),
        capture_output=True,
        check=False,
        env={**os.environb, b"COSTMETER_SECRET": b"hush\xff"},
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"costmeter: the key or COSTMETER_SECRET is not UTF-8 text\n"


def test_at_a_terminal_the_key_is_asked_for_without_echo():
    """What the terminal shows is the question and the fingerprint."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(SECRET)
        os.execv(sys.executable, [sys.executable, "-m", "livekit_costmeter", "keys", "fingerprint"])
    shown = os.read(terminal, 100)
    while b"Key: " not in shown:
        shown += os.read(terminal, 100)
    time.sleep(0.2)  # the echo is switched off right after the question
    os.write(terminal, KEY.encode() + b"\n")
    try:
        while chunk := os.read(terminal, 1000):
            shown += chunk
    except OSError:  # how a terminal says that its last user is gone
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(terminal)
    assert shown.decode().split() == ["Key:", EXPECTED.strip()]
