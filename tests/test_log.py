"""Our log lines never hold up the loop that they come from."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import asyncio, logging, sys, threading
from livekit_costmeter.log import log

seen = []
class Handler(logging.Handler):
    def emit(self, record):
        seen.append((record.levelname, record.getMessage().splitlines()[0], threading.current_thread().name))
logging.getLogger("livekit.costmeter").addHandler(Handler())

async def main():
    try:
        raise KeyError("odd")
    except KeyError:
        log().exception("first line", key="value")
    print("loaded on the loop:", any(name == threading.current_thread().name for _, _, name in seen))
    while not seen:
        await asyncio.sleep(0.01)
    log().warning("second line")

asyncio.run(main())
print(seen)
"""


def test_the_first_line_on_a_loop_is_logged_by_a_thread():
    """What the first line imports is imported beside the loop; from then on the loop logs itself."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == [
        "loaded on the loop: False",
        str([("ERROR", "first line  key=value", "costmeter-log"), ("WARNING", "second line", "MainThread")]),
    ]
