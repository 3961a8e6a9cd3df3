"""
Operations as lines, for people and for programs.

Invariant: one operation is one line, whatever names it has; what is unpriced or estimated says so.

JSON lines: `{"type": "operation", at, session, component, provider, model, operation_id, kind, outcome, owner, account,
quantities, estimated_units, sources, reasons, cost, billed_cost, records, unpriced_records, estimated_share, key,
running}`. `running` is `{cost, billed_cost, records, unpriced_records, estimated_share}` of everything so far that has
the same `key` (by default the session). `reasons` say why there is no price. A long operation has a line whenever it
grew. The last line, when following ends, is `{"type": "total", sessions, ...}` with the same sums over everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from typing import Any

from pydantic_core import to_json

from livekit_costmeter.records import decimal_text, format_instant
from livekit_costmeter.reporting.following.operations import Operation, Operations, Sums
from livekit_costmeter.reporting.formats import decimal_fields
from livekit_costmeter.reporting.wording import UNPRICED, cost_texts, name_text, records_text

_SESSION = ("session",)


def operation_line(operation: Operation) -> str:
    """Return a line: when, what, how much (`~` if estimated), its cost and where that is from, who, and the total."""
    at = operation.at.astimezone(UTC)
    charge = operation.charge
    parts = [
        f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}Z",
        charge.component,
        f"{name_text(charge.provider)}/{name_text(charge.model)}",
        _quantities(operation),
        _cost(operation),
        *_notes(operation),
        _running(operation),
    ]
    return "  ".join(part for part in parts if part)


def operation_json(operation: Operation) -> str:
    """Return a JSON line, without the newline."""
    charge = operation.charge
    return _json(
        {
            "type": "operation",
            "at": format_instant(operation.at),
            "session": charge.session_id,
            "component": charge.component,
            "provider": charge.provider,
            "model": charge.model,
            "operation_id": charge.operation_id,
            "kind": charge.kind,
            "outcome": charge.outcome,
            "owner": charge.key_owner,
            "account": charge.account,
            "quantities": decimal_fields(operation.quantities),
            "estimated_units": sorted(operation.estimated),
            "sources": list(operation.sources),
            "reasons": list(operation.reasons),
            **_sums_fields(operation.sums),
            "key": dict(operation.key),
            "running": _sums_fields(operation.running),
        }
    )


def total_line(seen: Operations) -> str:
    """Return the line that ends it: what everything that was shown came to."""
    total, sessions = seen.total, seen.sessions
    if not total.records:
        return "total: nothing so far"
    cost = ", ".join(cost_texts(total.cost, exact=True, unpriced=total.unpriced_records > 0))
    unpriced = f", {total.unpriced_records} of them {UNPRICED}" if total.unpriced_records else ""
    where = f" of {sessions} session{'' if sessions == 1 else 's'}" if sessions else ""
    return f"total: {cost} in {records_text(total.records)}{where}{unpriced}"


def total_json(seen: Operations) -> str:
    """Return the JSON line that ends it, without the newline."""
    return _json({"type": "total", "sessions": seen.sessions, **_sums_fields(seen.total)})


def _json(fields: dict[str, Any]) -> str:
    return to_json(fields).decode()


def _sums_fields(sums: Sums) -> dict[str, Any]:
    return {
        "cost": decimal_fields(sums.cost),
        "billed_cost": decimal_fields(sums.billed_cost),
        "records": sums.records,
        "unpriced_records": sums.unpriced_records,
        "estimated_share": decimal_text(sums.estimated_share),
    }


def _quantities(operation: Operation) -> str:
    known = {unit: amount for unit, amount in operation.quantities.items() if amount} or operation.quantities
    return ", ".join(
        f"{'~' if unit in operation.estimated else ''}{decimal_text(amount)} {name_text(unit)}"
        for unit, amount in known.items()
    )


def _cost(operation: Operation) -> str:
    sums = operation.sums
    if not sums.cost and not operation.reasons:  # a fee or a credit, which is billed and is no cost of a provider
        return f"billed {', '.join(cost_texts(sums.billed_cost, exact=True, unpriced=sums.billed_incomplete))}"
    cost = ", ".join(cost_texts(sums.cost, exact=True, unpriced=sums.unpriced_records > 0))
    reasons = ", ".join(name_text(reason) for reason in operation.reasons)
    return f"{cost} ({reasons})" if reasons else cost


def _notes(operation: Operation) -> Iterator[str]:
    charge = operation.charge
    if charge.kind != "usage":
        yield charge.kind
    if charge.outcome != "completed":
        yield charge.outcome
    yield from operation.sources
    for name, value in (("owner", charge.key_owner), ("account", charge.account), ("session", charge.session_id)):
        if value:
            yield f"{name}={name_text(value)}"


def _running(operation: Operation) -> str:
    running = operation.running
    cost = ", ".join(cost_texts(running.cost, exact=True, unpriced=running.unpriced_records > 0))
    of = ""
    if tuple(operation.key) != _SESSION:
        of = "".join(f"{name}={name_text(value)} " for name, value in operation.key.items())
    return f"{of}so far {cost}"
