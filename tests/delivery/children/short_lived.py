"""Append 20 records and end, as a plain script or as a child process of multiprocessing that bears the role's name."""

import multiprocessing
import sys
from pathlib import Path

from rates import body, two_charges

from livekit_costmeter.delivery import Pipeline, Shipper, Spool
from livekit_costmeter.delivery.sinks.sqlite import SqliteSink


def run(directory, ledger, role):
    """Append, say what was appended, and end."""
    sink = SqliteSink(SqliteSink.Options(path=ledger))
    spool = Spool(Path(directory), header={"sinks": ["ledger"]}, max_bytes=1 << 40)
    pipeline = Pipeline(
        spool,
        make_shipper=lambda: Shipper(Path(directory), rate=two_charges, sinks={"ledger": sink}),
        is_job=role != "script",
    )
    for _ in range(20):
        print(pipeline.append(body()), flush=True)


if __name__ == "__main__":
    if sys.argv[3] == "script":
        run(*sys.argv[1:])
    else:
        child = multiprocessing.get_context("fork").Process(target=run, args=sys.argv[1:], name=sys.argv[3])
        child.start()
        child.join()
        sys.exit(child.exitcode)
