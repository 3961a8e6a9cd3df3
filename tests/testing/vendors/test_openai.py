"""OpenAI chat completions, simulated, with the real plugin as the client."""

import pytest
from livekit.agents import APIConnectionError, APITimeoutError, function_tool
from livekit.plugins import openai

from livekit_costmeter.testing import ChatScript, Fault, LoopbackProviders, Reply, Script, ToolCall
from livekit_costmeter.testing.vendors.tokens import count


@function_tool
async def book_table(day: str) -> str:
    """Book a table.

    Args:
        day: The day of the week.
    """
    return f"booked for {day}"


@pytest.fixture
def ask(prompt):
    """Ask the simulated model one question with the real plugin; returns text, tool calls and usage."""

    async def run(providers, *, key="key-a", tools=(), conn_options=None, question="Are you open?", **options):
        model = openai.LLM(model="gpt-4o-mini", base_url=providers.openai_url, api_key=key, **options)
        more = {} if conn_options is None else {"conn_options": conn_options}
        text, calls, usage = "", [], None
        try:
            async with model.chat(chat_ctx=prompt(question), tools=list(tools), **more) as stream:
                async for chunk in stream:
                    text += (chunk.delta.content or "") if chunk.delta else ""
                    calls += chunk.delta.tool_calls if chunk.delta else []
                    usage = chunk.usage or usage
        finally:
            await model.aclose()
            await providers.ledger.settled()
        return text, calls, usage

    return run


async def test_reported_usage_equals_the_ledger(ask):
    """The usage that a chat turn reports is what the ledger bills."""
    async with LoopbackProviders() as providers:
        text, _, usage = await ask(providers)
    (entry,) = providers.ledger.entries
    assert text == Script().chat.replies[0]
    assert entry.outcome == "completed"
    assert entry.quantities == {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens}
    assert usage.completion_tokens == count(text)


async def test_cached_and_reasoning_tokens_are_counted_apart(ask):
    """The ledger's units are disjoint where the wire's totals include each other."""
    script = Script(chat=ChatScript(replies=[Reply("Yes.", cached_tokens=4, reasoning_tokens=30)]))
    async with LoopbackProviders(script) as providers:
        _, _, usage = await ask(providers)
    (entry,) = providers.ledger.entries
    assert usage.prompt_cached_tokens == 4
    # LiveKit before 1.8.0 does not pass on what was reasoning.
    assert getattr(usage, "reasoning_tokens", 30) == 30
    assert entry.quantities == {
        "input_tokens": usage.prompt_tokens - 4,
        "cached_input_tokens": 4,
        "output_tokens": usage.completion_tokens - 30,
        "reasoning_tokens": 30,
    }


async def test_a_tool_call_arrives_whole_and_is_billed(ask):
    """A scripted tool call reaches the plugin with its arguments, and its tokens count as output."""
    script = Script(chat=ChatScript(replies=[Reply(tool_calls=(ToolCall("book_table", '{"day": "Saturday"}'),))]))
    async with LoopbackProviders(script) as providers:
        _, (call,), usage = await ask(providers, tools=[book_table])
    assert (call.name, call.arguments) == ("book_table", '{"day": "Saturday"}')
    assert providers.ledger.total(unit="output_tokens") == usage.completion_tokens > 0


async def test_parallel_tool_calls_stay_apart(ask):
    """Two calls in one reply arrive as two."""
    calls = (ToolCall("book_table", '{"day": "Monday"}'), ToolCall("book_table", '{"day": "Friday"}'))
    async with LoopbackProviders(Script(chat=ChatScript(replies=[Reply(tool_calls=calls)]))) as providers:
        _, received, _ = await ask(providers, tools=[book_table])
    assert [call.arguments for call in received] == [call.arguments for call in calls]


async def test_an_aborted_stream_is_billed_for_what_was_generated(prompt):
    """A client that leaves in the middle pays the prompt and what was generated until its leaving was noticed."""
    reply = "It was a long and winding road that led them home. " * 100
    async with LoopbackProviders(Script(chat=ChatScript(replies=[reply]))) as providers:
        model = openai.LLM(model="gpt-4o-mini", base_url=providers.openai_url, api_key="key-a")
        received = ""
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
    assert count(received) <= entry.quantities["output_tokens"] < count(reply)


