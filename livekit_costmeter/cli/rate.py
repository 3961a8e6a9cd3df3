"""
`costmeter rate`: the whole pricing path as a pure filter.

Invariant: one charge per line, in input order; a bad line stops everything before the first charge is printed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import click

from livekit_costmeter.cli.options import config_option
from livekit_costmeter.config import ConfigError, load
from livekit_costmeter.records import InvalidRecord, UsageRecord, charge_json, parse_usage


@click.command()
@click.argument("file", type=click.Path(dir_okay=False), required=False)
@config_option
@click.option("--strict", is_flag=True, help="Exit with 1 if a unit could not be priced.")
def rate(file: str | None, config_path: str | None, strict: bool) -> None:
    """Price usage records.

    Reads UsageRecords as JSON lines from FILE or standard input, prints one charge per line.
    """
    from livekit_costmeter.config.compose import build_book
    from livekit_costmeter.pricing import rate as rate_record

    book = build_book(load(config_path))
    unpriced = 0
    out = sys.stdout.buffer
    for record in _records(file):
        for charge in rate_record(record, book):
            unpriced += charge.cost is None
            out.write(charge_json(charge) + b"\n")
    out.flush()
    if unpriced:
        click.echo(f"costmeter: {unpriced} lines unpriced", err=True)
    if strict and unpriced:
        sys.exit(1)


def _records(file: str | None) -> list[UsageRecord]:
    if file in (None, "-"):
        return list(_parsed("standard input", sys.stdin.buffer))
    try:
        with Path(str(file)).open("rb") as stream:
            return list(_parsed(str(file), stream))
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None


def _parsed(name: str, stream: IO[bytes]) -> Iterator[UsageRecord]:
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            yield parse_usage(line)
        except InvalidRecord as error:
            raise ConfigError(f"{name}:{number}: {error}") from None
