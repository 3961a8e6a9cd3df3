"""Ship a spool directory into a SQLite file; with a last argument, linger that long between commit and ack."""

import sys
import time
from pathlib import Path

from rates import two_charges

from livekit_costmeter.delivery import Shipper
from livekit_costmeter.delivery.sinks.sqlite import SqliteSink

directory, database, rows = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
linger = float(sys.argv[4]) if len(sys.argv) > 4 else 0.0


class SlowToReturn(SqliteSink):
    """A sink whose commit is long done when `write` returns."""

    def write(self, charges):
        """Commit, then linger."""
        super().write(charges)
        time.sleep(linger)


sink = SlowToReturn(SqliteSink.Options(path=database))
shipment = Shipper(directory, rate=two_charges, sinks={"ledger": sink}, batch_rows=rows).ship_once()
sys.stdout.write("busy\n" if shipment.busy else f"shipped {shipment.records} {shipment.still_owed}\n")
