"""OpenAI responses, simulated, with the real plugin as the client, over both of its transports."""

import pytest
from livekit.agents import APIConnectionError, APIError, APIStatusError, APITimeoutError, function_tool
from livekit.agents.utils import http_context
from livekit.plugins import cartesia, deepgram, openai

from livekit_costmeter.testing import CallDriver, ChatScript, Fault, LoopbackProviders, Reply, Script, ToolCall
from livekit_costmeter.testing.vendors.tokens import count

LONG = "It was a long and winding road that led them home. " * 100


@function_tool
async def book_table(day: str) -> str:
    """Book a table.

    Args:
        day: The day of the week.
    """
    return f"booked for {day}"


@pytest.fixture(params=[False, True], ids=["events", "socket"])
def responses(request):
    """Make the plugin's model, over one transport or the other."""

    def make(providers, **options):
        more = {"api_key": "key-a", "base_url": providers.openai_url, "use_websocket": request.param, **options}
        return openai.responses.LLM(model="gpt-4o-mini", **more)

    return make


@pytest.fixture
def ask(prompt, responses):
    """Ask the simulated model one question with the real plugin; returns text, tool calls and usage."""

    async def run(providers, *, tools=(), conn_options=None, **options):
        async with http_context.open():
            model = responses(providers, **options)
            try:
                return await answer(model, prompt(), tools=list(tools), conn_options=conn_options)
            finally:
                await model.aclose()
                await providers.ledger.settled()

    return run


async def answer(model, chat, *, tools=(), conn_options=None):
    """Collect one answer: its text, its tool calls and its usage."""
    more = {} if conn_options is None else {"conn_options": conn_options}
    text, calls, usage = "", [], None
    async with model.chat(chat_ctx=chat, tools=list(tools), **more) as stream:
        async for chunk in stream:
            text += (chunk.delta.content or "") if chunk.delta else ""
            calls += chunk.delta.tool_calls if chunk.delta else []
            usage = chunk.usage or usage
    return text, calls, usage


async def test_reported_usage_equals_the_ledger(ask):
    """Cached and reasoning tokens arrive as parts of the totals and are billed apart."""
    script = Script(responses=ChatScript(replies=[Reply("Yes, until six.", cached_tokens=4, reasoning_tokens=30)]))
    async with LoopbackProviders(script) as providers:
        text, _, usage = await ask(providers, service_tier="priority")
    (entry,) = providers.ledger.entries
    assert (text, entry.outcome, usage.service_tier) == ("Yes, until six.", "completed", "priority")
    assert usage.prompt_cached_tokens == 4
    # Older plugins do not pass on what was reasoning.
    assert getattr(usage, "reasoning_tokens", 0) in (0, 30)
    assert usage.completion_tokens == count(text) + 30
    assert entry.quantities == {
        "input_tokens": usage.prompt_tokens - 4,
        "cached_input_tokens": 4,
        "output_tokens": usage.completion_tokens - 30,
        "reasoning_tokens": 30,
    }


async def test_text_and_tool_calls_arrive_whole(ask):
    """A reply can speak and ask for two functions; each arrives with its arguments."""
    calls = (ToolCall("book_table", '{"day": "Monday"}'), ToolCall("book_table", '{"day": "Friday"}'))
    script = Script(responses=ChatScript(replies=[Reply("One moment.", tool_calls=calls)]))
    async with LoopbackProviders(script) as providers:
        text, received, usage = await ask(providers, tools=[book_table])
    assert text == "One moment."
    assert [(call.name, call.arguments) for call in received] == [(call.name, call.arguments) for call in calls]
    assert providers.ledger.total(unit="output_tokens") == usage.completion_tokens > count(text)


async def test_a_remembered_conversation_is_billed_again(prompt, responses):
    """The plugin sends only what is new, and pays for all that the vendor remembers."""
    async with LoopbackProviders(Script(responses=ChatScript(replies=["Yes.", "At six."]))) as providers:
        async with http_context.open():
            remembering, resending = responses(providers), responses(providers, store=False)
            spent = []
            for model in (remembering, resending):
                chat = prompt()
                _, _, first = await answer(model, chat)
                chat.add_message(role="user", content="When do you close?")
                _, _, second = await answer(model, chat)
                spent.append((first.prompt_tokens, second.prompt_tokens))
                await model.aclose()
        await providers.ledger.settled()
    said = count("Yes.") + 3
    assert spent[0] == (spent[1][0], spent[1][1] + said)
    assert providers.ledger.total(unit="input_tokens") == sum(map(sum, spent))


