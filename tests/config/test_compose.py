"""`install` in a process of its own: what it does, what it does not, and what it refuses."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from livekit_costmeter.config import load
from livekit_costmeter.config.compose import build_shipper, build_spool
from livekit_costmeter.delivery import list_segments
from livekit_costmeter.records import usage_json

USED = {"input_tokens": "3"}

PRELUDE = """
import multiprocessing, os, sys, threading, logging
logging.basicConfig(stream=sys.stderr, format="%(name)s: %(message)s")
import livekit_costmeter as costmeter
from livekit.agents.metrics import LLMMetrics
from livekit.agents.metrics.base import Metadata

def use(model, count=1):
    for number in range(count):
        model.emit("metrics_collected", LLMMetrics(
            label="l", request_id=f"r{number}", timestamp=1763662284.5, duration=1.0, ttft=0.1, cancelled=False,
            completion_tokens=30, prompt_tokens=100, prompt_cached_tokens=0, total_tokens=130, tokens_per_second=1.0,
            metadata=Metadata(model_name=model.model, model_provider=model.provider)))
"""


def run(code, directory, *, check=True, **environ):
    """Run a script in a fresh process; return its completed form."""
    script = PRELUDE + textwrap.dedent(code)
    environment = {"PATH": "", "HOME": str(directory), **environ}
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=directory, env=environment, timeout=120, check=False
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def test_install_starts_and_opens_nothing(tmp_path):
    """Installing is free of side effects: no thread, no file, no catalog, no log library."""
    done = run(
        """
        before = threading.active_count()
        costmeter.install()
        assert threading.active_count() == before
        loaded = [name for name in ("genai_prices", "voice_prices", "structlog", "sqlite3") if name in sys.modules]
        print(os.listdir("."), loaded)
        """,
        tmp_path,
    )
    assert done.stdout.strip() == "[] []"


def test_a_script_meters_prices_and_delivers_by_itself(tmp_path):
    """One line at the top of a script, and its usage is in SQLite when it ends, exactly priced."""
    run(
        """
        costmeter.install()
        from livekit.plugins import openai
        use(openai.LLM(model="gpt-4o-mini", api_key="key-of-the-script"), 25)
        """,
        tmp_path,
    )
    with closing(sqlite3.connect(tmp_path / "costmeter.db")) as database:
        rows = database.execute("select unit, cost, pricing_source, provider, key_owner from charges").fetchall()
    assert len(rows) == 50
    assert {row[:2] for row in rows} == {("input_tokens", "0.000015"), ("output_tokens", "0.000018")}
    assert all(row[2].startswith("catalog:genai-prices@") for row in rows)
    assert {row[3:] for row in rows} == {("openai", "unknown")}
    assert list_segments(tmp_path / ".costmeter/spool") == []


def test_the_same_configuration_gives_the_same_meter_and_another_is_refused(tmp_path):
    """A second install is harmless, a contradicting one is an error."""
    (tmp_path / "other.yaml").write_text("project: other\n")
    done = run(
        """
        first = costmeter.install()
        assert costmeter.install() is first
        try:
            costmeter.install("other.yaml")
        except costmeter.ConfigError as error:
            print(error)
        """,
        tmp_path,
    )
    assert "another configuration is installed already" in done.stdout


@pytest.mark.parametrize(
    "text",
    [
        "projct: x\n",
        "sinks: [{type: nowhere}]\n",
        "sinks: [{type: sqlite}]\n",
        "pricing: {rate_cards: [none.yaml]}\n",
        "pricing: {catalogs: [nobody]}\n",
    ],
)
def test_a_bad_configuration_raises_in_the_main_process(tmp_path, text):
    """A worker does not start with a configuration that cannot be used, and says why."""
    (tmp_path / "costmeter.yaml").write_text(text)
    done = run("costmeter.install()", tmp_path, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "ConfigError" in last
    assert ".yaml:1" in last or "none.yaml" in last


def test_a_bad_configuration_in_a_job_loses_no_facts(tmp_path):
    """A job logs what is wrong and spools; once the file is mended, shipping delivers it."""
    (tmp_path / "costmeter.yaml").write_text("projct: x\n")
    done = run(
        """
        multiprocessing.current_process().name = "job_proc"
        costmeter.install()
        from livekit.plugins import openai
        use(openai.LLM(model="gpt-4o-mini", api_key="key-of-the-job"))
        """,
        tmp_path,
    )
    assert "bad configuration" in done.stderr
    assert len(list_segments(tmp_path / ".costmeter/spool")) == 1
    (tmp_path / "costmeter.yaml").write_text("project: x\n")
    command = [sys.executable, "-m", "livekit_costmeter", "ship"]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    with closing(sqlite3.connect(tmp_path / "costmeter.db")) as database:
        assert database.execute("select count(*) from charges").fetchone() == (2,)


def test_a_summary_is_priced_and_says_what_it_does_not_know(tmp_path):
    """Totals by component, model and owner, with the shares that are unpriced and estimated."""
    done = run(
        """
        import json
        meter = costmeter.install()
        from livekit.plugins import openai
        model = costmeter.owner(openai.LLM(model="gpt-4o-mini", api_key="a"), "acme")
        use(model, 3)
        use(openai.LLM(model="nobody-knows-this", api_key="a"))
        summary = meter.summary()
        print(json.dumps([[r.model, r.owner, r.records, {k: str(v) for k, v in r.cost.items()}] for r in summary.rows]))
        print(summary.records, summary.unpriced_share, summary.estimated_share, summary.complete)
        use(model)
        print(meter.summary().records)
        """,
        tmp_path,
    )
    rows, shares, again = done.stdout.splitlines()
    assert json.loads(rows) == [
        ["gpt-4o-mini", "acme", 3, {"USD": "0.000099000000"}],
        ["nobody-knows-this", "unknown", 1, {}],
    ]
    assert shares == "4 0.2500 0.0000 True"
    assert again == "5"


def test_a_rate_card_that_breaks_later_delays_and_loses_nothing(tmp_path):
    """Usage waits in the spool until the card is mended, and is then priced by it."""
    (tmp_path / "costmeter.yaml").write_text("pricing: {rate_cards: [rates.yaml]}\n")
    card = "name: x\nrates: [{provider: openai, model: gpt-4o, unit: input_tokens, price: '2'}]\n"
    (tmp_path / "rates.yaml").write_text(card)
    config = load(tmp_path / "costmeter.yaml")
    spool = build_spool(config)
    record = {"at": 1, "component": "llm", "provider": "openai", "model": "gpt-4o", "quantities": USED}
    spool.append(usage_json(record)[1:])
    spool.close()
    (tmp_path / "rates.yaml").write_text("name: [")
    assert build_shipper(config).ship_once().stalled == 1
    (tmp_path / "rates.yaml").write_text(card)
    assert build_shipper(config).ship_once().deleted == 1
    with closing(sqlite3.connect(tmp_path / "costmeter.db")) as database:
        assert database.execute("select cost from charges").fetchall() == [("6",)]


def test_a_summary_does_without_prices_where_there_are_none(tmp_path):
    """What keeps prices away raises nothing into the agent, and no record is missing from later summaries."""
    (tmp_path / "rates.yaml").write_text("name: x\nrates: [{provider: p, model: m, unit: requests, price: '1'}]\n")
    (tmp_path / "costmeter.yaml").write_text("pricing: {rate_cards: [rates.yaml]}\n")
    done = run(
        """
        meter = costmeter.install()
        from livekit.plugins import openai
        open("rates.yaml", "w").write("name: [")
        use(openai.LLM(model="gpt-4o-mini", api_key="a"), 3)
        summary = meter.summary()
        print(summary.records, summary.unpriced_share, summary.cost, "input_tokens" in summary.rows[0].quantities)
        """,
        tmp_path,
    )
    assert done.stdout.splitlines() == ["3 1.0000 {} True"]


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False], ids=["one spool", "a spool each"])
def test_scripts_at_the_same_time_fill_one_ledger(tmp_path, shared):
    """Eight metered scripts that start at once on a fresh ledger: no lock error, no row lost, none doubled."""
    code = """
    import time
    time.sleep(max(0.0, float(os.environ["START"]) - time.time()))
    meter = costmeter.install()
    meter.on("usage_collected", lambda record: print(record.id, flush=True))
    from livekit.plugins import openai
    use(openai.LLM(model="gpt-4o-mini", api_key="key-of-a-script"), 40)
    """
    start = str(time.time() + 6)
    with ThreadPoolExecutor(8) as pool:
        configs = [_script_config(tmp_path, number, shared=shared) for number in range(8)]
        runs = [pool.submit(run, code, tmp_path, COSTMETER_CONFIG=str(path), START=start) for path in configs]
        done = [each.result() for each in runs]
    assert not [text for each in done for text in each.stderr.splitlines() if "locked" in text]
    appended = [line for each in done for line in each.stdout.split()]
    assert len(set(appended)) == 8 * 40
    for path in configs:
        command = [sys.executable, "-m", "livekit_costmeter", "ship", "--config", str(path)]
        subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as database:
        rows = database.execute("select record_id, count(*) from charges group by record_id").fetchall()
    assert dict(rows) == dict.fromkeys(appended, 2)


def _script_config(directory, number, *, shared):
    path = directory / f"script-{0 if shared else number}.yaml"
    spool = directory / f"spool-{0 if shared else number}"
    path.write_text(f"spool: {{dir: {spool}}}\nsinks: [{{type: sqlite, path: {directory / 'ledger.db'}}}]\n")
    return path
