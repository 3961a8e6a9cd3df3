"""
The providers' reporting APIs, simulated on loopback.

Invariant: each keeps its own paging, limits and keys, and holds facts that a test can add up without reading a page.
What goes wrong is scripted: `faults` are used up one per request, before anything else is looked at.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import ClassVar
from urllib.parse import urlencode

from aiohttp import web

DAY = timedelta(days=1)
SINCE = datetime(2026, 5, 1, tzinfo=UTC)
DAYS = 10
UNTIL = SINCE + DAYS * DAY
KNOWN = range(-3, DAYS + 3)  # a provider has more days than it is asked for
KEY = "sk-simulated-4711-abcdef"


def day(number):
    return SINCE + number * DAY


def iso(instant):
    return f"{instant:%Y-%m-%dT%H:%M:%SZ}"


class Simulator:
    """One provider; `path` is below the receiver's address."""

    provider = ""
    base = "/proxy"
    environment: ClassVar = {}

    def __init__(self, receiver):
        self.receiver = receiver
        self.faults: list[Callable | None] = []
        self.asked: list[str] = []
        receiver.requests.clear()
        receiver.script = self.answer

    @property
    def url(self):
        return self.receiver.url + self.base

    def answer(self, request):
        self.asked.append(str(request.incoming.rel_url))
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            return fault(request)
        if not self.authorized(request.headers):
            return web.json_response({"error": f"unknown key {KEY}"}, status=401)
        page = self.page(request.path.removeprefix(self.base), request.incoming.query, request)
        return page if isinstance(page, web.Response) else web.json_response(page)

    def authorized(self, headers):
        return headers.get("Authorization") == f"Bearer {KEY}"

    def page(self, path, query, request):
        raise NotImplementedError


def buckets(query, start, end, make, limit):
    """Page through buckets of a day by a cursor, as OpenAI and Anthropic do."""
    numbers = [number for number in KNOWN if start <= day(number) < end]
    first = int(query.get("page", "page_0").removeprefix("page_"))
    upto = first + min(int(query.get("limit", 7)), limit)
    more = upto < len(numbers)
    data = [make(number) for number in numbers[first:upto]]
    return {"object": "page", "data": data, "has_more": more, "next_page": f"page_{upto}" if more else None}


class OpenAI(Simulator):
    provider = "openai"
    environment: ClassVar = {"OPENAI_ADMIN_KEY": KEY}
    models = ("gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06")

    def page(self, path, query, _request):
        start, end = (datetime.fromtimestamp(int(query[name]), UTC) for name in ("start_time", "end_time"))
        kind = path.removeprefix("/organization/").removeprefix("usage/")
        make = {"completions": self.completions, "audio_speeches": self.speeches, "costs": self.costs}.get(kind)
        assert query["bucket_width"] == "1d"
        assert "model" in query.getall("group_by[]") or kind == "costs"

        def bucket(number):
            begin = int(day(number).timestamp())
            results = make(number) if make else []
            return {"object": "bucket", "start_time": begin, "end_time": begin + 86400, "results": results}

        return buckets(query, start, end, bucket, 31)

    def completions(self, number):
        return [
            {
                "object": "organization.usage.completions.result",
                "input_tokens": 1000 + number,
                "input_cached_tokens": 400,
                "output_tokens": 500,
                "num_model_requests": 5,
                "api_key_id": "key_1",
                "model": model,
                "batch": False,
                "service_tier": "default",
            }
            for model in self.models
        ]

    def speeches(self, number):
        kind = "organization.usage.audio_speeches.result"
        return [{"object": kind, "characters": 700 + number, "num_model_requests": 2, "model": "tts-1"}]

    def costs(self, number):
        return [
            {
                "object": "organization.costs.result",
                "amount": {"value": 0.5 + number / 8, "currency": "usd"},
                "line_item": f"{model}, input",
                "api_key_id": "key_1",
            }
            for model in self.models
        ]


