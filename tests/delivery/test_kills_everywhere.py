"""
Writers and shippers killed at random, and every store that can be counted: each record is in each of them, once.

`make kill` kills 1,000 writers and 200 shippers over a million records; as a test it is a tenth of that. What was sent
again is counted too: the stores that refuse a repeat hold none, and one that others hold has the same bytes.
"""

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from livekit_costmeter.delivery import list_segments
from livekit_costmeter.records import charge_json
from tests.engines.stores import AT_LEAST_ONCE, EXACT, TOLD_APART_BY_CONSUMERS, Stores

pytestmark = pytest.mark.slow

WRITERS = int(os.environ.get("COSTMETER_TEST_KILLS", "100"))
WRITERS_PER_SHIPPER = 5
SHIPPERS = WRITERS // WRITERS_PER_SHIPPER
RECORDS = 1_000 * WRITERS
WRITERS_AT_ONCE = 3
LONGEST_WRITER = 2_000
"""Records; each share of it is the end of one writer, so there are enough in all."""
LONGEST_SHIPPER = 4.0
CHILDREN = Path(__file__).parent / "children"
SHIP = ("-m", "livekit_costmeter", "ship")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
LINE = len("20261120T181124123456Z-00112233445566778899aabb-1234 1\n")


@dataclass
class Victim:
    """A process that is to be killed some seconds after it has written so many bytes."""

    process: subprocess.Popen
    output: Path
    after: int
    lifetime: float
    due: float | None = None

    def is_due(self):
        if self.process.poll() is not None:
            return True  # and `kill` says what is wrong
        if self.due is None and self.output.stat().st_size >= self.after:
            self.due = time.monotonic() + self.lifetime
        return self.due is not None and time.monotonic() >= self.due

    def kill(self):
        assert self.process.poll() is None, self.output.read_text()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Crowd:
    """Writers, and one shipper at a time, on one spool, none of which is spared; writers keep step with shippers."""

    def __init__(self, stores, chance):
        self.killed_writers = self.killed_shippers = 0
        self._stores = stores
        self._chance = chance
        self._writers, self._shippers = [], []
        self._shares = chance.sample(range(1, WRITERS + 1), WRITERS)
        self._logs = stores.directory / "logs"
        self._logs.mkdir()

    def live(self, progress):
        """Start and kill until enough are dead."""
        goals = {"writers killed": WRITERS, "shippers killed": SHIPPERS}
        bars = [progress.add_task(name, total=total) for name, total in goals.items()]
        try:
            while self.killed_writers < WRITERS or self.killed_shippers < SHIPPERS:
                self._step()
                for bar, killed in zip(bars, (self.killed_writers, self.killed_shippers), strict=True):
                    progress.update(bar, completed=killed)
                time.sleep(0.002)
        finally:
            for victim in chain(self._writers, self._shippers):
                victim.process.kill()
                victim.process.wait()

    def _step(self):
        room = min(WRITERS, (self.killed_shippers + 1) * WRITERS_PER_SHIPPER)
        if len(self._writers) < WRITERS_AT_ONCE and WRITERS - len(self._shares) < room:
            self._writers.append(self._writer())
        if not self._shippers and self.killed_shippers < SHIPPERS:
            self._shippers.append(self._shipper())
        self.killed_writers += reap(self._writers)
        self.killed_shippers += reap(self._shippers)

    def _writer(self):
        share = self._shares.pop()
        command = [CHILDREN / "write_varied.py", self._stores.spool, share, *EXACT, *AT_LEAST_ONCE]
        return self._start(f"writer-{share}", command, LINE * LONGEST_WRITER * share // WRITERS)

    def _shipper(self):
        # It says that it watches when its threads start.
        command = [*SHIP, "--config", self._stores.config, "--watch"]
        return self._start(f"shipper-{self.killed_shippers}", command, 1, self._chance.random() * LONGEST_SHIPPER)

    def _start(self, name, arguments, after, lifetime=0.0):
        output = self._logs / name
        with output.open("ab") as file:
            command = [sys.executable, *map(str, arguments)]
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=ENVIRONMENT)
        return Victim(process, output, after, lifetime)

    def reported(self):
        """Return the records whose append returned, each with the number of charges that it is worth."""
        lines = (line.split() for log in self._logs.glob("writer-*") for line in log.read_text().split("\n")[:-1])
        return {record_id: int(charges) for record_id, charges in lines}


