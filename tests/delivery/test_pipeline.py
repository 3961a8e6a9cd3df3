"""How one process delivers: what a job does, what the main process does, and what `settle` guarantees."""

import asyncio
import json
import threading

import pytest

from livekit_costmeter.delivery import Pipeline, ShipLock, Shipper, list_segments
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
    shippers = []

    def make(sink, *, is_job=False, deadline=5.0):
        def make_shipper():
            shippers.append(Shipper(directory, rate=rates.two_charges, sinks={"ledger": sink}, interval=0.02))
            return shippers[-1]

        pipeline = Pipeline(make_spool(), make_shipper=make_shipper, is_job=is_job, deadline=deadline)
        pipeline.made = shippers
        return pipeline

    yield make
    for shipper in shippers:
        assert shipper.stop(10)


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
    assert await asyncio.to_thread(ShipLock(directory).acquire, 30)
    assert len(sink.charges) == 2


async def test_settle_without_usage_does_nothing(make_pipeline, directory):
    """A process that metered nothing makes no shipper and no file."""
    pipeline = make_pipeline(MemorySink())
    await pipeline.settle()
    assert pipeline.made == []
    assert not directory.exists()


def test_readback_returns_each_record_once(make_pipeline, rates):
    """The process reads its own records for its summary."""
    pipeline = make_pipeline(MemorySink())
    readback = pipeline.readback()
    first = pipeline.append(rates.body())
    assert [json.loads(line)["id"] for line in readback.new()] == [first]
    second = pipeline.append(rates.body())
    assert [json.loads(line)["id"] for line in readback.new()] == [second]
    assert readback.complete
