"""
`costmeter init` and `costmeter check`: set up, and see that it works.

Invariant: `init` never overwrites; `check` changes nothing but what a sink's own check must open.
"""

from __future__ import annotations

import os
import shutil
import sys
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from livekit_costmeter.cli.options import config_option
from livekit_costmeter.config import DEFAULT_NAME, SECRET_VARIABLE, Config, ConfigError, load

if TYPE_CHECKING:
    from livekit_costmeter.delivery import Pending
    from livekit_costmeter.delivery.files.status import SinkStatus

_LEAST_FREE = 16 << 20
_GB = 10**9
_RETRY = "mend the cause, then: costmeter ship --retry-dead"


@click.command()
@click.argument("path", type=click.Path(dir_okay=False), default=DEFAULT_NAME)
def init(path: str) -> None:
    """Write a commented costmeter.yaml."""
    text = files("livekit_costmeter.config").joinpath("template.yaml").read_text(encoding="utf-8")
    try:
        with Path(path).open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{path}: exists already") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    click.echo(f"wrote {path}; see what it means with: costmeter check", err=True)


@click.command()
@config_option
def check(config_path: str | None) -> None:
    """Check the configuration, the spool, the sinks and the taps.

    Exits with 1 if the spool cannot be written or its disk is full, a sink does not answer, refused records or is owed
    some and not configured, or something in LiveKit cannot be metered.
    """
    config = load(config_path)
    findings = [*_configuration(config), *_spool(config), *_sinks(config), *_deliveries(config), *_taps()]
    width = max(len(topic) for topic, _, _ in findings)
    for topic, good, text in findings:
        mark = click.style("ok  ", fg="green") if good else click.style("FAIL", fg="red")
        click.echo(f"{mark} {topic:<{width}}  {text}")
    if not all(good for _, good, _ in findings):
        sys.exit(1)


Finding = tuple[str, bool, str]


def _configuration(config: Config) -> list[Finding]:
    from livekit_costmeter.config.prices import check_prices, rate_cards
    from livekit_costmeter.config.reconcile import reconcile_settings

    check_prices(config)
    reconcile_settings(config)
    cards = rate_cards(config)
    secret = (
        f"{SECRET_VARIABLE} is set" if os.environ.get(SECRET_VARIABLE) else "a file in the spool, for this host only"
    )
    return [
        ("configuration", True, config.origin),
        ("rate cards", True, ", ".join(card.name for card in cards) or "none"),
        ("plan", True, _plans(config)),
        ("fingerprints", True, secret),
    ]


def _plans(config: Config) -> str:
    if config.settings.billing is None:
        return "none; what the platform's keys paid is billed at cost"
    from livekit_costmeter.config.plans import build_billing

    billing = build_billing(config)
    if billing is None:
        return "none"
    default = billing.plans.get(billing.default)
    texts = ["none by default" if default is None else f"{default.name} ({default.currency})"]
    for account, terms in billing.accounts.items():
        plan = billing.plan_of(account)
        named = "none" if plan is None else f"{plan.name} ({plan.currency})"
        texts.append(f"{account}: {named}{', priority' if terms.priority else ''}")
    return "; ".join(texts)


def _spool(config: Config) -> list[Finding]:
    from livekit_costmeter.delivery import pending

    directory = config.spool_directory
    place = next(path for path in (directory, *directory.parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return [("spool", False, f"{directory}: {place} is no directory that can be written")]
    waiting = pending(directory)
    free = shutil.disk_usage(place).free
    text = f"{directory}: {_owed(waiting)}; {_size(free)} free"
    return [("spool", free >= _LEAST_FREE, text)]


def _owed(waiting: Pending) -> str:
    age = "" if waiting.oldest_age is None else f", the oldest for {waiting.oldest_age:.0f} s"
    return f"{waiting.records} records wait ({waiting.bytes} bytes{age})"


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= _GB else f"{size / 1e6:.0f} MB"


def _deliveries(config: Config) -> list[Finding]:
    from livekit_costmeter.delivery.backlog import pending_by_sink
    from livekit_costmeter.delivery.files.dead import RATING, count_letters
    from livekit_costmeter.delivery.files.status import SinkStatus, read_status

    if not config.spool_directory.is_dir():
        return []
    names = [sink.name for sink in config.sinks]
    letters = count_letters(config.spool_directory)
    status = read_status(config.spool_directory)
    told = status.sinks if status else {}
    findings = []
    for name, waiting in pending_by_sink(config.spool_directory, names).items():
        parts = [_owed(waiting), *_history(told.get(name, SinkStatus()), letters.get(name, 0))]
        if name not in names:
            parts.append(f"not configured; let go of it with: costmeter ship --forget-sink {name}")
        findings.append((f"delivery {name}", name in names and not letters.get(name), "; ".join(parts)))
    if refused := letters.get(RATING, 0):
        findings.append(("rating", False, f"{refused} records in dead/ could not be rated; {_RETRY}"))
    return findings


def _history(sink: SinkStatus, letters: int) -> list[str]:
    success = "never" if sink.last_success is None else _instant(sink.last_success)
    parts = [f"last success {success}", f"{sink.retries} retries"]
    failed_last = sink.last_error_at is not None and sink.last_error_at > (sink.last_success or 0)
    if failed_last and sink.last_error:
        parts[-1] += f" (last: {sink.last_error.splitlines()[0]})"
    parts.append(f"{sink.rejected} rejected")
    if letters:
        parts.append(f"{letters} in dead/; {_RETRY}")
    return parts


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _sinks(config: Config) -> list[Finding]:
    from livekit_costmeter.config.compose import build_sinks

    return [_sink(name, sink) for name, sink in build_sinks(config).items()]


def _sink(name: str, sink: Any) -> Finding:
    try:
        sink.open()
        try:
            return (f"sink {name}", True, sink.check())
        finally:
            sink.close()
    except Exception as error:
        return (f"sink {name}", False, str(error).splitlines()[0] if str(error) else type(error).__name__)


def _taps() -> list[Finding]:
    from importlib.metadata import version

    from livekit_costmeter.metering.hooks.taps import unseen

    missing = unseen()
    text = f"livekit-agents {version('livekit-agents')}"
    return [("metering", not missing, f"{text}: cannot see {', '.join(missing)}" if missing else text)]