def reap(victims):
    due = [victim for victim in victims if victim.is_due()]
    for victim in due:
        victims.remove(victim)
        victim.kill()
    return len(due)


@dataclass
class Findings:
    """What the readers of one store get, by the digest of each row's bytes.

    `repeats` counts rows that they get again, `kept` those that lie in the store again, `altered` repeats that differ.
    """

    rows: dict[str, bytes]
    repeats: int = 0
    kept: int = 0
    altered: int = 0

    @classmethod
    def of(cls, charges, stored):
        """Read everything; `stored` counts what lies in the store, if its reader leaves repeats out."""
        found, total = cls({}), 0
        for charge in charges:
            total += 1
            digest = blake2b(charge_json(charge), digest_size=8).digest()
            found.altered += found.rows.setdefault(f"{charge.record_id}:{charge.line}", digest) != digest
        found.repeats = total - len(found.rows)
        found.kept = found.repeats if stored is None else stored - len(found.rows)
        return found

    def lost(self, reported):
        """Count the charges of reported records that are not there."""
        return sum(f"{record}:{line}" not in self.rows for record, lines in reported.items() for line in range(lines))


def drain(stores):
    """Deliver what is left, as an operator does, until nothing is."""
    command = [sys.executable, *SHIP, "--config", str(stores.config), "--wait", "30"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert list_segments(stores.spool) == []


def read_back(stores, reported, console):
    """Return the findings by store, and show them."""
    table = Table(title=f"{WRITERS:,} writers and {SHIPPERS:,} shippers killed, {len(reported):,} records")
    for heading in ("store", "rows", "lost", "altered", "sent again and kept"):
        table.add_column(heading, justify="left" if heading == "store" else "right")
    findings = {}
    for name in (*EXACT, *AT_LEAST_ONCE):
        with console.status(f"reading {name}"):
            found = findings[name] = Findings.of(stores.read(name), stores.stored(name))
        cells = (len(found.rows), found.lost(reported), found.altered, found.kept)
        table.add_row(name, *(f"{cell:,}" for cell in cells))
        if name != EXACT[0] and found.rows == findings[EXACT[0]].rows:
            found.rows = findings[EXACT[0]].rows  # a million keys are held once
    console.print(table)
    return findings


@pytest.fixture
def console():
    """Show progress and a table where they were asked for."""
    return Console(stderr=True, quiet="COSTMETER_TEST_KILLS" not in os.environ)


@pytest.fixture
def stores(tmp_path):
    """Run every store."""
    with Stores(tmp_path, partitions=max(16, WRITERS // 10)) as running:
        yield running


def test_every_store_has_every_record_once(stores, console):
    """Whoever is killed and whenever: what was appended is in each store, once for its readers, with the same bytes."""
    crowd = Crowd(stores, random.Random(int(os.environ.get("COSTMETER_TEST_SEED", time.time()))))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        crowd.live(progress)
    with console.status("delivering what is left"):
        drain(stores)
    reported = crowd.reported()
    assert len(reported) >= RECORDS
    findings = read_back(stores, reported, console)
    reference = findings[EXACT[0]].rows
    assert len({key.rpartition(":")[0] for key in reference}) - len(reported) in range(WRITERS + 1)
    for name, found in findings.items():
        assert (name, found.lost(reported), found.altered) == (name, 0, 0)
        assert found.rows == reference, f"{name} is not what {EXACT[0]} is"
    assert {name: findings[name].kept for name in EXACT} == dict.fromkeys(EXACT, 0)
    assert {name for name, found in findings.items() if found.repeats} <= set(TOLD_APART_BY_CONSUMERS)
