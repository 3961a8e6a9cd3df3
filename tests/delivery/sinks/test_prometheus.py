"""Counters in the worker's own Prometheus endpoint."""

import dataclasses
import os
import subprocess
import sys
import threading
import urllib.request
from decimal import Decimal
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError

from livekit_costmeter.delivery.sinks import RetryableError, SinkError, find_sink
from livekit_costmeter.delivery.sinks.prometheus import PrometheusSink

CHILD = Path(__file__).parent / "children" / "scraped_worker.py"
ROOT = Path(__file__).parents[3]
LABELS = ("component", "provider", "model", "owner", "account")


@pytest.fixture
def registry():
    """Make a registry."""
    return CollectorRegistry()


@pytest.fixture
def make_sink(registry):
    """Make sinks of one process, which share its registry; `environ` may name a directory for several processes."""

    def make(environ=None, process_id=7, registry=registry, **options):
        return PrometheusSink(
            PrometheusSink.Options(**options),
            registry=registry,
            environ=environ or {},
            process_id=lambda: process_id,
        )

    return make


def parsed(text):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("costmeter_")
    }


def scraped(registry):
    return parsed(generate_latest(registry).decode())


def merged(directory):
    """Scrape as LiveKit does with several processes."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(directory))
    return scraped(registry)


def total(samples, name):
    return sum(value for (found, _), value in samples.items() if found == name)


def test_type_is_declared():
    """The YAML's `prometheus` is this sink."""
    assert find_sink("prometheus") is PrometheusSink


def test_counters_say_what_was_charged(make_sink, registry, charges):
    """Money by currency, quantity by unit, corrections apart, and records, under the labels that were asked for."""
    one = dataclasses.replace(charges(1)[0], key_owner="platform", billed_cost=Decimal("0.25"), billed_currency="EUR")
    rows = [
        dataclasses.replace(one, cost=Decimal("0.5"), quantity=Decimal(1200)),
        dataclasses.replace(one, line=1, unit="output_tokens", cost=Decimal("0.25"), quantity=Decimal(55)),
        dataclasses.replace(one, line=2, kind="correction", cost=Decimal("-0.125"), billed_cost=None),
    ]
    make_sink(labels=["provider", "owner"]).write(rows)
    labels = (("owner", "platform"), ("provider", "openai"))
    assert scraped(registry) == {
        ("costmeter_cost_total", (("currency", "USD"), *labels)): 0.75,
        ("costmeter_cost_credit_total", (("currency", "USD"), *labels)): 0.125,
        ("costmeter_billed_total", (("currency", "EUR"), *labels)): 0.5,
        ("costmeter_quantity_total", (*labels, ("unit", "input_tokens"))): 1200,
        ("costmeter_quantity_total", (*labels, ("unit", "output_tokens"))): 55,
        ("costmeter_records_total", labels): 1,
    }


def test_repeats_count_once(make_sink, registry, charges):
    """The rules of the contract: repeats, overlaps, a row twice, a changed row and an empty batch change nothing."""
    sink = make_sink()
    sink.open()
    sink.write(charges(12))
    sink.write(charges(20)[16:])
    sink.write([])
    sink.write([charges(1)[0]] * 2)
    sink.write([dataclasses.replace(charge, cost=Decimal(99)) for charge in charges(20)])
    sink.close()
    sink.close()
    sink.open()
    sink.write(charges(20))
    make_sink().write(charges(20))
    assert total(scraped(registry), "costmeter_records_total") == 20
    assert total(scraped(registry), "costmeter_cost_total") == pytest.approx(float(sum(c.cost for c in charges(20))))


def test_counters_stay_while_the_sink_is_closed(make_sink, registry, charges):
    """What was counted can be scraped whether or not the shipper is at work."""
    sink = make_sink()
    sink.write(charges(3))
    sink.close()
    assert total(scraped(registry), "costmeter_records_total") == 3


