"""How an attempt ended: refused costs nothing, broken may have cost everything."""

from __future__ import annotations

import asyncio
import socket

import aiohttp
import pytest
from livekit.agents import APIConnectionError, APIError, APIStatusError, APITimeoutError

from livekit_costmeter.metering.operations.attempts import is_cancellation, may_have_cost, was_refused


def caused_by(error, *causes):
    """Chain causes as plugins do: `raise ... from ...`."""
    for outer, inner in zip((error, *causes), causes, strict=False):
        outer.__cause__ = inner
    return error


def hidden(error, cause):
    """Hide a cause as plugins do: `raise ... from None`."""
    try:
        try:
            raise cause
        except type(cause):
            raise error from None
    except type(error) as raised:
        return raised


def of_a_client(name):
    """Make an exception such as an HTTP client names it; which client a plugin uses is its own affair."""
    return type(name, (Exception,), {})("said something")


@pytest.mark.parametrize(
    "error",
    [
        APIStatusError("bad request", status_code=400),
        APIStatusError("rate limit", status_code=429),
        APIStatusError("overloaded", status_code=529),
        caused_by(APIConnectionError(), APIStatusError("no", status_code=500)),
        caused_by(APIConnectionError(), of_a_client("ConnectError")),
        caused_by(APITimeoutError(), of_a_client("ConnectTimeout")),
        caused_by(APITimeoutError(), of_a_client("PoolTimeout")),
        caused_by(APIConnectionError(), ConnectionRefusedError()),
        caused_by(APIConnectionError(), OSError(), socket.gaierror(-2, "unknown")),
        hidden(APIConnectionError(), ConnectionRefusedError()),
        caused_by(APIError("x"), aiohttp.WSServerHandshakeError(None, (), status=401)),
    ],
    ids=lambda error: f"{type(error).__name__}-{type(error.__cause__ or error.__context__).__name__}",
)
def test_a_provider_that_refused_or_was_never_reached_did_no_work(error):
    """An error status is an answer without work, wherever it hides in the chain; so is no connection."""
    assert was_refused(error)
    assert not may_have_cost(error)


@pytest.mark.parametrize(
    "error",
    [
        APIConnectionError(),
        APITimeoutError(),
        TimeoutError(),
        caused_by(APIConnectionError(), of_a_client("ReadTimeout")),
        caused_by(APIConnectionError(), of_a_client("RemoteProtocolError")),
        caused_by(APIError("x"), aiohttp.ServerDisconnectedError()),
        caused_by(APIError("x"), ConnectionResetError()),
        hidden(APIError("x"), of_a_client("ReadError")),
    ],
    ids=lambda error: f"{type(error).__name__}-{type(error.__cause__ or error.__context__).__name__}",
)
def test_a_connection_that_broke_may_have_cost_what_was_asked(error):
    """The request was on its way, and nobody knows how far the provider came."""
    assert not was_refused(error)
    assert may_have_cost(error)


@pytest.mark.parametrize("status", [-1, 1006, 1011])
def test_the_code_of_a_closed_websocket_is_a_broken_connection(status):
    """Plugins put it where an HTTP status is expected; the request was on its way."""
    error = APIStatusError("connection closed unexpectedly", status_code=status)
    assert not was_refused(error)
    assert may_have_cost(error)


@pytest.mark.parametrize("error", [ValueError("ours"), APIError("no audio frames")])
def test_an_error_that_says_neither_proves_no_cost(error):
    """A mistake of the plugin is no work of the provider; what was received says the rest."""
    assert not was_refused(error)
    assert not may_have_cost(error)


def test_a_request_that_its_client_closed_was_not_refused():
    """Status 499 says who hung up, not that nothing was done."""
    assert not was_refused(APIStatusError("client closed request", status_code=499))


@pytest.mark.parametrize("status", ["500", True, None, 200, 302])
def test_a_status_that_is_no_error_status_refuses_nothing(status):
    """Exceptions of others carry all kinds of things under that name."""
    error = APIError("x")
    error.status_code = status
    assert not was_refused(error)


def test_a_chain_that_cycles_ends():
    """Two exceptions may be each other's cause."""
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert not was_refused(first)
    assert not may_have_cost(first)


@pytest.mark.parametrize(
    ("error", "is_ours"),
    [
        (asyncio.CancelledError(), True),
        (GeneratorExit(), True),
        (APITimeoutError(), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_only_giving_up_is_a_cancellation(error, is_ours):
    """What the provider or the machine did is another thing."""
    assert is_cancellation(error) is is_ours
