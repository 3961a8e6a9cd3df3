"""Append records until killed or `count` is reached, and report each id on stdout once its append has returned."""

import os
import sys
from pathlib import Path

from rates import body

from livekit_costmeter.delivery import Spool

directory, count, segment_bytes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
spool = Spool(directory, header={"sinks": ["ledger"]}, max_bytes=1 << 40, max_segment_bytes=segment_bytes)
for number in range(count):
    identity = spool.append(body(operation_id=f"op-{number}"))
    os.write(1, f"{identity}\n".encode())
spool.close()
