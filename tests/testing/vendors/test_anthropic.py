"""Anthropic messages, simulated, with the real plugin as the client."""

import contextlib

import pytest
from livekit.agents import APIConnectionError, APITimeoutError, function_tool
from livekit.agents import llm as lk_llm
from livekit.plugins import anthropic

from livekit_costmeter.testing import ChatScript, Fault, LoopbackProviders, Reply, Script, ToolCall
from livekit_costmeter.testing.ledger import key_label
from livekit_costmeter.testing.vendors.tokens import count

MODEL = "claude-sonnet-4-6"
STORY = "It was a long and winding road that led them home. " * 100


@function_tool
async def book_table(day: str) -> str:
    """Book a table.

    Args:
        day: The day of the week.
    """
    return f"booked for {day}"


@pytest.fixture
def connect():
    """Make the real plugin, and close what it opened."""

    async def use(providers, work, *, key="key-a", **options):
        model = anthropic.LLM(model=MODEL, base_url=providers.anthropic_url, api_key=key, **options)
        try:
            return await work(model)
        finally:
            await model.aclose()
            await model._client.close()
            await providers.ledger.settled()

    return use


@pytest.fixture
def ask(prompt, connect):
    """Ask the simulated model one question with the real plugin; returns text, tool calls and usage."""

    async def run(providers, *, tools=(), conn_options=None, question="Are you open?", chat=None, **options):
        more = {} if conn_options is None else {"conn_options": conn_options}

        async def work(model):
            text, calls, usage = "", [], None
            async with model.chat(chat_ctx=chat or prompt(question), tools=list(tools), **more) as stream:
                async for chunk in stream:
                    text += (chunk.delta.content or "") if chunk.delta else ""
                    calls += chunk.delta.tool_calls if chunk.delta else []
                    usage = chunk.usage or usage
            return text, calls, usage

        return await connect(providers, work, **options)

    return run


async def test_the_prompt_is_reported_as_billed_and_the_first_token_twice(ask):
    """The plugin adds the count at the start to the total at the end, so it reports one token more than is billed."""
    async with LoopbackProviders() as providers:
        text, _, usage = await ask(providers)
    (entry,) = providers.ledger.entries
    assert text == Script().anthropic.replies[0]
    assert (entry.provider, entry.component, entry.model, entry.outcome) == ("anthropic", "llm", MODEL, "completed")
    assert entry.quantities == {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens - 1}
    assert entry.quantities["output_tokens"] == count(text)


async def test_the_wire_says_what_the_ledger_does():
    """A client that reads `message_delta` as the total that it is agrees with the ledger."""
    script = Script(anthropic=ChatScript(replies=[Reply("Yes.", reasoning_tokens=30)]))
    async with LoopbackProviders(script) as providers:
        client = anthropic.LLM(model=MODEL, base_url=providers.anthropic_url, api_key="key-a")._client
        question = [{"role": "user", "content": "Really?"}]
        stream = await client.messages.create(model=MODEL, messages=question, max_tokens=100, stream=True)
        events = [event async for event in stream]
        await client.close()
        await providers.ledger.settled()
    (entry,) = providers.ledger.entries
    usage = next(event.usage for event in events if event.type == "message_delta")
    assert usage.output_tokens == sum(entry.quantities[unit] for unit in ("output_tokens", "reasoning_tokens"))
    assert usage.output_tokens_details.thinking_tokens == entry.quantities["reasoning_tokens"] == 30
    assert [event.content_block.type for event in events if event.type == "content_block_start"] == ["thinking", "text"]


async def test_reads_and_writes_of_the_cache_are_counted_apart(ask):
    """The ledger's units are disjoint where the plugin's prompt includes what was cached."""
    script = Script(anthropic=ChatScript(replies=[Reply("Yes.", cached_tokens=4, cache_write_tokens=3)]))
    async with LoopbackProviders(script) as providers:
        _, _, usage = await ask(providers)
    (entry,) = providers.ledger.entries
    assert (usage.cache_read_tokens, usage.cache_creation_tokens) == (4, 3)
    assert entry.quantities == {
        "input_tokens": usage.prompt_tokens - 7,
        "cached_input_tokens": 4,
        "cache_write_tokens": 3,
        "output_tokens": count("Yes."),
    }


