"""
A real worker for the kill tests: each job runs calls without end and notes every record whose append returned.

Reads `job ROOM` lines on standard input. Notes go to `$NOTES/<pid>`, one id per line, each one unbuffered write.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from livekit.agents import AgentServer, JobContext, JobExecutorType
from livekit.plugins import cartesia, deepgram, openai

import livekit_costmeter as costmeter
from livekit_costmeter.testing import CallDriver

meter = costmeter.install()
NOTES = Path(os.environ["NOTES"])
ROOT = os.environ["PROVIDERS"]
EXECUTOR = JobExecutorType[os.environ.get("EXECUTOR", "PROCESS")]
# It never connects; older versions want an address and a key all the same.
NOWHERE = {"ws_url": "ws://127.0.0.1:9", "api_key": "any", "api_secret": "a secret long enough to sign with"}
server = AgentServer(host="127.0.0.1", port=0, num_idle_processes=2, job_executor_type=EXECUTOR, **NOWHERE)


def note(record):
    """Write down that this record was appended."""
    descriptor = os.open(NOTES / str(os.getpid()), os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, f"{record.id}\n".encode())
    os.close(descriptor)


meter.on("usage_collected", note)


@server.rtc_session()
async def entrypoint(ctx: JobContext):
    """Talk until somebody ends this."""
    call = CallDriver(
        stt=deepgram.STT(base_url=f"{ROOT}/deepgram/v1/listen", api_key="key-stt"),
        llm=openai.LLM(model="gpt-4o-mini", base_url=f"{ROOT}/openai/v1", api_key="key-llm"),
        tts=cartesia.TTS(base_url=f"{ROOT}/cartesia", api_key="key-tts"),
        speed=10.0,
    )
    (NOTES / f"started-{ctx.job.room.name}").write_text(str(os.getpid()))
    async with call:
        turns = 3 if ctx.job.room.name.startswith("short") else 10_000
        for _ in range(turns):
            await call.turn(0.3)
    (NOTES / f"finished-{ctx.job.room.name}").write_text(str(os.getpid()))
    ctx.shutdown()


async def main():
    """Serve without a LiveKit server, starting a job per line of standard input."""
    running = asyncio.create_task(server.run(devmode=True, unregistered=True))
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode().split():
        await server.simulate_job(line[1], fake_job=True)
    await server.aclose()
    await running


if __name__ == "__main__":
    asyncio.run(main())
