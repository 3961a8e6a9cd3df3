"""
`costmeter keys`: fingerprints for the configuration.

Invariant: the key is read from a prompt or standard input, never from an argument, and never printed.
"""

from __future__ import annotations

import os
import sys

import click

from livekit_costmeter.cli.options import config_option
from livekit_costmeter.config import SECRET_VARIABLE, ConfigError, load


@click.group()
def keys() -> None:
    """Name keys without writing them down."""


@keys.command()
@config_option
def fingerprint(config_path: str | None) -> None:
    """Print the fingerprint of a key, for `keys:` in the YAML.

    The key is asked for without echo, or read from standard input.
    """
    from livekit_costmeter.config.compose import deployment_secret
    from livekit_costmeter.metering.attribution import fingerprint as fingerprint_of

    config = load(config_path)
    key = click.prompt("Key", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.read()
    if not key.strip():
        raise ConfigError("no key was given")
    if not os.environ.get(SECRET_VARIABLE):
        where = config.spool_directory / "secret"
        click.echo(
            f"costmeter: {SECRET_VARIABLE} is not set; this fingerprint is good on this host only ({where})", err=True
        )
    click.echo(fingerprint_of(deployment_secret(config)(), key.strip()))
