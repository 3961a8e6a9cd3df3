"""The same numbers from all four stores, SQLite, PostgreSQL, ClickHouse and Parquet: reports, exports, reconciling."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner

from livekit_costmeter.cli import costmeter
from livekit_costmeter.config import load
from livekit_costmeter.config.compose import build_sinks
from livekit_costmeter.records import UNIT_ORDER
from tests.engines.engine import Engine
from tests.engines.postgres import PostgresServer

PASSWORD = "correct-horse-battery"
STORES = ("sqlite", "postgres", "clickhouse", "parquet")
CLICKHOUSE = Path(__file__).parents[1] / "engines" / "clickhouse.py"
REPORTS = [
    ("--by", by, *period)
    for by in ("component,model,owner", "account", "day", "day,outcome", "session", "label:campaign")
    for period in ((), ("--since", "2026-11-20T13:00", "--until", "2026-11-22"))
]
pytestmark = pytest.mark.slow


def month(charge, unpriced, noon):
    """Make charges of every sort: calls over midnight, corrections, fees, work thrown away, several currencies."""
    for number in range(120):
        at = noon + timedelta(hours=number)
        same = {
            "at": at,
            "session_id": f"s{number // 3}",
            "speech_id": f"p{number // 3}",
            "account": (None, "acme", "zen")[number % 3],
        }
        same |= {
            "outcome": ("completed", "completed", "interrupted", "failed")[number % 4],
            "labels": {"campaign": f"q{number % 2}"},
        }
        units = list(UNIT_ORDER)[number % 5 : number % 5 + 3]
        for line, unit in enumerate(units):
            amounts = {"quantity": Decimal(number).scaleb(-line), "cost": Decimal(number + 1).scaleb(-12)}
            money = {
                "currency": ("USD", "EUR")[number % 2],
                "billed_cost": None if number % 7 == 0 else amounts["cost"],
            }
            yield charge(
                record_id=f"r{number:03}", line=line, unit=unit, model=f"m{number % 4}", **amounts, **money, **same
            )
    yield unpriced(record_id="u0", session_id="s1", at=noon)
    yield unpriced(record_id="u1", at=noon + timedelta(days=2))
    later = {"at": noon + timedelta(days=3), "pricing_source": "ratecard:x@1#a?was=unpriced"}
    yield charge(record_id="c0", kind="correction", corrects="u0", session_id="s1", **later)
    yield charge(record_id="f0", kind="fee", component="call", unit="call_seconds", quantity=Decimal(60), at=noon)
    nothing = {"quantity": Decimal(0), "cost": Decimal(0), "outcome": "discarded"}
    yield charge(record_id="d0", session_id="s2", speech_id="p2", model="m2", at=noon + timedelta(days=1), **nothing)


@pytest.fixture(scope="module")
def stores(tmp_path_factory, charge, unpriced, noon):
    """Write the same charges into all four, and return the configuration that names them."""
    directory = tmp_path_factory.mktemp("stores")
    (directory / "clickhouse").mkdir()
    engine = Engine(lambda port, where: [sys.executable, CLICKHOUSE, port, where], directory / "clickhouse")
    with PostgresServer() as postgres:
        sinks = [
            {"type": "sqlite", "path": "costmeter.db"},
            {"type": "postgres", "dsn": postgres.dsn()},
            {"type": "clickhouse", "dsn": f"http://costmeter:{PASSWORD}@127.0.0.1:{engine.port}/default"},
            {"type": "parquet", "path": "lake"},
        ]
        config = directory / "costmeter.yaml"
        config.write_text(json.dumps({"sinks": sinks}))
        rows = list(month(charge, unpriced, noon))
        for sink in build_sinks(load(config)).values():
            sink.open()
            for start in range(0, len(rows), 100):
                sink.write(rows[start : start + 100])
            sink.close()
        yield config
    engine.kill()


@pytest.fixture
def ask(stores):
    """Run a command on one of the stores."""

    def run(store, *arguments, code=0):
        result = CliRunner().invoke(costmeter, [*arguments, "--sink", store, "--config", str(stores)])
        assert result.exit_code == code, result.output
        return result.stdout

    return run


@pytest.mark.parametrize("asked", REPORTS, ids=" ".join)
def test_reports_are_the_same_from_all_stores(ask, asked):
    """To the byte, whatever the store makes of decimals, instants and order; SQLite also from its sums."""
    expected = ask("sqlite", "report", "--format", "json", *asked)
    assert json.loads(expected)["total"]["records"] > 10
    for store in STORES[1:]:
        assert ask(store, "report", "--format", "json", *asked) == expected
    assert ask("sqlite", "report", "--format", "json", *asked, "--rebuild") == expected


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_exports_are_the_same_from_all_stores(ask, form):
    """The same lines; their order is that of the store."""
    expected = sorted(ask("sqlite", "export", "--format", form).splitlines())
    assert len(expected) > 350
    for store in STORES[1:]:
        assert sorted(ask(store, "export", "--format", form).splitlines()) == expected


@pytest.mark.parametrize("by", ["model", "day"])
@pytest.mark.parametrize("keys", ["out", "in"])
def test_reconciling_is_the_same_from_all_stores(ask, tmp_path, noon, by, keys):
    """To the byte: rows, causes and thresholds; the provider's file agrees with none of them."""
    file = tmp_path / "usage.csv"
    hours = [int((noon + timedelta(hours=number)).timestamp()) for number in range(100)]
    rows = [f"{hour},{hour + 3600},1,m{hour // 3600 % 4},{hour % 7 + 20}.0,3.0\n" for hour in hours]
    file.write_text("start_time,end_time,num_model_requests,model,input_tokens,output_tokens\n" + "".join(rows))
    asked = ("reconcile", "--provider", "openai", "--since", "2026-11-20", "--until", "2026-11-26")
    asked += ("--usage-file", str(file), "--by", by, "--account-keys", keys, "--format", "json")
    expected = ask("sqlite", *asked, code=1)
    assert len(json.loads(expected)["rows"]) > 10
    for store in STORES[1:]:
        assert ask(store, *asked, code=1) == expected