async def test_an_aborted_response_is_billed_for_what_was_generated(prompt, responses):
    """A client that leaves in the middle pays the prompt and what was generated until its leaving was noticed."""
    received = ""
    async with LoopbackProviders(Script(responses=ChatScript(replies=[LONG]))) as providers:
        async with http_context.open():
            model = responses(providers)
            async with model.chat(chat_ctx=prompt()) as stream:
                async for chunk in stream:
                    received += (chunk.delta.content or "") if chunk.delta else ""
                    if len(received) > 40:
                        break
            await model.aclose()
        await providers.ledger.settled()
    (entry,) = providers.ledger.entries
    assert entry.outcome == "aborted"
    assert entry.quantities["input_tokens"] > 0
    assert count(received) <= entry.quantities["output_tokens"] < count(LONG)


async def test_hidden_reasoning_is_billed_when_the_client_leaves(prompt, responses, until):
    """What the model thought before the client left is on the bill, although the client saw none of it."""
    script = Script(responses=ChatScript(replies=[Reply("Yes.", reasoning_tokens=5000)]))
    async with LoopbackProviders(script) as providers:
        async with http_context.open():
            model = responses(providers)
            async with model.chat(chat_ctx=prompt()):
                await until(lambda: providers.ledger.under_way == 1)
            await model.aclose()
        await providers.ledger.settled()
    (entry,) = providers.ledger.entries
    assert entry.outcome == "aborted"
    assert "output_tokens" not in entry.quantities
    assert entry.quantities.get("reasoning_tokens", 0) < 5000


async def test_refused_requests_cost_nothing(ask, impatient):
    """A refusal has an entry without quantities, and uses up no reply."""
    script = Script(responses=ChatScript(replies=["First.", "Second."], faults=[Fault(status=503)]))
    async with LoopbackProviders(script) as providers:
        # Older plugins cannot read a refusal over the socket, and take it for a broken connection.
        with pytest.raises((APIStatusError, APIConnectionError)) as refused:
            await ask(providers, conn_options=impatient(max_retry=0))
        text, _, _ = await ask(providers)
    assert (getattr(refused.value, "status_code", 503), text) == (503, "First.")
    assert [(entry.outcome, bool(entry.quantities)) for entry in providers.ledger.entries] == [
        ("failed", False),
        ("completed", True),
    ]


async def test_a_dropped_response_is_billed_up_to_the_break(ask, impatient):
    """A connection that the vendor breaks after ten tokens has cost ten tokens."""
    script = Script(responses=ChatScript(faults=[Fault(drop_after=10)]))
    async with LoopbackProviders(script) as providers:
        with pytest.raises(APIError):
            await ask(providers, conn_options=impatient(max_retry=0))
    (entry,) = providers.ledger.entries
    assert (entry.outcome, entry.quantities["output_tokens"]) == ("failed", 10)


async def test_usage_can_be_withheld(ask):
    """A server that reports no usage bills all the same."""
    async with LoopbackProviders(Script(responses=ChatScript(report_usage=False))) as providers:
        text, _, usage = await ask(providers)
    assert usage is None
    assert providers.ledger.total(unit="output_tokens") == count(text)


async def test_a_stalled_response_has_cost_its_prompt(prompt, impatient):
    """A request that is accepted and never answered is billed its prompt when the client gives up."""
    script = Script(responses=ChatScript(faults=[Fault(stall=True)]))
    async with LoopbackProviders(script) as providers:
        client = {"base_url": providers.openai_url, "api_key": "key-a", "use_websocket": False}
        model = openai.responses.LLM(model="gpt-4o-mini", **client)
        with pytest.raises((APITimeoutError, APIConnectionError)):
            await answer(model, prompt(), conn_options=impatient(max_retry=0, timeout=0.2))
        await model.aclose()
        await providers.ledger.settled()
    (entry,) = providers.ledger.entries
    assert (entry.outcome, set(entry.quantities)) == ("aborted", {"input_tokens"})


async def test_a_client_can_be_openais_own_host(prompt):
    """Through the redirecting client the plugin names OpenAI as its provider, and is answered here."""
    async with LoopbackProviders() as providers, providers.openai_client("key-a") as client:
        model = openai.responses.LLM(model="gpt-4o-mini", client=client, use_websocket=False)
        await answer(model, prompt())
        assert model.provider == "api.openai.com"
        await model.aclose()
        await providers.ledger.settled()
    assert [entry.outcome for entry in providers.ledger.select(key="key-a")] == ["completed"]


async def test_a_call_can_think_with_responses(responses):
    """In a call of two turns every response is in the ledger, and prompts grow."""
    async with LoopbackProviders() as providers:
        ear = deepgram.STT(base_url=providers.deepgram_url, api_key="key-stt")
        voice = cartesia.TTS(base_url=providers.cartesia_url, api_key="key-tts")
        async with CallDriver(stt=ear, llm=responses(providers), tts=voice, speed=10.0) as call:
            assert (await call.turn()).text == Script().responses.replies[0]
            await call.turn()
        await providers.ledger.settled()
    first, second = providers.ledger.select(component="llm", outcome="completed")
    assert second.quantities["input_tokens"] > first.quantities["input_tokens"]