async def test_hidden_reasoning_is_billed_when_aborted(ask, impatient):
    """A client that leaves while the model still reasons pays for the reasoning it never saw."""
    script = Script(chat=ChatScript(replies=[Reply("Yes.", reasoning_tokens=5000)]))
    async with LoopbackProviders(script) as providers:
        # A timeout, which older versions do not tell from a connection that broke.
        with pytest.raises(APIConnectionError):
            await ask(providers, conn_options=impatient(max_retry=0, timeout=0.3))
    (entry,) = providers.ledger.entries
    assert entry.outcome == "aborted"
    assert 0 < entry.quantities["reasoning_tokens"] < 5000
    assert "output_tokens" not in entry.quantities


async def test_keys_are_billed_apart(ask):
    """Two keys have two bills, and the ledger knows neither key."""
    async with LoopbackProviders() as providers:
        _, _, first = await ask(providers, key="key-a", question="Hello?")
        _, _, second = await ask(providers, key="key-b", question="A longer question, to tell the two apart?")
    totals = [providers.ledger.total(unit="input_tokens", key=key) for key in ("key-a", "key-b")]
    assert totals == [first.prompt_tokens, second.prompt_tokens]
    assert "key-a" not in repr(providers.ledger.entries)


async def test_refused_requests_cost_nothing(ask, impatient):
    """Two refusals and a success bill one prompt, and the reply is not used up by the refusals."""
    faults = [Fault(status=500), Fault(status=429)]
    script = Script(chat=ChatScript(replies=["First.", "Second."], faults=faults))
    async with LoopbackProviders(script) as providers:
        text, _, usage = await ask(providers, conn_options=impatient())
    assert text == "First."
    assert [entry.outcome for entry in providers.ledger.entries] == ["failed", "failed", "completed"]
    assert providers.ledger.total(unit="input_tokens") == usage.prompt_tokens


async def test_a_dropped_stream_is_billed_up_to_the_break(ask, impatient):
    """A connection that the vendor breaks after ten tokens has cost ten tokens."""
    script = Script(chat=ChatScript(faults=[Fault(drop_after=10)]))
    async with LoopbackProviders(script) as providers:
        with pytest.raises(APIConnectionError):
            await ask(providers, conn_options=impatient(max_retry=0))
    (entry,) = providers.ledger.entries
    assert (entry.outcome, entry.quantities["output_tokens"]) == ("failed", 10)


async def test_a_stalled_request_has_cost_its_prompt(ask, impatient):
    """A request that is accepted and never answered is billed its prompt when the client gives up."""
    script = Script(chat=ChatScript(faults=[Fault(stall=True)]))
    async with LoopbackProviders(script) as providers:
        with pytest.raises(APITimeoutError):
            await ask(providers, conn_options=impatient(max_retry=0, timeout=0.2))
    (entry,) = providers.ledger.entries
    assert (entry.outcome, set(entry.quantities)) == ("aborted", {"input_tokens"})


async def test_usage_can_be_withheld(ask):
    """A server that sends no usage chunk bills all the same."""
    async with LoopbackProviders(Script(chat=ChatScript(report_usage=False))) as providers:
        text, _, usage = await ask(providers)
    assert usage is None
    assert providers.ledger.total(unit="output_tokens") == count(text)


async def test_replies_can_depend_on_the_request(ask):
    """A callable script sees the request and decides."""
    script = Script(chat=ChatScript(replies=lambda request: request.messages[-1]["content"].upper()))
    async with LoopbackProviders(script) as providers:
        text, _, _ = await ask(providers, question="really?")
    assert text == "REALLY?"


async def test_chunks_can_hold_several_tokens(ask):
    """Larger chunks change neither the text nor the bill."""
    async with LoopbackProviders(Script(chat=ChatScript(tokens_per_chunk=7, tokens_per_second=None))) as providers:
        text, _, usage = await ask(providers)
    assert text == Script().chat.replies[0]
    assert usage.completion_tokens == count(text)


async def test_the_service_tier_is_echoed(ask):
    """The tier that was asked for comes back on the wire."""
    async with LoopbackProviders() as providers:
        _, _, usage = await ask(providers, service_tier="priority")
    assert usage.service_tier == "priority"


async def test_requests_outside_the_simulation_are_refused_openly():
    """A request without a key, and one that does not stream, get an error and no entry."""
    async with LoopbackProviders() as providers:
        url = f"{providers.openai_url}/chat/completions"
        body = {"model": "gpt-4o-mini", "messages": [], "stream": True}
        async with providers.http_session.post(url, json=body) as keyless:
            assert keyless.status == 401
        async with providers.http_session.post(url, json={**body, "stream": False}) as unstreamed:
            assert unstreamed.status == 400
    assert providers.ledger.entries == []
