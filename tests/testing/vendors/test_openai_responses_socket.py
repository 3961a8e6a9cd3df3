"""The websocket mode of OpenAI responses, simulated, with a bare socket as the client."""

import pytest

from livekit_costmeter.testing import ChatScript, Fault, LoopbackProviders, Script
from livekit_costmeter.testing.vendors.tokens import count

LONG = "It was a long and winding road that led them home. " * 100
BODY = {"model": "gpt-4o-mini", "input": "Are you open?"}
HEADERS = {"Authorization": "Bearer key-a"}


@pytest.fixture
async def connect_socket():
    """Open a bare socket to the responses of running providers."""
    opened = []

    async def connect(providers):
        url = f"{providers.openai_url}/responses"
        opened.append(await providers.http_session.ws_connect(url, headers=HEADERS))
        return opened[-1]

    yield connect
    for connection in opened:
        await connection.close()


async def next_event(connection, type):
    """Return the next event of that type."""
    while (event := await connection.receive_json(timeout=5))["type"] != type:
        pass
    return event


async def test_a_cancelled_response_ends_its_operation(connect_socket):
    """A client that takes its request back pays what was generated, and the socket serves the next one."""
    async with LoopbackProviders(Script(responses=ChatScript(replies=[LONG, "Yes."]))) as providers:
        connection = await connect_socket(providers)
        await connection.send_json({"type": "response.cancel"})
        await connection.send_json({"type": "response.create", **BODY})
        await next_event(connection, "response.output_text.delta")
        await connection.send_json({"type": "response.cancel"})
        assert (await next_event(connection, "error"))["error"]["code"] == "response_cancelled"
        await connection.send_json({"type": "response.create", **BODY})
        done = await next_event(connection, "response.completed")
        await connection.close()
        await providers.ledger.settled()
    cancelled, completed = providers.ledger.entries
    assert (cancelled.outcome, completed.outcome) == ("aborted", "completed")
    assert 0 < cancelled.quantities["output_tokens"] < count(LONG)
    assert done["response"]["usage"]["output_tokens"] == completed.quantities["output_tokens"] == count("Yes.")


async def test_a_request_taken_back_at_once_has_cost_its_prompt(connect_socket):
    """A cancellation right behind its request finds it accepted, and not yet answered."""
    script = Script(responses=ChatScript(faults=[Fault(stall=True)]))
    async with LoopbackProviders(script) as providers:
        connection = await connect_socket(providers)
        await connection.send_json({"type": "response.create", **BODY})
        await connection.send_json({"type": "response.cancel"})
        await next_event(connection, "error")
        await providers.ledger.settled()
    (entry,) = providers.ledger.entries
    assert (entry.outcome, set(entry.quantities)) == ("aborted", {"input_tokens"})


async def test_instructions_are_read_once_and_not_remembered(connect_socket):
    """Instructions cost tokens in their own response and none in the next."""
    async with LoopbackProviders(Script(responses=ChatScript(replies=["Yes."]))) as providers:
        connection = await connect_socket(providers)
        instructed = {"type": "response.create", **BODY, "instructions": "Be very brief."}
        await connection.send_json(instructed)
        first = (await next_event(connection, "response.completed"))["response"]
        await connection.send_json({"type": "response.create", **BODY, "previous_response_id": first["id"]})
        second = (await next_event(connection, "response.completed"))["response"]
    question, instructions, yes = count("Are you open?") + 3, count("Be very brief.") + 3, count("Yes.") + 3
    assert first["usage"]["input_tokens"] == question + instructions + 3
    assert second["usage"]["input_tokens"] == 2 * question + yes + 3


async def test_requests_outside_the_simulation_are_refused_openly(connect_socket):
    """What cannot be answered gets an error and no entry."""
    async with LoopbackProviders() as providers:
        url, session = f"{providers.openai_url}/responses", providers.http_session
        lost = {**BODY, "previous_response_id": "resp_0"}
        async with session.post(url, json={**BODY, "stream": True}) as keyless:
            assert keyless.status == 401
        for body in (BODY, {**lost, "stream": True}):
            async with session.post(url, json=body, headers=HEADERS) as refused:
                assert refused.status == 400
        connection = await connect_socket(providers)
        for event in ({"type": "response.steer"}, {"type": "response.create", **lost}):
            await connection.send_json(event)
            assert (await next_event(connection, "error"))["status"] == 400
        assert providers.ledger.entries == []


async def test_a_socket_serves_one_response_at_a_time(connect_socket):
    """A second request beside a running one is refused; the running one goes on."""
    async with LoopbackProviders() as providers:
        connection = await connect_socket(providers)
        for _ in range(2):
            await connection.send_json({"type": "response.create", **BODY})
        assert (await next_event(connection, "error"))["error"]["code"] == "concurrent_response"
        assert await next_event(connection, "response.completed")
        await providers.ledger.settled()
    assert [entry.outcome for entry in providers.ledger.entries] == ["completed"]
