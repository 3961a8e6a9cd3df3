"""
A process that ends while a sink of it hangs: `leave_hanging.py TYPE OPTIONS [resolver]`.

The sink writes in a daemon thread, as the shipper's do. With `resolver`, the look-up of names hangs, otherwise whatever
the options point at. The process prints `hangs` when the write has begun, and leaves at the next line on stdin.
"""

import json
import socket
import sys
import threading
import time

from livekit_costmeter.delivery.sinks import find_sink
from livekit_costmeter.records import parse_charge


def main():
    type_name, options, *hints = sys.argv[1:]
    if "resolver" in hints:
        socket.getaddrinfo = lambda *_arguments, **_hints: time.sleep(600)
    charge = parse_charge(sys.stdin.readline())
    kind = find_sink(type_name)
    sink = kind(kind.Options(**json.loads(options)))
    sink.open()
    threading.Thread(target=sink.write, args=([charge],), daemon=True).start()
    print("hangs", flush=True)
    sys.stdin.readline()


main()
