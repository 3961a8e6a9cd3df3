"""An agent's script, as far as the meter goes: `one_reply.py` asks a simulated model once and leaves."""

import asyncio

from livekit.agents.llm import ChatContext
from livekit.plugins import openai

import livekit_costmeter as costmeter
from livekit_costmeter.testing import LoopbackProviders

meter = costmeter.install()


async def main():
    async with LoopbackProviders() as providers:
        model = openai.LLM(model="gpt-4o-mini", client=providers.openai_client("any"))
        context = ChatContext.empty()
        context.add_message(role="user", content="What does a sink do?")
        async with model.chat(chat_ctx=context) as stream:
            async for _ in stream:
                pass
        await meter.aclose()


asyncio.run(main())