def test_two_writers_at_once_count_once(make_sink, registry, charges):
    """Two sinks of one process that get the same rows at the same time are one set of counters."""
    sinks = [make_sink() for _ in range(2)]
    threads = [threading.Thread(target=sink.write, args=(charges(50),)) for sink in sinks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert total(scraped(registry), "costmeter_records_total") == 50


def test_sinks_that_disagree_are_told(make_sink, charges):
    """One registry has one set of labels."""
    make_sink().open()
    for attempt in (make_sink(labels=["provider"]).open, make_sink(max_series=5).check):
        with pytest.raises(SinkError, match="other labels or another max_series"):
            attempt()


@pytest.mark.parametrize("labels", [["session_id"], ["room"], ["participant"], ["provider", "provider"]])
def test_labels_without_a_bound_are_refused(labels):
    """What is different in each call is no label."""
    with pytest.raises(ValidationError):
        PrometheusSink.Options(labels=labels)


@pytest.mark.parametrize("environ", [{}, {"PROMETHEUS_MULTIPROC_DIR": "several"}])
def test_series_stay_few(make_sink, registry, charges, environ):
    """10,000 accounts and as many sessions are exposed as `max_series` combinations, the rest as `other`."""
    Path("several").mkdir()
    one, sink = charges(1)[0], make_sink(environ, max_series=100)
    for start in range(0, 10_000, 500):
        numbers = range(start, start + 500)
        sink.write([dataclasses.replace(one, record_id=f"r{n}", account=f"a{n}", session_id=f"s{n}") for n in numbers])
    found = merged("several") if environ else scraped(registry)
    assert len(found) <= 3 * 100
    assert total(found, "costmeter_records_total") == 10_000
    assert "other" in {dict(labels)["account"] for _, labels in found}
    assert sink.check().startswith("90 of at most 100 label combinations")


def test_files_of_several_processes_are_summed(make_sink, charges, tmp_path):
    """Each process has a file of its own in the directory, and a scrape adds them up."""
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for process, first in ((7, 0), (8, 10)):
        make_sink(environ, process, registry=CollectorRegistry()).write(charges(5, first=first))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counter_costmeter-7.db", "counter_costmeter-8.db"]
    found = merged(tmp_path)
    assert total(found, "costmeter_records_total") == 10
    assert found["costmeter_quantity_total", (*labels_of(charges(1)[0]), ("unit", "input_tokens"))] == 12_000


def labels_of(charge):
    values = (charge.component, charge.provider, charge.model, charge.key_owner, charge.account)
    return sorted(zip(LABELS, values, strict=True))


def test_odd_names_survive_the_file(make_sink, charges, tmp_path):
    """Any text may be an account; keys of every length keep the file readable."""
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    names = ["Zoë & Söhne — 株式会社 🎧", 'quotes " and \\', "line\nbreak", *("x" * n for n in range(1, 17))]
    one = charges(1)[0]
    sink = make_sink(environ)
    sink.write([dataclasses.replace(one, record_id=f"r{n}", account=name) for n, name in enumerate(names)])
    assert {dict(labels)["account"] for _, labels in merged(tmp_path)} == set(names)


def test_cleared_directory_is_filled_again(make_sink, charges, tmp_path):
    """LiveKit empties the directory as its worker starts; the next batch brings every total back."""
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    sink = make_sink(environ)
    sink.write(charges(3))
    (tmp_path / "counter_costmeter-7.db").unlink()
    sink.write(charges(4))
    assert total(merged(tmp_path), "costmeter_records_total") == 4


def test_file_of_a_former_process_is_carried_on(make_sink, charges, tmp_path):
    """In a container the next process has the same id: the sum over the files does not fall when it begins."""
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    make_sink(environ, registry=CollectorRegistry()).write(charges(3))
    sink = make_sink(environ, registry=CollectorRegistry())
    sink.write(charges(2, first=3))
    sink.write(charges(4, first=3))
    assert total(merged(tmp_path), "costmeter_records_total") == 7


def test_directory_that_cannot_be_written_is_retryable(make_sink, charges, tmp_path):
    """A missing directory, or a full disk, holds the batch up; it is counted once when it comes again."""
    directory = tmp_path / "later"
    sink = make_sink({"PROMETHEUS_MULTIPROC_DIR": str(directory)})
    with pytest.raises(SinkError, match="PROMETHEUS_MULTIPROC_DIR"):
        sink.check()
    with pytest.raises(RetryableError, match="No such file"):
        sink.write(charges(2))
    directory.mkdir()
    sink.write(charges(2))
    assert total(merged(directory), "costmeter_records_total") == 2


def test_full_disk_is_retryable(make_sink, charges):
    """A disk without room is an error of the write, and no signal."""
    sink = make_sink({"PROMETHEUS_MULTIPROC_DIR": "small"})
    Path("small").mkdir()
    Path("small/counter_costmeter-7.part").symlink_to("/dev/full")
    with pytest.raises(RetryableError, match="No space left"):
        sink.write(charges(2))
    Path("small/counter_costmeter-7.part").unlink()
    sink.write(charges(2))
    assert total(merged("small"), "costmeter_records_total") == 2


def test_forked_child_counts_for_itself(make_sink, registry, charges):
    """A child that was forked does not count once more what its parent has."""
    make_sink(process_id=7).write(charges(5))
    make_sink(process_id=8).write(charges(1, first=5))
    assert total(scraped(registry), "costmeter_records_total") == 1


class Worker:
    """A child process with LiveKit's metrics endpoint."""

    def __init__(self, **environ):
        self._process = subprocess.Popen(
            [sys.executable, str(CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        )
        self.port = int(self._process.stdout.readline())

    def order(self, line):
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def scrape(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            return parsed(answer.read().decode())

    def kill(self):
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def worker():
    """Start workers, killed at the end."""
    started = []

    def start(**environ):
        started.append(Worker(**environ))
        return started[-1]

    yield start
    for one in started:
        one.kill()


def test_worker_endpoint_shows_the_counters(worker):
    """What was shipped is on the endpoint that LiveKit's worker has anyway."""
    one = worker()
    assert one.scrape() == {}
    assert one.order("write 0 5") == "ok"
    assert one.order("write 3 8") == "ok"
    assert total(one.scrape(), "costmeter_records_total") == 8
    assert one.order("check") == "1 of at most 1000 label combinations, in this process's registry"


def test_worker_endpoint_sums_its_processes(worker, tmp_path):
    """With LiveKit's multiprocess mode, one endpoint shows what all processes shipped, also one that was killed."""
    first = worker(PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    second = worker(PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    assert [first.order("write 0 5"), second.order("write 5 12")] == ["ok", "ok"]
    second.kill()
    assert total(first.scrape(), "costmeter_records_total") == 12
    assert str(tmp_path) in first.order("check")
    assert first.order("write 12 13") == "ok"
    assert total(first.scrape(), "costmeter_records_total") == 13
