"""The life of the loopback server."""

import asyncio

import pytest

from livekit_costmeter.testing import ChatScript, Fault, LoopbackProviders, Script

BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
HEADERS = {"Authorization": "Bearer key-a"}
LIVE = {"model": "nova-3", "encoding": "linear16", "sample_rate": "16000"}


async def test_closing_ends_everything_under_way(until):
    """A stalled request and an idle socket end with the server, and no task is left behind."""
    before = asyncio.all_tasks()
    providers = LoopbackProviders(Script(chat=ChatScript(faults=[Fault(stall=True)])))
    await providers.start()
    session = providers.http_session
    socket = await session.ws_connect(providers.deepgram_url, params=LIVE, headers=HEADERS)
    request = asyncio.ensure_future(
        session.post(f"{providers.openai_url}/chat/completions", json=BODY, headers=HEADERS)
    )
    await until(lambda: providers.ledger.under_way == 2)
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    await providers.aclose()
    await socket.close()
    assert providers.ledger.under_way == 0
    assert {entry.outcome for entry in providers.ledger.entries} <= {"aborted", "completed"}
    assert asyncio.all_tasks() == before


async def test_a_client_left_waiting_does_not_hold_the_server_up(until):
    """The server closes although a client of its own session still waits for a stalled answer."""
    providers = LoopbackProviders(Script(chat=ChatScript(faults=[Fault(stall=True)])))
    await providers.start()
    answer = asyncio.ensure_future(
        providers.http_session.post(f"{providers.openai_url}/chat/completions", json=BODY, headers=HEADERS)
    )
    await until(lambda: providers.ledger.under_way == 1)
    await providers.aclose()
    await asyncio.gather(answer, return_exceptions=True)
    assert isinstance(answer.exception(), Exception)
    assert [entry.outcome for entry in providers.ledger.entries] == ["aborted"]


async def test_closing_again_is_harmless():
    """Closing twice, or without having started, does nothing."""
    providers = LoopbackProviders()
    await providers.aclose()
    await providers.start()
    await providers.aclose()
    await providers.aclose()
    assert providers.ledger.entries == []


async def test_servers_do_not_share_a_port_or_a_ledger():
    """Two servers run side by side."""
    async with LoopbackProviders() as first, LoopbackProviders() as second:
        assert first.openai_url != second.openai_url
        async with first.http_session.post(
            f"{first.openai_url}/chat/completions", json=BODY, headers=HEADERS
        ) as answer:
            await answer.read()
        await first.ledger.settled()
    assert [len(first.ledger.entries), len(second.ledger.entries)] == [1, 0]


async def test_the_session_is_there_only_while_running():
    """Asking for the client session before the start is a clear error."""
    with pytest.raises(AssertionError, match="not running"):
        LoopbackProviders().http_session.close()