async def test_the_cache_never_holds_more_than_the_prompt(ask):
    """What a script caches beyond the prompt is not billed."""
    script = Script(anthropic=ChatScript(replies=[Reply("Yes.", cached_tokens=5000, cache_write_tokens=5000)]))
    async with LoopbackProviders(script) as providers:
        _, _, usage = await ask(providers)
    (entry,) = providers.ledger.entries
    assert entry.quantities == {"cached_input_tokens": usage.prompt_tokens, "output_tokens": count("Yes.")}


async def test_marks_for_the_cache_cost_nothing(ask):
    """A prompt costs the same with and without the marks that say where it may be cached, and system text costs."""
    chat = lk_llm.ChatContext.empty()
    chat.add_message(role="system", content="Be brief.")
    chat.add_message(role="user", content="Are you open?")
    async with LoopbackProviders() as providers:
        _, _, bare = await ask(providers, chat=chat, tools=[book_table])
        _, _, marked = await ask(providers, chat=chat, tools=[book_table], caching="ephemeral")
        _, _, alone = await ask(providers, tools=[book_table])
    assert bare.prompt_tokens == marked.prompt_tokens > alone.prompt_tokens


async def test_tool_calls_arrive_whole_and_are_billed(ask):
    """Scripted tool calls reach the plugin with their arguments, and their tokens count as output."""
    calls = (ToolCall("book_table", '{"day": "Monday"}'), ToolCall("book_table", '{"day": "Friday"}'))
    script = Script(anthropic=ChatScript(replies=[Reply("One moment.", tool_calls=calls)]))
    async with LoopbackProviders(script) as providers:
        text, received, usage = await ask(providers, tools=[book_table])
    assert text == "One moment."
    assert [(call.name, call.arguments) for call in received] == [(call.name, call.arguments) for call in calls]
    parts = ["One moment.", *(part for call in calls for part in (call.name, call.arguments))]
    assert providers.ledger.total(unit="output_tokens") == sum(count(part) for part in parts)
    assert usage.completion_tokens == providers.ledger.total(unit="output_tokens") + 1


async def test_an_aborted_stream_is_billed_for_what_was_generated(prompt, connect):
    """A client that leaves in the middle pays the prompt and what was generated until its leaving was noticed."""

    async def work(model):
        received = ""
        async with model.chat(chat_ctx=prompt()) as stream:
            async for chunk in stream:
                received += (chunk.delta.content or "") if chunk.delta else ""
                if len(received) > 40:
                    return received
        return received

    async with LoopbackProviders(Script(anthropic=ChatScript(replies=[STORY]))) as providers:
        received = await connect(providers, work)
    (entry,) = providers.ledger.entries
    assert entry.outcome == "aborted"
    assert entry.quantities["input_tokens"] > 0
    assert count(received) <= entry.quantities["output_tokens"] < count(STORY)


async def test_keys_are_billed_apart_and_kept_secret(ask):
    """Two keys have two bills, and the ledger knows both only by their labels."""
    async with LoopbackProviders() as providers:
        _, _, first = await ask(providers, key="key-a", question="Hello?")
        _, _, second = await ask(providers, key="key-b", question="A longer question, to tell the two apart?")
    totals = [providers.ledger.total(unit="input_tokens", key=key) for key in ("key-a", "key-b")]
    assert totals == [first.prompt_tokens, second.prompt_tokens]
    assert [entry.key for entry in providers.ledger.entries] == [key_label("key-a"), key_label("key-b")]
    assert "key-a" not in repr(providers.ledger.entries)


async def test_refused_requests_cost_nothing(ask, impatient):
    """Two refusals and a success bill one prompt, and the reply is not used up by the refusals."""
    faults = [Fault(status=529), Fault(status=429)]
    script = Script(anthropic=ChatScript(replies=["First.", "Second."], faults=faults))
    async with LoopbackProviders(script) as providers:
        text, _, usage = await ask(providers, conn_options=impatient())
    assert text == "First."
    assert [entry.outcome for entry in providers.ledger.entries] == ["failed", "failed", "completed"]
    assert providers.ledger.total(unit="input_tokens") == usage.prompt_tokens


