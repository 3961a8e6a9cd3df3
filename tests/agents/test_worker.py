"""A real LiveKit worker with real job processes: what is shipped, and what a kill loses (nothing)."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from livekit_costmeter.delivery import list_segments
from livekit_costmeter.records import parse_instant
from livekit_costmeter.testing import LoopbackProviders

pytestmark = pytest.mark.slow

WORKER = Path(__file__).parent / "worker.py"
KILLS = 60
AT_ONCE = 4
LONGEST_SECRET = 5.0
_QUERY = "select record_id, line, component, at, job_id, session_id, room from charges"


class Worker:
    """One worker process, and what its jobs noted."""

    def __init__(self, process, directory):
        self.process = process
        self.directory = directory
        self.notes = directory / "notes"

    async def start_job(self, room):
        self.process.stdin.write(f"job {room}\n".encode())
        await self.process.stdin.drain()

    async def pid_of(self, room, word="started"):
        path = self.notes / f"{word}-{room}"
        async with asyncio.timeout(60):
            while not (path.exists() and (text := path.read_text())):
                assert self.process.returncode is None, "the worker died"
                await asyncio.sleep(0.02)
        return int(text)

    def noted(self, pid=None):
        files = [self.notes / str(pid)] if pid else [path for path in self.notes.iterdir() if path.name.isdigit()]
        return [line for path in files if path.exists() for line in path.read_text().split()]

    async def until_noted(self, pid, count):
        async with asyncio.timeout(60):
            while len(self.noted(pid)) < count:
                await asyncio.sleep(0.02)

    def rows(self):
        path = self.directory / "costmeter.db"
        if not path.exists():
            return []
        with closing(sqlite3.connect(path)) as database:
            database.row_factory = sqlite3.Row
            return database.execute(_QUERY).fetchall()

    async def until_shipped(self, ids, seconds=60):
        wanted = set(ids)
        async with asyncio.timeout(seconds):
            while not wanted <= {row["record_id"] for row in self.rows()}:
                await asyncio.sleep(0.2)


@asynccontextmanager
async def worker(tmp_path, providers, **environ):
    (tmp_path / "notes").mkdir()
    (tmp_path / "costmeter.yaml").write_text("sinks: [{type: sqlite, path: costmeter.db}]\n")
    environment = {
        **os.environ,
        "NOTES": str(tmp_path / "notes"),
        "PROVIDERS": providers.openai_url.removesuffix("/openai/v1"),
        "COSTMETER_CONFIG": str(tmp_path / "costmeter.yaml"),
        **environ,
    }
    with (tmp_path / "stderr").open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(WORKER), stdin=subprocess.PIPE, stderr=errors, env=environment
        )
    try:
        yield Worker(process, tmp_path)
    finally:
        if process.returncode is None:
            process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), 30)
            except TimeoutError:
                process.kill()
                await process.wait()
    log = (tmp_path / "stderr").read_text()
    assert "metering failed" not in log
    assert "usage stays in the spool" not in log


def assert_each_once(rows, noted):
    """Every record whose append returned is there, and no row twice."""
    assert max(Counter((row["record_id"], row["line"]) for row in rows).values()) == 1
    missing = set(noted) - {row["record_id"] for row in rows}
    assert not missing, f"{len(missing)} of {len(noted)} records lost"


@pytest.mark.parametrize("executor", ["PROCESS", "THREAD"])
async def test_a_worker_ships_what_its_jobs_append(tmp_path, executor):
    """Jobs in processes or threads only append; the main process prices and ships, with job and room on each row."""
    async with LoopbackProviders() as providers, worker(tmp_path, providers, EXECUTOR=executor) as running:
        for room in ("short-one", "short-two"):
            await running.start_job(room)
        for room in ("short-one", "short-two"):
            await running.pid_of(room, "finished")
        noted = running.noted()
        await running.until_shipped(noted)
    rows = running.rows()
    assert_each_once(rows, noted)
    assert {row["room"] for row in rows} == {"short-one", "short-two"}
    assert {row["component"] for row in rows} == {"call", "llm", "stt", "tts"}
    assert len({row["job_id"] for row in rows}) == len({row["session_id"] for row in rows}) == 2
    assert running.process.returncode == 0
    assert list_segments(tmp_path / ".costmeter/spool") == []


async def test_killed_jobs_lose_nothing_that_was_appended(tmp_path):
    """Of 60 jobs killed at random moments in mid-call, every appended record is in SQLite once."""
    chance = random.Random(int(os.environ.get("COSTMETER_TEST_SEED", time.time())))
    noted = []
    async with LoopbackProviders() as providers, worker(tmp_path, providers) as running:

        async def killed(number):
            room = f"killed-{number}"
            await running.start_job(room)
            pid = await running.pid_of(room)
            await running.until_noted(pid, 1)
            await asyncio.sleep(chance.random() * 1.5)
            os.kill(pid, signal.SIGKILL)
            noted.extend(running.noted(pid))

        for first in range(0, KILLS, AT_ONCE):
            await asyncio.gather(*(killed(number) for number in range(first, first + AT_ONCE)))
        await running.until_shipped(noted)
    assert len(noted) > KILLS
    assert_each_once(running.rows(), noted)


async def test_what_only_memory_knows_is_never_older_than_five_seconds(tmp_path):
    """At the moment of a kill, the last increment of a live recognition stream is at most five seconds old."""
    async with LoopbackProviders() as providers, worker(tmp_path, providers) as running:
        rooms = [f"watched-{number}" for number in range(3)]
        for room in rooms:
            await running.start_job(room)
        pids = {room: await running.pid_of(room) for room in rooms}
        for pid in pids.values():
            await running.until_noted(pid, 2)
        noted, killed_at = [], {}
        for number, room in enumerate(rooms):
            await asyncio.sleep(5.5 if number == 0 else 1.7)
            os.kill(pids[room], signal.SIGKILL)
            killed_at[room] = datetime.now(UTC)
            noted += running.noted(pids[room])
        await running.until_shipped(noted)
    for room, moment in killed_at.items():
        increments = [row for row in running.rows() if (row["room"], row["component"]) == (room, "stt")]
        last = max(parse_instant(row["at"]) for row in increments)
        assert (moment - last).total_seconds() <= LONGEST_SECRET


async def test_a_killed_worker_is_shipped_from_outside(tmp_path):
    """When worker and jobs are killed, `costmeter ship` adopts what they left, and ships it once."""
    async with LoopbackProviders() as providers, worker(tmp_path, providers) as running:
        rooms = [f"orphaned-{number}" for number in range(3)]
        for room in rooms:
            await running.start_job(room)
        pids = [await running.pid_of(room) for room in rooms]
        for pid in pids:
            await running.until_noted(pid, 3)
        running.process.kill()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        await running.process.wait()
        noted = running.noted()
    for _ in range(2):
        command = [sys.executable, "-m", "livekit_costmeter", "ship", "--config", str(tmp_path / "costmeter.yaml")]
        shipped = subprocess.run(command, check=True, capture_output=True, text=True)
        assert "Traceback" not in shipped.stderr
    assert_each_once(running.rows(), noted)
    assert list_segments(tmp_path / ".costmeter/spool") == []
