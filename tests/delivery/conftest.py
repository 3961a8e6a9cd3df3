"""Spools, prices and child processes for the delivery tests."""

import importlib.util
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from livekit_costmeter.delivery import Shipper, Spool
from livekit_costmeter.delivery.backlog import list_segments, opened, segment_path
from livekit_costmeter.delivery.files.lines import read_lines
from livekit_costmeter.delivery.sinks import RejectedRecords, RetryableError
from livekit_costmeter.delivery.sinks.memory import MemorySink

CHILDREN = Path(__file__).parent / "children"
ROOT = Path(__file__).parents[2]


class Flaky(MemorySink):
    """A sink that fails as it is told: each entry of `failures` is raised once, before anything is kept."""

    def __init__(self, failures=()):
        super().__init__()
        self.failures = list(failures)
        self.batches = []

    def write(self, charges):
        if self.failures:
            raise self.failures.pop(0)
        self.batches.append(list(charges))
        super().write(charges)


class Away(MemorySink):
    """A sink whose store is never there."""

    def open(self):
        raise RetryableError("connection refused")


class Picky(MemorySink):
    """A sink that refuses some records for good."""

    def __init__(self, refused):
        super().__init__()
        self.refused = refused

    def write(self, charges):
        found = {charge.record_id: "too odd" for charge in charges if charge.record_id in self.refused}
        if found:
            raise RejectedRecords(found)
        super().write(charges)


@pytest.fixture(scope="session")
def flaky():
    """Give the class of a sink that fails as it is told."""
    return Flaky


@pytest.fixture(scope="session")
def picky():
    """Give the class of a sink that refuses some records."""
    return Picky


@pytest.fixture
def away():
    """Give a sink whose store is never there."""
    return Away()


@pytest.fixture(scope="session")
def rates():
    """`usage(**changes)` and `two_charges(record)`."""
    spec = importlib.util.spec_from_file_location("delivery_test_rates", CHILDREN / "rates.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def directory(tmp_path):
    """Name a spool directory that does not exist yet."""
    return tmp_path / "spool"


@pytest.fixture
def make_spool(directory):
    """Make spools on the test's directory, closed at the end."""
    made = []

    def make(**options):
        settings = {"header": {"sinks": ["ledger"]}, "max_bytes": 1 << 40, **options}
        made.append(Spool(directory, **settings))
        return made[-1]

    yield make
    for spool in made:
        spool.close()


@pytest.fixture
def spool(make_spool):
    """Make one spool."""
    return make_spool()


@pytest.fixture
def launch():
    """Start a script of `children` as a process of its own; killed at the end if it still runs."""
    started = []

    def run(script, *arguments):
        process = subprocess.Popen(
            [sys.executable, str(CHILDREN / script), *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def payloads(directory):
    """Read everything a directory's segments hold, framing included, in order."""

    def read():
        found = []
        for name in list_segments(directory):
            with opened(segment_path(directory, name)) as descriptor:
                found += [line.payload for line in read_lines(descriptor)]
        return found

    return read


@pytest.fixture
def make_shipper(directory, rates):
    """Make shippers whose back-off takes no time, stopped at the end."""
    made = []

    def make(**options):
        settings = {"rate": rates.two_charges, "sinks": {}, "sleep": lambda _: None, **options}
        made.append(Shipper(directory, **settings))
        return made[-1]

    yield make
    for shipper in made:
        assert shipper.stop(10)


@pytest.fixture
def fill(make_spool, rates):
    """Append records to a segment; returns their ids."""

    def append(count, *, close=True, sinks=("ledger",)):
        spool = make_spool(header={"sinks": list(sinks)})
        found = [spool.append(rates.body()) for _ in range(count)]
        if close:
            spool.close()
        return found

    return append


@pytest.fixture(scope="session")
def rows():
    """List the keys of what a memory sink has, in order of arrival."""
    return lambda sink: [(charge.record_id, charge.line) for charge in sink.charges]


@pytest.fixture(scope="session")
def expected():
    """List the keys that records must have made."""
    return lambda ids: [(identity, line) for identity in ids for line in (0, 1)]


@pytest.fixture(scope="session")
def until():
    """Wait for something that another thread does."""

    def wait(condition):
        pause = threading.Event()
        for _ in range(1_000):
            if condition():
                return
            pause.wait(0.02)
        raise AssertionError("it never happened")

    return wait
