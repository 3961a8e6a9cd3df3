"""
An ordinary LiveKit worker with one added line.

    python examples/agent.py console     # talk to it in the terminal
    python examples/agent.py dev         # serve a LiveKit project (LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET)
    python examples/agent.py start

It needs OPENAI_API_KEY, DEEPGRAM_API_KEY and CARTESIA_API_KEY. What a call cost: costmeter report
"""

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, cli
from livekit.plugins import cartesia, deepgram, openai

import livekit_costmeter as costmeter

meter = costmeter.install()  # the one line; job processes import this file again, so they are metered too

server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext) -> None:
    """Answer one call."""
    session: AgentSession[None] = AgentSession(
        stt=deepgram.STT(model="nova-3"),
        llm=openai.LLM(model="gpt-4o-mini"),
        tts=cartesia.TTS(model="sonic-3"),
    )
    # Optional: who this call is for, if the job's metadata does not say so (see `attribution` in costmeter.yaml).
    meter.attach(session, labels={"channel": "web"})
    await session.start(agent=Agent(instructions="You are a helpful voice assistant. Be brief."), room=ctx.room)
    await session.generate_reply(instructions="Greet the caller.")


if __name__ == "__main__":
    cli.run_app(server)
