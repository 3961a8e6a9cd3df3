"""Append records as a plain script does, by its configuration, and end: `append_and_leave.py CONFIG COUNT`."""

import sys

from rates import body

from livekit_costmeter.config import load
from livekit_costmeter.config.compose import build_pipeline

pipeline = build_pipeline(load(sys.argv[1]))
for _ in range(int(sys.argv[2])):
    pipeline.append(body())
