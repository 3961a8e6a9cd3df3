"""`costmeter ship --watch`: the daemon, as processes that are really started, stopped and killed."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from livekit_costmeter.delivery import ShipLock, list_segments
from livekit_costmeter.delivery.files.status import read_status


@pytest.fixture
def watch(project):
    """Start a daemon on the test's project; its messages are in the file that is returned with it."""
    started = []

    def start(*arguments):
        log = project / f"watch-{len(started)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "livekit_costmeter", "ship", "--watch", *arguments],
                stdout=subprocess.DEVNULL,
                stderr=file,
            )
        started.append(process)
        return process, log

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def until(condition):
    """Wait for something that another process does."""
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it never happened")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_makes_a_last_pass_and_exits_with_0(watch, project, spool, usage, run, number):
    """What is appended while it runs is delivered, and what comes right before the signal, too."""
    process, log = watch()
    until(lambda: "shipping" in log.read_text())
    spool(json.loads(usage()))
    until(lambda: list_segments(project / ".costmeter/spool") == [])
    spool(json.loads(usage(account="last")))
    process.send_signal(number)
    assert process.wait(30) == 0
    assert list_segments(project / ".costmeter/spool") == []
    assert len(run("export").stdout.splitlines()) == 4
    assert "INFO stopped  waiting=0" in log.read_text()
    assert read_status(project / ".costmeter/spool").sinks["sqlite"].rows == 4


def test_a_second_daemon_takes_over_when_the_first_is_killed(watch, project, spool, usage):
    """It waits for the lock, says so, and ships what the first left behind."""
    first, log = watch()
    until(lambda: "shipping" in log.read_text())
    second, log = watch()
    until(lambda: "another process ships" in log.read_text())
    first.kill()
    first.wait()
    spool(json.loads(usage()))
    until(lambda: list_segments(project / ".costmeter/spool") == [])
    second.terminate()
    assert second.wait(30) == 0


def test_a_stop_keeps_its_deadline_and_says_what_is_left(watch, project, spool, usage):
    """A sink that is away makes a stop neither long nor a failure; what it is owed stays."""
    Path("costmeter.yaml").write_text(
        "pricing: {catalogs: []}\nsinks: [{name: away, type: jsonl, path: ./none/charges.jsonl}]\n"
    )
    spool(json.loads(usage()))
    process, log = watch("--deadline", "0.2")
    until(lambda: "sink is away" in log.read_text())
    process.terminate()
    assert process.wait(30) == 0
    assert "waiting=1" in log.read_text()
    assert len(list_segments(project / ".costmeter/spool")) == 1


def test_a_daemon_that_waits_for_its_turn_stops_at_once(watch, project):
    """It holds nothing, so there is nothing to end."""
    lock = ShipLock(project / ".costmeter/spool")
    assert lock.acquire()
    process, log = watch()
    until(lambda: "waiting for its turn" in log.read_text())
    process.terminate()
    assert process.wait(30) == 0
    lock.release()


def test_a_configuration_that_changes_on_disk_is_said_and_not_read(watch, project):
    """The running daemon goes on with what it has read; the operator is told once."""
    _, log = watch()
    until(lambda: "shipping" in log.read_text())
    Path("rates.yaml").write_text(Path("rates.yaml").read_text() + "# changed\n")
    until(lambda: "changed on disk" in log.read_text())
    assert log.read_text().count("changed on disk") == 1
    assert "rates.yaml" in log.read_text()


def test_a_wrong_configuration_stops_before_it_starts(watch, project):
    """Exit code 2, which a service manager should not answer with a restart."""
    Path("rates.yaml").write_text("rates: 5\n")
    process, log = watch()
    assert process.wait(30) == 2
    assert log.read_text().startswith("costmeter: ")


def test_a_terminal_gets_a_status_line(project, spool, usage):
    """On a terminal, how things stand is seen at a glance."""
    spool(json.loads(usage()))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "livekit_costmeter", "ship", "--watch"],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env={**os.environ, "COLUMNS": "200", "TERM": "xterm"},
    )
    os.close(theirs)
    seen = b""
    try:
        while b"sqlite: 1 records, 0.0 MB pending" not in seen:
            seen += os.read(ours, 4096)
        process.terminate()
        while process.poll() is None:
            try:
                seen += os.read(ours, 4096)
            except OSError:
                process.wait(30)
        assert process.returncode == 0
    finally:
        if process.poll() is None:
            process.kill()
        os.close(ours)
