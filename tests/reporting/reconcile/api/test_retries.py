"""What is asked again, what is not, and what is said when it is over."""

import asyncio
import dataclasses
import logging
from datetime import timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web

from livekit_costmeter.log import LOGGER_NAME
from livekit_costmeter.reporting.reconcile.api import ApiError, ApiSettings, Patience, fetch
from livekit_costmeter.reporting.reconcile.api.reports import LastingError
from tests.reporting.reconcile.api.simulators import (
    DAYS,
    KEY,
    SIMULATORS,
    SINCE,
    UNTIL,
    Cartesia,
    Deepgram,
    OpenAI,
    Twilio,
    broken_off,
    refusing,
    saying,
)

SOME = [{"start_ts": "2026-05-01T00:00:00Z", "end_ts": "2026-05-02T00:00:00Z", "credits": 1}]


@pytest.fixture
def run(receiver, clock, at):
    """Fetch all days of a simulator with some faults."""

    def fetch_all(simulator, *faults, **changes):
        simulator.faults = list(faults)
        means = clock.means(simulator, **changes)
        return list(fetch(simulator.provider, SINCE, UNTIL, settings=at(simulator), means=means))

    return fetch_all


def failure(run, *arguments, **changes):
    """Return the message of a fetch that fails; it is one line and has no key."""
    with pytest.raises(ApiError) as caught:
        run(*arguments, **changes)
    message = str(caught.value)
    assert "\n" not in message
    assert KEY not in message
    return message


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
def test_passing_trouble_is_waited_out(receiver, run, clock, status):
    """Overload and errors of the server are asked again, each wait twice as long, and nothing is lost or doubled."""
    simulator = Cartesia(receiver)
    assert len(run(simulator, refusing(status), refusing(status), refusing(status))) == DAYS
    assert clock.slept == [1, 2, 4]


def test_waits_are_spread_by_chance(receiver, run, clock):
    """Several hosts do not ask in step: up to half of a wait is left out."""
    run(Cartesia(receiver), refusing(500), refusing(500), chance=lambda: 1.0)
    assert clock.slept == [0.5, 1]


def test_provider_says_how_long_to_wait(receiver, run, clock):
    """`Retry-After` is kept, in seconds and as a date."""
    simulator = Cartesia(receiver)
    date = format_datetime(UNTIL + timedelta(days=30, seconds=40), usegmt=True)
    run(simulator, refusing(429, {"Retry-After": "17"}), refusing(429, {"Retry-After": date}))
    assert clock.slept == [17, 40]
    assert "cartesia credits: answers 429; waiting 17 s" in clock.told


@pytest.mark.parametrize("wish", ["", "soon", "-5", "1e9", "Mon, 99 Foo 2026", "0"])
def test_wish_without_sense_does_not_shorten_the_wait(receiver, run, clock, wish):
    """A `Retry-After` that cannot be read, or of nothing, leaves the wait as it is."""
    run(Cartesia(receiver), refusing(429, {"Retry-After": wish}))
    assert clock.slept == [1]


def test_wait_beyond_the_deadline_is_not_begun(receiver, run, clock):
    """A provider that asks for an hour is told about at once."""
    message = failure(run, Cartesia(receiver), refusing(429, {"Retry-After": "3600"}))
    assert "answers 429; it asks to wait 3600 s; not done within 1800 s" in message
    assert clock.slept == []


def test_deadline_is_for_all_pages_together(receiver, run, clock):
    """Waiting on page after page comes to an end."""
    slow = refusing(503, {"Retry-After": "25"})
    faults = [slow, None, slow, None, slow, None]
    assert "not done within 60 s" in failure(run, OpenAI(receiver), *faults, patience=Patience(deadline=60))
    assert clock.slept == [25, 25]


