"""
A process with LiveKit's own metrics endpoint and a Prometheus sink.

It prints the endpoint's port, then obeys lines on stdin: `write A B` writes the charges of the records from A to B and
is answered with `ok`, `check` with the sink's health.
"""

import asyncio
import importlib.util
import sys
import threading
from pathlib import Path

from livekit.agents.telemetry.http_server import HttpServer

from livekit_costmeter.delivery.sinks.prometheus import PrometheusSink
from livekit_costmeter.records import parse_usage, usage_json


def load_rates():
    path = Path(__file__).parents[2] / "children" / "rates.py"
    spec = importlib.util.spec_from_file_location("delivery_test_rates", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def serve():
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    server = HttpServer("127.0.0.1", 0)
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    return server.port


def main():
    rates, sink = load_rates(), PrometheusSink()
    print(serve(), flush=True)
    for line in sys.stdin:
        order, *words = line.split()
        if order == "check":
            print(sink.check(), flush=True)
            continue
        numbers = range(int(words[0]), int(words[1]))
        records = [parse_usage(usage_json(rates.usage(id=f"seg-{number}"))) for number in numbers]
        sink.write([charge for record in records for charge in rates.two_charges(record)])
        print("ok", flush=True)


main()
