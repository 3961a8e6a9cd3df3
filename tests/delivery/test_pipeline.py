"""How one process delivers: what a job does, what the main process does, and what `settle` guarantees."""

import asyncio
import json
import shutil
import sqlite3
import threading
from contextlib import closing

import pytest

from livekit_costmeter.delivery import Pipeline, ShipLock, Shipper, inspect, list_segments
from livekit_costmeter.delivery.backlog import segment_path
from livekit_costmeter.delivery.sinks.memory import MemorySink


class Stuck(MemorySink):
    """A sink whose store does not answer until it is told to."""

    def __init__(self):
        super().__init__()
        self.answer = threading.Event()

    def write(self, charges):
        self.answer.wait(60)
        super().write(charges)


@pytest.fixture
def make_pipeline(make_spool, directory, rates):
    """Make a pipeline into a sink; `made` of it lists the shippers it has asked for, stopped at the end."""
    pipelines = []

    def make(sink, *, is_job=False, deadline=5.0, **options):
        made = []

        def make_shipper():
            made.append(Shipper(directory, rate=rates.two_charges, sinks={"ledger": sink}, interval=0.02))
            return made[-1]

        pipeline = Pipeline(make_spool(), make_shipper=make_shipper, is_job=is_job, deadline=deadline, **options)
        pipeline.made = made
        pipelines.append(pipeline)
        return pipeline

    yield make
    for pipeline in pipelines:
        pipeline.close()


async def test_settle_ships_where_nobody_else_does(make_pipeline, rates, directory):
    """A process without a worker beside it has delivered everything when `settle` returns."""
    sink = MemorySink()
    pipeline = make_pipeline(sink)
    ids = [pipeline.append(rates.body()) for _ in range(250)]
    await pipeline.settle()
    assert [charge.record_id for charge in sink.charges][::2] == ids
    assert list_segments(directory) == []


async def test_job_leaves_shipping_to_the_main_process(make_pipeline, rates, directory):
    """A job that finds the lock taken closes its segment, loads no prices, and is done."""
    lock = ShipLock(directory)
    assert lock.acquire()
    pipeline = make_pipeline(MemorySink(), is_job=True)
    pipeline.serve()
    pipeline.append(rates.body())
    await pipeline.settle()
    assert pipeline.made == []
    assert len(list_segments(directory)) == 1
    lock.release()


async def test_serving_process_sees_its_records_delivered(make_pipeline, rates, directory):
    """In the main process, `settle` waits for the background shipper, and appending may go on after it."""
    sink = MemorySink()
    pipeline = make_pipeline(sink)
    pipeline.serve()
    pipeline.serve()
    for _ in range(2):
        pipeline.append(rates.body())
        await pipeline.settle()
    assert len(pipeline.made) == 1
    assert len(sink.charges) == 4
    assert list_segments(directory) == []


async def test_settle_keeps_its_deadline(make_pipeline, rates, directory):
    """A store that does not answer delays the end of a call by the deadline at most, and the usage stays."""
    sink = Stuck()
    pipeline = make_pipeline(sink, deadline=0.05)
    pipeline.append(rates.body())
    async with asyncio.timeout(30):
        await pipeline.settle()
    assert len(list_segments(directory)) == 1
    sink.answer.set()
    async with asyncio.timeout(30):
        while len(sink.charges) < 2:
            await asyncio.sleep(0.01)


async def test_settle_without_usage_does_nothing(make_pipeline, directory):
    """A process that metered nothing makes no shipper and no file."""
    pipeline = make_pipeline(MemorySink())
    await pipeline.settle()
    assert pipeline.made == []
    assert not directory.exists()


async def test_a_script_ships_by_itself(make_pipeline, rates):
    """Where nobody serves, the first append starts a shipper in the background."""
    sink = MemorySink()
    pipeline = make_pipeline(sink)
    pipeline.append(rates.body())
    async with asyncio.timeout(30):
        while len(sink.charges) < 2:
            await asyncio.sleep(0.01)
    assert len(pipeline.made) == 1