class Anthropic(Simulator):
    provider = "anthropic"
    environment: ClassVar = {"ANTHROPIC_ADMIN_KEY": KEY}

    def authorized(self, headers):
        return headers.get("x-api-key") == KEY and headers.get("anthropic-version") == "2023-06-01"

    def page(self, path, query, _request):
        start, end = (datetime.fromisoformat(query[name]) for name in ("starting_at", "ending_at"))
        make = {"/v1/organizations/usage_report/messages": self.usage, "/v1/organizations/cost_report": self.costs}[
            path
        ]

        def bucket(number):
            results = make(number)
            return {"starting_at": iso(day(number)), "ending_at": iso(day(number + 1)), "results": results}

        page = buckets(query, start, end, bucket, 31)
        del page["object"]
        return page

    def usage(self, number):
        return [
            {
                "model": "claude-opus-4-6",
                "api_key_id": "apikey_1",
                "uncached_input_tokens": 1500 + number,
                "cache_read_input_tokens": 200,
                "cache_creation": {"ephemeral_1h_input_tokens": 10, "ephemeral_5m_input_tokens": 20},
                "output_tokens": 500,
                "service_tier": "standard",
            }
        ]

    def costs(self, _number):
        return [
            {
                "amount": "123.45",
                "currency": "USD",
                "cost_type": "tokens",
                "token_type": "output_tokens",
                "model": "claude-opus-4-6",
                "description": "Claude Opus 4.6 Usage - Output Tokens",
            }
        ]


class Deepgram(Simulator):
    provider = "deepgram"
    environment: ClassVar = {"DEEPGRAM_API_KEY": KEY, "DEEPGRAM_PROJECT_ID": "project-1"}
    most = 100  # a limit that the server lowers without a word
    requests = 230

    def authorized(self, headers):
        return headers.get("Authorization") == f"Token {KEY}"

    def page(self, path, query, _request):
        assert path.startswith("/projects/project-1/")
        kind = path.removeprefix("/projects/project-1/")
        return {"usage/breakdown": self.usage, "billing/breakdown": self.billing, "requests": self.listing}[kind](query)

    def results(self, query, make):
        first, last = (datetime.fromisoformat(query[name]).replace(tzinfo=UTC) for name in ("start", "end"))
        return [make(number) for number in KNOWN if first <= day(number) <= last]

    def usage(self, query):
        def one(number):
            date = day(number).date().isoformat()
            grouping = {"start": date, "end": date, "models": ["nova-3"], "endpoint": "listen"}
            return {"hours": 1, "total_hours": 1.5, "requests": 20, "grouping": grouping}

        assert query.getall("grouping") == ["models"]
        whole = {"start": query["start"], "end": query["end"], "resolution": {"units": "day", "amount": 1}}
        return {**whole, "results": self.results(query, one)}

    def billing(self, query):
        def one(number):
            date = day(number).date().isoformat()
            return {"dollars": 0.25, "grouping": {"start": date, "end": date, "line_item": "streaming::nova-3"}}

        whole = {"start": query["start"], "end": query["end"], "resolution": {"units": "day", "amount": 1}}
        return {**whole, "results": self.results(query, one)}

    def listing(self, query):
        assert query["start"] == "2026-05-01T00:00:00+00:00"
        number, limit = int(query.get("page", 0)), min(int(query["limit"]), self.most)
        found = range(self.requests)[number * limit : (number + 1) * limit]
        rows = [
            {
                "request_id": f"request-{one}",
                "created": iso(SINCE + timedelta(minutes=one)),
                "path": "/v1/listen?model=nova-3",
                "api_key_id": "key-1",
                "code": 200,
                "response": {"details": {"usd": 0.001, "duration": 12.5, "models": ["nova-3"]}},
            }
            for one in found
        ]
        return {"page": number, "limit": int(query["limit"]), "requests": rows}


class ElevenLabs(Simulator):
    provider = "elevenlabs"
    environment: ClassVar = {"ELEVEN_API_KEY": KEY}

    def authorized(self, headers):
        return headers.get("xi-api-key") == KEY

    def page(self, path, _query, request):
        assert path == "/workspace/analytics/query/usage-by-product-over-time"
        assert request.incoming.method == "POST"
        asked = json.loads(request.body)
        assert asked["interval_seconds"] == 86400
        times = [
            int(day(number).timestamp()) * 1000 for number in range(-3, DAYS + 3, 3)
        ]  # two days of three are quiet
        rows = [
            [time, "text_to_speech", "eleven_flash_v2_5", "hash-1", 900.5]
            for time in times
            if asked["start_time"] <= time < asked["end_time"]
        ]
        columns = ["timestamp", "product_type", "model", "hashed_xi_api_key", "credits_used"]
        return {"columns": columns, "column_units": ["ms", "", "", "", "credits"], "rows": rows}


