"""
Append records until killed: `write_varied.py DIRECTORY NUMBER SINK...`, for segments that owe these sinks.

Each id is written to stdout once its append has returned. Every tenth record is worth two charges, the others one; all
differ, also by labels in several orders, by fractions and by text beyond ASCII. It rests for a moment after every 50.
"""

import os
import sys
import time
from itertools import count
from pathlib import Path

from livekit_costmeter.delivery import Spool
from livekit_costmeter.records import usage_json

directory, number, sinks = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
spool = Spool(directory, header={"sinks": sinks}, max_bytes=1 << 40, max_segment_bytes=400_000)
for sequence in count():
    labels = [("campaign", "q4"), ("länge", str(sequence % 7)), ("a", f"株式 {number}")]
    fields = {
        "at": f"2026-11-{1 + sequence % 3:02}T18:{sequence % 60:02}:24.{sequence % 1_000_000:06}Z",
        "component": "llm",
        "provider": "openai",
        "model": "gpt-4o-mini",
        "quantities": {"input_tokens": f"{1 + sequence}.5"} | ({"output_tokens": "55"} if sequence % 10 == 0 else {}),
        "operation_id": f"{number}-{sequence}",
        "account": 'Zoë "&" Söhne' if sequence % 2 else None,
        "labels": dict(labels[sequence % 3 :] + labels[: sequence % 3]),
    }
    record_id = spool.append(usage_json({name: value for name, value in fields.items() if value is not None})[1:])
    os.write(1, f"{record_id} {1 + (sequence % 10 == 0)}\n".encode())
    if sequence % 50 == 49:
        time.sleep(0.001)