async def test_a_dropped_stream_is_billed_up_to_the_break(ask, impatient):
    """A connection that the vendor breaks after ten tokens has cost ten tokens."""
    async with LoopbackProviders(Script(anthropic=ChatScript(faults=[Fault(drop_after=10)]))) as providers:
        with pytest.raises(APIConnectionError):
            await ask(providers, conn_options=impatient(max_retry=0))
    (entry,) = providers.ledger.entries
    assert (entry.outcome, entry.quantities["output_tokens"]) == ("failed", 10)


async def test_a_stalled_request_has_cost_its_prompt(ask, impatient):
    """A request that is accepted and never answered is billed its prompt when the client gives up."""
    async with LoopbackProviders(Script(anthropic=ChatScript(faults=[Fault(stall=True)]))) as providers:
        # Older plugins leave it to Anthropic's client, which asks again.
        with contextlib.suppress(APITimeoutError):
            await ask(providers, conn_options=impatient(max_retry=0, timeout=0.2))
    entry = providers.ledger.entries[0]
    assert (entry.outcome, set(entry.quantities)) == ("aborted", {"input_tokens"})


async def test_hidden_reasoning_is_billed_when_aborted(ask, impatient):
    """A client that leaves while the model still reasons pays for the reasoning it never saw."""
    script = Script(anthropic=ChatScript(replies=[Reply("Yes.", reasoning_tokens=5000)]))
    async with LoopbackProviders(script) as providers:
        with pytest.raises(APIConnectionError):
            await ask(providers, conn_options=impatient(max_retry=0, timeout=0.3))
    (entry,) = providers.ledger.entries
    assert entry.outcome == "aborted"
    assert 0 < entry.quantities["reasoning_tokens"] < 5000
    assert "output_tokens" not in entry.quantities


async def test_the_total_can_be_withheld(ask):
    """A server that sends no `message_delta` bills all the same; the plugin is left with the first token."""
    async with LoopbackProviders(Script(anthropic=ChatScript(report_usage=False))) as providers:
        text, _, usage = await ask(providers)
    assert usage.completion_tokens == 1
    assert providers.ledger.total(unit="output_tokens") == count(text)


async def test_replies_can_depend_on_the_request(ask):
    """A callable script sees the request and decides."""
    replies = ChatScript(replies=lambda request: request.messages[-1]["content"][0]["text"].upper())
    async with LoopbackProviders(Script(anthropic=replies)) as providers:
        text, _, _ = await ask(providers, question="really?")
    assert text == "REALLY?"


async def test_chunks_can_hold_several_tokens(ask):
    """Larger chunks change neither the text nor the bill."""
    script = Script(anthropic=ChatScript(tokens_per_chunk=7, tokens_per_second=None))
    async with LoopbackProviders(script) as providers:
        text, _, _ = await ask(providers)
    assert text == script.anthropic.replies[0]
    assert providers.ledger.total(unit="output_tokens") == count(text)


async def test_a_warm_up_costs_nothing(connect):
    """The request with which the plugin warms its connection up is answered and not billed."""

    async def work(model):
        if not hasattr(model, "_prewarm_impl"):
            pytest.skip("this version of the plugin does not warm up")
        await model._prewarm_impl()

    async with LoopbackProviders() as providers:
        await connect(providers, work)
    assert providers.ledger.entries == []


async def test_requests_outside_the_simulation_are_refused_openly():
    """A request without a key, and one that does not stream, get an error and no entry."""
    async with LoopbackProviders() as providers:
        url = f"{providers.anthropic_url}/v1/messages"
        body = {"model": MODEL, "messages": [], "stream": True}
        async with providers.http_session.post(url, json=body) as keyless:
            assert keyless.status == 401
        async with providers.http_session.post(url, json={**body, "stream": False}) as unstreamed:
            assert unstreamed.status == 400
    assert providers.ledger.entries == []
