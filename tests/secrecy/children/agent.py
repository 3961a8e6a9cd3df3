"""
An agent's process with the real installed pipeline: every plugin does its work once and is refused once.

Reads the keys as JSON from standard input. Writes our log lines to `ours.log`, everybody else's to `theirs.log` and
the reprs of our objects to `reprs.txt`, all below `$OUT`, with the root logger at DEBUG.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import time
from pathlib import Path

import gateway
import parts
from livekit import rtc
from livekit.agents import APIConnectOptions, APIError, llm, metrics, stt
from livekit.agents.utils import http_context

import livekit_costmeter as costmeter
from livekit_costmeter.config import load
from livekit_costmeter.config.prices import build_rate
from livekit_costmeter.testing import LoopbackProviders
from livekit_costmeter.testing.audio import tone

OUT = Path(os.environ["OUT"])
KEYS = json.load(sys.stdin)
ONCE = APIConnectOptions(max_retry=0, timeout=5.0)
FRAME = rtc.AudioFrame(tone(8_000, 16_000), sample_rate=16_000, num_channels=1, samples_per_channel=8_000)


class Everything(logging.Formatter):
    """Also write what came in `extra=`."""

    def format(self, record):
        """Append the record's own attributes."""
        return f"{super().format(record)} {vars(record)}"


def log_to_files():
    """Split the log: what we say, and what everybody else says."""
    root = logging.getLogger()
    root.setLevel(logging.DEBUG)
    for name, ours in (("ours", True), ("theirs", False)):
        handler = logging.FileHandler(OUT / f"{name}.log")
        handler.addFilter(lambda record, ours=ours: record.name.startswith("livekit.costmeter") is ours)
        handler.setFormatter(Everything("%(name)s %(levelname)s %(message)s"))
        root.addHandler(handler)


class Talkative(llm.LLM):
    """A model of the user's own whose repr and whose errors hold its key."""

    def __init__(self, key):
        super().__init__()
        self._api_key = key

    def __repr__(self):
        return f"Talkative({self._api_key})"

    @property
    def model(self):
        raise RuntimeError(f"no model for {self._api_key}")

    def chat(self, **_options):
        raise NotImplementedError


async def use(part):
    """Let a component do its work, in each way it offers."""
    if isinstance(part, llm.RealtimeModel):
        await talk(part)
    elif isinstance(part, llm.LLM):
        context = llm.ChatContext.empty()
        context.add_message(role="user", content="Hello there.")
        await part.chat(chat_ctx=context, conn_options=ONCE).collect()
    elif isinstance(part, stt.STT):
        await hear(part)
    else:
        await say(part)


async def talk(model):
    """Ask a realtime session for one response, or see it fail."""
    session = model.session()
    failed = asyncio.get_running_loop().create_future()
    session.on("error", lambda error: failed.done() or failed.set_result(error))
    reply = asyncio.ensure_future(session.generate_reply())
    await asyncio.wait([reply, failed], timeout=3.0, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(0.1)
    reply.cancel()
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await reply
    await session.aclose()


async def hear(part):
    """Recognise a moment of speech; streaming where the component can."""
    if not part.capabilities.streaming:
        await part.recognize(FRAME, conn_options=ONCE)
        return
    async with part.stream(conn_options=ONCE) as stream:
        stream.push_frame(FRAME)
        stream.end_input()
        # Some plugins wait for the other side to hang up, so the end of hearing is a moment after the end of speech.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.5):
                async for _ in stream:
                    pass


async def say(part):
    """Synthesise a sentence, whole and streamed."""
    errors = []
    try:
        await part.synthesize("Good morning to you.", conn_options=ONCE).collect()
    except APIError as error:
        errors.append(error)
    if part.capabilities.streaming:
        async with part.stream(conn_options=ONCE) as stream:
            stream.push_text("Good morning, how can I help you today?")
            stream.end_input()
            async for _ in stream:
                pass
    if errors:
        raise errors[0]


async def use_all(components, note):
    """Use all components at once; note how each ended."""
    names = list(components)
    ends = await asyncio.gather(*(use(components[name]) for name in names), return_exceptions=True)
    for name, end in zip(names, ends, strict=True):
        note[name] = "done" if not isinstance(end, BaseException) else type(end).__name__
    for part in components.values():
        with contextlib.suppress(Exception):
            await part.aclose()


def stumble():
    """Report usage on a component that cannot be identified without its key being named."""
    part = Talkative(KEYS["talkative"])
    usage = {"completion_tokens": 1, "prompt_tokens": 1, "prompt_cached_tokens": 0, "total_tokens": 2}
    timing = {"timestamp": time.time(), "duration": 0.1, "ttft": 0.1, "tokens_per_second": 1.0}
    event = metrics.LLMMetrics(label="talkative", request_id="r", cancelled=False, **usage, **timing)
    part.emit("metrics_collected", event)


def write_reprs(meter, records, components):
    """Write the repr of everything of ours that an error report or a debugger might show."""
    config = load()
    rate = build_rate(config)
    charges = [charge for record in records for charge in rate(record)]
    known = [getattr(part, "_livekit_costmeter_known", None) for part in components.values()]
    ours = [meter, meter.taps, *vars(meter).values(), config, config.settings, config.document, config.sinks, rate]
    ours += [vars(meter._identities), [item and item.identity for item in known], vars(meter._delivery), known]
    (OUT / "reprs.txt").write_text("\n".join(map(repr, [*ours, meter.summary(), records, charges])))


async def main(meter):
    """Work, be refused, stumble, and settle."""
    records, ends = [], {"worked": {}, "refused": {}}
    meter.on("usage_collected", records.append)
    runner, root = await gateway.start()
    async with LoopbackProviders() as providers, http_context.open():
        components = parts.working(KEYS, providers, root)
        await use_all(components, ends["worked"])
        await use_all(parts.refused(KEYS, root), ends["refused"])
        stumble()
    await runner.cleanup()
    await meter.aclose()
    write_reprs(meter, records, components)
    (OUT / "ends.json").write_text(json.dumps(ends))


if __name__ == "__main__":
    log_to_files()
    installed = costmeter.install()
    # One sink never takes its share, so waiting for it would only take time.
    installed._delivery._deadline = 1.5
    asyncio.run(main(installed))
