"""The vendors' exports of a month, in their own formats, and our usage records of the same month."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random

from livekit_costmeter.records import UsageRecord
from tests.reporting.reconcile.round_trip.facts import END, START, Facts, Operation, again

Files = tuple[list[Path], list[Path]]
_USAGE = [
    "start_time",
    "end_time",
    "start_time_iso",
    "end_time_iso",
    "project_id",
    "num_model_requests",
    "user_id",
    "api_key_id",
    "model",
    "batch",
    "service_tier",
    "input_tokens",
    "output_tokens",
    "input_cached_tokens",
    "input_uncached_tokens",
    "input_text_tokens",
    "output_text_tokens",
    "input_cached_text_tokens",
    "input_audio_tokens",
    "input_cached_audio_tokens",
    "output_audio_tokens",
    "input_image_tokens",
    "input_cached_image_tokens",
    "output_image_tokens",
]
_COST = [
    "start_time",
    "end_time",
    "start_time_iso",
    "end_time_iso",
    "amount_value",
    "amount_currency",
    "line_item",
    "project_id",
    "organization_id",
    "organization_name",
]
_ITEMS = {
    "input_tokens": "input",
    "cached_input_tokens": "cached input",
    "output_tokens": "output",
    "input_audio_tokens": "audio input",
    "cached_input_audio_tokens": "cached audio input",
    "output_audio_tokens": "audio output",
}
_TYPES = {
    "input_tokens": "uncached_input_tokens",
    "cached_input_tokens": "cache_read_input_tokens",
    "output_tokens": "output_tokens",
}
MILLION = Decimal(1000000)


def exact(value: float) -> Decimal:
    """Return a rate or a length of the facts as the decimal it was meant to be."""
    return Decimal(repr(round(value, 9)))


class Stated:
    """What the vendor counts: quantities, requests and cost by period, model and key."""

    def __init__(self, facts: Facts, rng: Random, step: timedelta) -> None:
        self.step = step
        self.units: dict[tuple[datetime, str, str], dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
        self.costs: dict[tuple[datetime, str, str], Decimal] = defaultdict(Decimal)
        for operation in facts.theirs:
            local = operation.end + facts.shift
            if not START <= local < END:
                continue
            if rng.random() >= facts.late.get((local - START).days, 1.0):
                continue
            self._add(facts, operation, local)

    def _add(self, facts: Facts, operation: Operation, local: datetime) -> None:
        bucket = START + (local - START) // self.step * self.step
        day = START + timedelta(days=(local - START).days)
        key = operation.key if facts.with_keys else ""
        amounts = self.units[bucket, operation.model, key]
        amounts["requests"] += 1
        changed, factor = facts.rate_changes.get(operation.model, (END, 1.0))
        for unit, quantity in operation.quantities.items():
            billed = facts.billed(quantity) if facts.billed and unit.endswith("_seconds") else quantity
            amounts[unit] += exact(billed)
            rate = exact(facts.rates[operation.model][unit] * (factor if day >= changed else 1.0))
            self.costs[day, operation.model, unit] += exact(billed) * rate / MILLION


def write(facts: Facts, folder: Path, rng: Random) -> Files:
    """Write what the vendor exports; usage files and cost files."""
    hourly = facts.vendor in ("openai", "anthropic") and not facts.shift and rng.random() < 0.4
    stated = Stated(facts, rng, timedelta(hours=1 if hourly else 24))
    return _WRITERS[facts.vendor](stated, folder)


def _openai(stated: Stated, folder: Path) -> Files:
    usage, cost = folder / "completions_usage.csv", folder / "cost.csv"
    with usage.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, _USAGE, restval="")
        writer.writeheader()
        for (start, model, key), units in sorted(stated.units.items()):
            writer.writerow({**_times(start, stated.step), **_completions(units), "api_key_id": key, "model": model})
    with cost.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, _COST, restval="")
        writer.writeheader()
        for (day, model, unit), amount in sorted(stated.costs.items()):
            item = {"amount_value": f"{amount:.30f}", "amount_currency": "usd", "line_item": f"{model}, {_ITEMS[unit]}"}
            writer.writerow({**_times(day, timedelta(days=1)), **item})
    return [usage], [cost]


def _times(start: datetime, step: timedelta) -> dict[str, object]:
    end = start + step
    iso = {"start_time_iso": start.isoformat(), "end_time_iso": end.isoformat()}
    return {"start_time": int(start.timestamp()), "end_time": int(end.timestamp()), **iso}


def _completions(units: dict[str, Decimal]) -> dict[str, object]:
    text, audio = units["input_tokens"], units["input_audio_tokens"]
    cached, cached_audio = units["cached_input_tokens"], units["cached_input_audio_tokens"]
    said = {
        "num_model_requests": units["requests"],
        "batch": "FALSE",
        "input_tokens": text + audio + cached + cached_audio,
        "output_tokens": units["output_tokens"] + units["output_audio_tokens"],
        "input_cached_tokens": cached + cached_audio,
        "input_uncached_tokens": text + audio,
        "input_text_tokens": text,
        "output_text_tokens": units["output_tokens"],
        "input_cached_text_tokens": cached,
        "input_audio_tokens": audio,
        "input_cached_audio_tokens": cached_audio,
        "output_audio_tokens": units["output_audio_tokens"],
    }
    return {name: value if isinstance(value, str) else f"{value:.1f}" for name, value in said.items()}


def _anthropic(stated: Stated, folder: Path) -> Files:
    usage, cost = folder / "usage.json", folder / "cost.json"
    buckets: dict[datetime, list[dict[str, object]]] = defaultdict(list)
    for (start, model, key), units in sorted(stated.units.items()):
        result = {"model": model, "api_key_id": key or None, "service_tier": "standard", "cache_creation": None}
        buckets[start].append({**result, **{_TYPES[u]: int(units[u]) for u in _TYPES}})
    usage.write_text(json.dumps(_page(buckets, stated.step)))
    buckets = defaultdict(list)
    for (day, model, unit), amount in sorted(stated.costs.items()):
        result = {"amount": f"{amount * 100:f}", "currency": "USD", "cost_type": "tokens"}
        buckets[day].append({**result, "model": model, "token_type": _TYPES[unit], "description": model})
    cost.write_text(json.dumps(_page(buckets, timedelta(days=1))))
    return [usage], [cost]


def _page(buckets: dict[datetime, list[dict[str, object]]], step: timedelta) -> dict[str, object]:
    data = [
        {"starting_at": start.isoformat(), "ending_at": (start + step).isoformat(), "results": results}
        for start, results in sorted(buckets.items())
    ]
    return {"data": data, "has_more": False, "next_page": None}


def _deepgram(stated: Stated, folder: Path) -> Files:
    usage, billing = folder / "usage.json", folder / "billing.json"
    head = {"start": f"{START:%Y-%m-%d}", "end": f"{END:%Y-%m-%d}", "resolution": {"units": "day", "amount": 1}}
    rows = []
    for (day, model, key), units in sorted(stated.units.items()):
        grouping = {"start": f"{day:%Y-%m-%d}", "end": f"{day:%Y-%m-%d}", "accessor": key or None, "models": [model]}
        hours = float(units["audio_seconds"] / 3600)
        speaking = "characters" in units
        rows.append(
            {
                "hours": hours,
                "total_hours": hours,
                "agent_hours": 0,
                "tokens_in": 0,
                "tokens_out": 0,
                "tts_characters": int(units["characters"]),
                "requests": int(units["requests"]),
                "grouping": {**grouping, "endpoint": "speak" if speaking else "listen", "method": "streaming"},
            }
        )
    usage.write_text(json.dumps({**head, "results": rows}))
    costs = [
        {
            "dollars": float(amount),
            "grouping": {
                "start": f"{day:%Y-%m-%d}",
                "end": f"{day:%Y-%m-%d}",
                "line_item": f"{'sync' if unit == 'characters' else 'streaming'}::{model}",
            },
        }
        for (day, model, unit), amount in sorted(stated.costs.items())
    ]
    billing.write_text(json.dumps({**head, "results": costs}))
    return [usage], [billing]


def _elevenlabs(stated: Stated, folder: Path) -> Files:
    path = folder / "analytics.json"
    columns = ["timestamp", "product_type", "model", "hashed_xi_api_key", "tts_characters", "credits", "request_count"]
    rows = [
        [
            f"{day:%Y-%m-%dT00:00:00Z}",
            "text-to-speech",
            model,
            key or None,
            int(units["characters"]),
            float(units["characters"] / 2),
            int(units["requests"]),
        ]
        for (day, model, key), units in sorted(stated.units.items())
    ]
    units = ["s", "", "", "", "characters", "credits", None]
    path.write_text(json.dumps({"columns": columns, "column_types": [], "column_units": units, "rows": rows}))
    return [path], []


def _twilio(stated: Stated, folder: Path) -> Files:
    path = folder / "usage_records.csv"
    titles = ["Category", "StartDate", "EndDate", "Count", "CountUnit", "Usage", "UsageUnit", "Price", "PriceUnit"]
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(titles)
        days: dict[datetime, list[Decimal]] = defaultdict(lambda: [Decimal(0), Decimal(0)])
        for (day, _, _), units in stated.units.items():
            days[day][0] += units["requests"]
            days[day][1] += units["call_seconds"]
        for day, (count, seconds) in sorted(days.items()):
            price = sum(amount for (when, _, _), amount in stated.costs.items() if when == day)
            date = f"{day:%Y-%m-%d}"
            minutes = f"{seconds / 60:.9f}"
            writer.writerow(
                ["calls-inbound-local", date, date, count, "calls", minutes, "minutes", f"{price:f}", "usd"]
            )
    return [path], []


def _cartesia(stated: Stated, folder: Path) -> Files:
    path = folder / "credits.json"
    days: dict[datetime, Decimal] = defaultdict(Decimal)
    for (day, _, _), units in stated.units.items():
        days[day] += units["characters"]
    data = [
        {"start_ts": day.isoformat(), "end_ts": (day + timedelta(days=1)).isoformat(), "credits": int(amount)}
        for day, amount in sorted(days.items())
    ]
    path.write_text(json.dumps({"data": data}))
    return [path], []


_WRITERS = {
    "openai": _openai,
    "anthropic": _anthropic,
    "deepgram": _deepgram,
    "elevenlabs": _elevenlabs,
    "twilio": _twilio,
    "cartesia": _cartesia,
}


def usage_records(facts: Facts) -> Iterator[UsageRecord]:
    """Yield what our meter wrote, in the order of time."""
    extra = [again(o, number) for number, o in enumerate(facts.ours) if o.id in facts.twice]
    operations = [*((o, o.id) for o in facts.ours), *((o, o.id.rpartition("+")[0]) for o in extra)]
    for operation, operation_id in sorted(operations, key=lambda pair: (pair[0].end, pair[0].id)):
        amounts = {unit: exact(amount) for unit, amount in operation.quantities.items()}
        if operation.interrupted:
            off = Random(operation_id).uniform(0.75, 1.25) * facts.estimate_bias
            amounts = {unit: Decimal(round(float(amount) * off)) for unit, amount in amounts.items()}
        basis = "estimated" if operation.interrupted else "observed" if "characters" in amounts else "reported"
        yield UsageRecord(
            id=operation.id,
            at=operation.end,
            started_at=operation.start,
            component=operation.component,
            provider=facts.vendor,
            model=operation.model,
            quantities=amounts,
            operation_id=operation_id,
            operation_total=amounts,
            outcome="interrupted" if operation.interrupted else "completed",
            basis=dict.fromkeys(amounts, basis),
            key_owner="platform",
        )
