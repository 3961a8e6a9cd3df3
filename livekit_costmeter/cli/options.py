"""
What reading commands have in common: `--config --since --until --format --sink`, and how a ledger is found.

Invariant: times are UTC, a bare date means its midnight, `--until` is exclusive.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import click

from livekit_costmeter.config import Config, ConfigError, load
from livekit_costmeter.records import parse_instant

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Instant(click.ParamType[datetime]):
    """An ISO 8601 instant, or a date."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read the option's text."""
        try:
            return value if isinstance(value, datetime) else parse_instant(value)
        except ValueError:
            self.fail(
                f"{value!r} is not a date or ISO 8601 instant (such as 2026-11-20 or 2026-11-20T18:00Z)", param, ctx
            )


def config_option(command: _Command) -> _Command:
    """Add `--config`."""
    return click.option(
        "--config",
        "config_path",
        type=click.Path(dir_okay=False),
        help="YAML file; default $COSTMETER_CONFIG, ./costmeter.yaml, built-in settings.",
    )(command)


def period_options(command: _Command) -> _Command:
    """Add `--since` and `--until`."""
    command = click.option("--until", type=Instant(), help="Before this instant (exclusive, UTC).")(command)
    return click.option("--since", type=Instant(), help="From this instant on (UTC; a date is its midnight).")(command)


def sink_option(command: _Command) -> _Command:
    """Add `--sink`."""
    return click.option("--sink", "sink_name", help="Read this sink; default: the first readable one.")(command)


def format_option(*formats: str) -> Callable[[_Command], _Command]:
    """Add `--format`; the first of the formats is the default."""
    return click.option("--format", "form", type=click.Choice(formats), default=formats[0], show_default=True)


def open_ledger(config_path: str | None, sink_name: str | None) -> Any:
    """Open the ledger to read: the named sink, or the first readable one.

    Raises:
        ConfigError: There is none, or it cannot be read.
    """
    from livekit_costmeter.config.compose import build_sinks

    config = load(config_path)
    sinks = build_sinks(config)
    if sink_name is not None and sink_name not in sinks:
        raise ConfigError(f"{config.origin}: no sink named {sink_name!r} (there are: {', '.join(sinks)})")
    wanted = [sinks[sink_name]] if sink_name else list(sinks.values())
    readable = next((sink for sink in wanted if getattr(sink, "readable", False)), None)
    if readable is None:
        raise ConfigError(f"{config.origin}: no sink here can be read back (sqlite and jsonl can)")
    return readable


def describe(config: Config) -> str:
    """Say in one line which configuration is used."""
    return f"configuration: {config.origin}"
