"""Append records to a spool of one's own and ship them into a shared SQLite file, at the same moment as others."""

import sys
import time
from pathlib import Path

from rates import body, two_charges

from livekit_costmeter.delivery import Shipper, Spool
from livekit_costmeter.delivery.sinks.sqlite import SqliteSink

directory, database, count, start_at = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
spool = Spool(directory, header={"sinks": ["ledger"]}, max_bytes=1 << 40)
for _ in range(count):
    spool.append(body())
spool.close()
time.sleep(max(0.0, start_at - time.time()))
sink = SqliteSink(SqliteSink.Options(path=database))
shipment = Shipper(directory, rate=two_charges, sinks={"ledger": sink}, batch_rows=50).ship_once()
sys.stdout.write(f"{shipment.records} {shipment.still_owed}\n")