def test_page_that_never_comes_is_given_up(receiver, run, clock):
    """Attempts are counted, the longest wait is a minute, and the last trouble is said."""
    simulator = Cartesia(receiver)
    message = failure(run, simulator, *[refusing(500)] * 20)
    assert message == f"cartesia credits: {receiver.url}: answers 500, 8 times; try again later"
    assert clock.slept == [1, 2, 4, 8, 16, 32, 60]
    assert len(simulator.asked) == 8


@pytest.mark.parametrize(
    "fault",
    [broken_off, saying('{"data": [{"start_ts": "2026-'), saying(""), saying("[" * 100_000)],
    ids=["connection", "text", "nothing", "depth"],
)
def test_half_a_page_is_asked_for_again(receiver, run, clock, fault):
    """A body that breaks off is no page, whether the connection says so or the text does."""
    assert len(run(Cartesia(receiver), fault)) == DAYS
    assert clock.slept == [1]


def test_connection_that_is_closed_is_opened_again(receiver, run, clock):
    """A server that hangs up without an answer is asked again."""

    def hang_up(_request):
        raise ConnectionResetError

    # The client itself asks once more where it may have met a connection that was kept too long.
    assert len(run(Cartesia(receiver), hang_up, hang_up)) == DAYS
    assert clock.slept


def test_silence_is_ended(receiver, run, clock):
    """A server that says nothing costs one answer's time, then it is asked again."""
    assert len(run(Cartesia(receiver), receiver.hang, patience=Patience(answer=0.2))) == DAYS
    assert clock.slept == [1]


def test_answer_that_trickles_is_ended(receiver, run):
    """The time is for the whole answer, so that a byte now and then does not stretch it."""

    async def drip(request):
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request.incoming)
        while True:
            await answer.write(b" ")
            await asyncio.sleep(0.05)

    message = failure(run, Cartesia(receiver), drip, drip, patience=Patience(answer=0.2, attempts=2))
    assert "no answer within" in message


def test_nobody_there_is_said(receiver, run):
    """A port without a server is a line with the address."""
    simulator = Cartesia(receiver)
    receiver.stop()
    try:
        message = failure(run, simulator, patience=Patience(attempts=2))
    finally:
        receiver.start()
    assert message.startswith(f"cartesia credits: {receiver.url}: ")
    assert message.endswith(", 2 times; try again later")


def test_server_without_tls_is_not_asked_again(receiver, run, clock):
    """An https address of a plain server is a mistake, and no waiting mends it."""
    simulator = Cartesia(receiver)
    with pytest.raises(ApiError, match=r"certificate is not trusted, or it speaks no TLS"):
        list(
            fetch(
                "cartesia",
                SINCE,
                UNTIL,
                settings=ApiSettings(url=simulator.url.replace("http:", "https:")),
                means=clock.means(simulator),
            )
        )
    assert clock.slept == []


@pytest.mark.parametrize("make", SIMULATORS, ids=lambda make: make.provider)
def test_key_that_is_not_accepted_is_named_by_its_variable(receiver, run, make):
    """401 says which variable to look at and which key belongs there, and is not repeated."""
    simulator = make(receiver)
    *_, name = simulator.environment if make is not Deepgram else ["DEEPGRAM_API_KEY"]
    message = failure(run, simulator, refusing(401, text=f"unknown key {KEY}"))
    assert f"answers 401: what {name} holds is not accepted; it takes " in message
    assert len(simulator.asked) == 1


@pytest.mark.parametrize(
    ("make", "scope"),
    [(OpenAI, "api.usage.read"), (Deepgram, "usage:read"), (Cartesia, "sk_car_admin_"), (Twilio, "account itself")],
)
def test_key_without_the_right_is_told_which(receiver, run, make, scope):
    """403 says what the key needs."""
    assert scope in failure(run, make(receiver), refusing(403)).partition("it needs")[2]


def test_place_that_is_not_there_names_what_leads_to_it(receiver, run):
    """404 names the id in the address and the setting of the address."""
    message = failure(run, Deepgram(receiver), refusing(404))
    assert message.endswith("answers 404: DEEPGRAM_PROJECT_ID and reconcile.apis.deepgram.url may be wrong")