async def test_a_job_without_a_shipper_ships_its_own_in_slices(make_pipeline, make_spool, rates, directory):
    """A job ships what it appended while the lock is free, and leaves what others left behind alone."""
    orphan = make_spool()
    orphan.append(rates.body())
    orphan.close()
    sink = MemorySink()
    pipeline = make_pipeline(sink, is_job=True, slice_every=0.02)
    mine = pipeline.append(rates.body())
    async with asyncio.timeout(30):
        while len(sink.charges) < 2:
            await asyncio.sleep(0.01)
    assert {charge.record_id for charge in sink.charges} == {mine}
    assert ShipLock(directory).is_free()


@pytest.mark.parametrize("role", ["script", "job_proc"])
def test_a_process_that_ends_without_a_word_loses_nothing(launch, directory, tmp_path, role):
    """At its end a script ships what is left, and a child process closes its segment."""
    process = launch("short_lived.py", directory, tmp_path / "ledger.db", role)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors.decode()
    ids = output.decode().split()
    assert len(ids) == 20
    if role == "job_proc":
        (name,) = list_segments(directory)
        assert inspect(segment_path(directory, name)).closed
    else:
        with closing(sqlite3.connect(tmp_path / "ledger.db")) as database:
            assert database.execute("select count(distinct record_id) from charges").fetchone() == (20,)
        assert list_segments(directory) == []


def test_readback_returns_each_record_once(make_pipeline, rates):
    """The process reads its own records for its summary."""
    pipeline = make_pipeline(MemorySink())
    readback = pipeline.readback()
    first = pipeline.append(rates.body())
    assert [json.loads(line)["id"] for line in readback.new()] == [first]
    second = pipeline.append(rates.body())
    assert [json.loads(line)["id"] for line in readback.new()] == [second]
    assert readback.complete


def test_job_goes_on_shipping_after_a_slice_has_failed(make_pipeline, rates, until, caplog):
    """A disk or a configuration that refuses once costs one slice, not all that follow."""
    sink = MemorySink()
    pipeline = make_pipeline(sink, is_job=True, slice_every=0.02)
    make_shipper, pipeline._make_shipper = pipeline._make_shipper, lambda: 1 / 0
    pipeline.append(rates.body())
    until(lambda: "ZeroDivisionError" in caplog.text)
    pipeline._make_shipper = make_shipper
    until(lambda: len(sink.charges) == 2)
    assert caplog.text.count("ZeroDivisionError") == 1


def test_threads_that_append_first_at_once_start_one_shipper(make_pipeline, rates, until):
    """With several loops in one process, each may be the first to append."""
    before = frozenset(threading.enumerate())  # another test's worker may be about to end
    pipeline = make_pipeline(MemorySink())
    together = threading.Barrier(16)

    def append():
        together.wait(10)
        pipeline.append(rates.body())

    threads = [threading.Thread(target=append) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: pipeline.made)
    workers = [thread for thread in threading.enumerate() if thread.name == "costmeter" and thread not in before]
    assert (len(pipeline.made), len(workers)) == (1, 1)


@pytest.mark.parametrize("is_job", [True, False])
def test_spool_directory_removed_under_a_process_is_made_anew(make_pipeline, rates, directory, until, is_job):
    """Off the loop, by itself: what the open segment held is delivered, and so is what comes after."""
    sink = MemorySink()
    pipeline = make_pipeline(sink, is_job=is_job, slice_every=0.02)
    lock = ShipLock(directory)
    assert lock.acquire()
    ids = [pipeline.append(rates.body())]
    shutil.rmtree(directory)
    ids.append(pipeline.append(rates.body()))
    until(lambda: {charge.record_id for charge in sink.charges} == set(ids))
    ids.append(pipeline.append(rates.body()))
    until(lambda: {charge.record_id for charge in sink.charges} == set(ids))
    lock.release()