class Cartesia(Simulator):
    provider = "cartesia"
    environment: ClassVar = {"CARTESIA_API_KEY": KEY}

    def authorized(self, headers):
        return super().authorized(headers) and "Cartesia-Version" in headers

    def page(self, path, query, _request):
        assert (path, query["interval"]) == ("/usage/credits", "day")
        start, end = (datetime.fromisoformat(query[name]) for name in ("start_ts", "end_ts"))
        return {
            "data": [
                {"start_ts": iso(day(number)), "end_ts": iso(day(number + 1)), "credits": 123 + number}
                for number in KNOWN
                if start <= day(number) < end
            ]
        }


class Twilio(Simulator):
    provider = "twilio"
    environment: ClassVar = {"TWILIO_ACCOUNT_SID": "AC0123", "TWILIO_AUTH_TOKEN": KEY}
    root = "/2010-04-01/Accounts/AC0123"
    most = 15
    calls = 40

    def authorized(self, headers):
        pair = base64.b64encode(f"AC0123:{KEY}".encode()).decode()
        return headers.get("Authorization") == f"Basic {pair}"

    def page(self, path, query, _request):
        if path == f"{self.root}/Usage/Records/Daily.json":
            return self.pages("usage_records", path, query, self.records(query))
        assert path == f"{self.root}/Calls.json"
        assert (query["StartTime>"], query["StartTime<"]) == ("2026-05-01T00:00:00Z", "2026-05-10T23:59:59Z")
        return self.pages("calls", path, query, list(map(self.call, range(self.calls))))

    def pages(self, name, path, query, rows):
        number, size = int(query.get("Page", 0)), min(int(query["PageSize"]), self.most)
        more = (number + 1) * size < len(rows)
        others = [(name, value) for name, value in query.items() if not name.startswith("Page")]
        kept = urlencode(others)
        following = f"{path}?{kept}&PageSize={size}&Page={number + 1}&PageToken=PA{number}" if more else None
        return {name: rows[number * size : (number + 1) * size], "page": number, "next_page_uri": following}

    def records(self, query):
        days = [f"{day(number):%Y-%m-%d}" for number in KNOWN]
        return [
            {
                "category": category,
                "description": category,
                "start_date": date,
                "end_date": date,
                "count": "10",
                "count_unit": "calls",
                "usage": usage,
                "usage_unit": "minutes",
                "price": price,
                "price_unit": "usd",
            }
            for date in days
            if query["StartDate"] <= date <= query["EndDate"]
            for category, usage, price in (("calls", "30", "0.30"), ("calls-inbound", "30", "0.30"))
        ]

    def call(self, number):
        start = SINCE + timedelta(hours=number)
        return {
            "sid": f"CA{number}",
            "start_time": f"{start:%a, %d %b %Y %H:%M:%S +0000}",
            "end_time": f"{start + timedelta(seconds=65):%a, %d %b %Y %H:%M:%S +0000}",
            "duration": "65",
            "price": "-0.017",
            "price_unit": "USD",
            "direction": "inbound",
            "status": "completed",
        }


SIMULATORS = (OpenAI, Anthropic, Deepgram, ElevenLabs, Cartesia, Twilio)


def refusing(status, headers=None, text="{}"):
    """Answer with an error."""
    return lambda _request: web.Response(status=status, headers=headers, text=text, content_type="application/json")


def saying(text, content_type="application/json"):
    """Answer well, with this body."""
    return lambda _request: web.Response(text=text, content_type=content_type)


def broken_off(request):
    """Announce more than is sent, then hang up."""

    async def answer():
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "5000"})
        await response.prepare(request.incoming)
        await response.write(b'{"data": [')
        raise ConnectionResetError

    return answer()
