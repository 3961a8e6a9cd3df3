"""A process ends on time, whatever its sinks wait for."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from livekit_costmeter.records import charge_json
from tests.engines.receiver import Receiver

CHILD = Path(__file__).parent / "children" / "leave_hanging.py"
ROOT = Path(__file__).parents[3]


@pytest.fixture
def receiver():
    """Run a server that never answers."""
    server = Receiver()
    server.script = server.hang
    yield server
    server.end()


@pytest.fixture
def child():
    """Start processes whose sink hangs, killed at the end if they still run."""
    started = []

    def start(charge, *arguments):
        process = subprocess.Popen(
            [sys.executable, str(CHILD), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        started.append(process)
        process.stdin.write(charge_json(charge).decode() + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "hangs\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("type_name", "key"), [("http", "url"), ("otlp", "endpoint")])
def test_hanging_server_keeps_no_process_alive(receiver, child, charges, type_name, key):
    """A process that ends leaves a request behind that nobody answers; it would have waited for ten minutes."""
    process = child(charges(1)[0], type_name, json.dumps({key: receiver.url, "timeout": 600}))
    deadline = time.monotonic() + 20
    while not receiver.requests:
        assert time.monotonic() < deadline, "the request never came"
        time.sleep(0.02)
    process.communicate("leave\n", timeout=20)
    assert process.returncode == 0


@pytest.mark.parametrize(("type_name", "key"), [("http", "url"), ("otlp", "endpoint")])
def test_hanging_resolver_keeps_no_process_alive(child, charges, type_name, key):
    """Neither does a name that is being looked up for ever."""
    options = json.dumps({key: "http://collector.invalid:4318", "timeout": 600})
    process = child(charges(1)[0], type_name, options, "resolver")
    process.communicate("leave\n", timeout=20)
    assert process.returncode == 0
