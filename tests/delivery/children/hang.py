"""Append, ship in the background into a sink that hangs, stop within half a second, and end."""

import sys
import threading
from pathlib import Path

from rates import body, two_charges

from livekit_costmeter.delivery import Shipper, Spool
from livekit_costmeter.delivery.sinks.memory import MemorySink

taken = threading.Event()


class Hanging(MemorySink):
    """A sink whose store never answers."""

    def write(self, charges):  # noqa: ARG002 - a sink's signature
        """Take a batch and say nothing."""
        taken.set()
        threading.Event().wait()


directory = Path(sys.argv[1])
spool = Spool(directory, header={"sinks": ["ledger"]}, max_bytes=1 << 40)
spool.append(body())
spool.close()
shipper = Shipper(directory, rate=two_charges, sinks={"ledger": Hanging()}, interval=0.02)
shipper.start()
if not taken.wait(20) or shipper.stop(0.5):
    sys.exit(1)