def test_other_refusals_are_quoted_in_one_line_without_the_key(receiver, run):
    """What a provider says of a bad request is passed on, shortened."""
    message = failure(run, OpenAI(receiver), refusing(400, text=f"bad\n\tgroup for {KEY}" + "." * 999))
    assert "answers 400: bad group for ***..." in message
    assert len(message) < 300


def test_redirect_is_not_followed(receiver, run):
    """A key goes to one address only."""
    simulator = OpenAI(receiver)
    message = failure(run, simulator, refusing(302, {"Location": f"{receiver.url}/elsewhere"}))
    assert "answers 302, a redirect, and those are not followed" in message
    assert len(simulator.asked) == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (saying("<html>Sign in</html>", "text/html"), "answers text/html, not JSON; is the address right"),
        (saying("[]"), "answers JSON without a list `data`"),
        (saying('{"data": 5}'), "answers JSON without a list `data`"),
        (saying('{"ok": true}'), "answers JSON without a list `data`"),
        (saying(" " * (17 << 20)), "a page of more than 16 MiB; fetch fewer days"),
    ],
    ids=["html", "list", "number", "object", "huge"],
)
def test_what_is_no_page_is_refused_at_once(receiver, run, clock, fault, words):
    """A sign-in page, another API or an endless answer is a wrong address, not trouble that passes."""
    assert words in failure(run, Cartesia(receiver), fault)
    assert clock.slept == []


def test_more_without_a_cursor_is_refused(receiver, run):
    """A listing that does not say how it goes on is not taken for complete."""
    message = failure(run, OpenAI(receiver), saying('{"data": [], "has_more": true, "next_page": null}'))
    assert message == "openai usage-completions: a page says has_more without a next_page; nothing is taken from it"


def test_pages_in_a_circle_are_refused(receiver, run):
    """A cursor that leads back is no progress."""
    again = saying('{"data": [], "has_more": true, "next_page": "same"}')
    assert "leads back to an earlier one" in failure(run, OpenAI(receiver), again, again, again)


@pytest.mark.parametrize(
    "uri",
    ["https://elsewhere.example/2010-04-01/Accounts/x", "//elsewhere.example/x", "@elsewhere.example/", "/x", "5"],
)
def test_link_that_leads_out_of_the_api_is_refused(receiver, run, uri):
    """The next page goes out with the key, so it is a path of the API or it is nothing."""
    simulator = Twilio(receiver)
    message = failure(run, simulator, saying(f'{{"usage_records": [], "next_page_uri": "{uri}"}}'))
    assert "a page leads out of the API" in message
    assert len(simulator.asked) == 1


def test_no_log_line_has_a_key(receiver, run, caplog):
    """What is logged of a wait says report, reason and seconds."""
    caplog.set_level(logging.DEBUG)
    run(Twilio(receiver), refusing(500, text=KEY), refusing(429))
    lines = [record.getMessage() for record in caplog.records if record.name == LOGGER_NAME]
    assert any("waiting for a provider's API  report=twilio usage why=answers 500" in line for line in lines)
    assert not any(KEY in record.getMessage() for record in caplog.records)


def test_key_over_a_network_in_the_clear_is_warned_of(receiver, clock, caplog):
    """An http address that is not this machine's is used, and a line says what that means."""

    class Refusing:
        async def send(self, _method, url, *_):
            assert url.startswith("http://proxy.example/cartesia/usage/credits?start_ts=2026-05-01T00%3A00%3A00")
            raise LastingError("is not there")

        async def close(self):
            pass

    means = dataclasses.replace(clock.means(Cartesia(receiver)), client=Refusing)
    with pytest.raises(ApiError, match=r"^cartesia credits: http://proxy.example: is not there$"):
        list(fetch("cartesia", SINCE, UNTIL, settings=ApiSettings(url="http://proxy.example/cartesia/"), means=means))
    assert "unencrypted" in caplog.text
